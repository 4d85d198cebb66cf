"""The optical flow scripts: classical methods, metrics, and forms of the training step."""

import sys

import jax
import numpy as np
import pytest

from configs.optical_flow import AUGMENTATION
from perceiver_io.data.flow.files import Flow
from perceiver_io.runtime import configuration, setup
from perceiver_io.tasks.optical_flow.task import OpticalFlow
from scripts import _flow_comparison as comparison
from tests.helpers import experiments, flow_scenes
from tests.helpers.programs import finish
from tests.helpers.runs import new_state, write_run


def moved(right, down):
    return flow_scenes.scene(np.array([[1, 0, right], [0, 1, down], [0, 0, 1.0]]))


def without(pair, unknown):
    """A pair whose flow is partly unknown."""
    flow = np.where(unknown[..., None], 0, pair.flow.flow)
    return pair._replace(flow=Flow(flow, ~unknown))


SETTINGS = [setting for name in ("Farneback", "DIS") for setting in comparison.CLASSICAL[name]]


@pytest.mark.parametrize("method", SETTINGS)
def test_classical_methods_find_a_shift(method):
    pair = moved(2.6, -1.4)
    found = method(pair.first, pair.second)
    error = np.hypot(*np.moveaxis(found - pair.flow.flow, -1, 0))[10:-10, 10:-10]
    assert error.mean() < 0.3


@pytest.mark.slow
def test_the_settings_that_do_best_on_all_pairs_are_used():
    def constant(right):
        return lambda first, second: np.full((*first.shape[:2], 2), (right, 0), np.float32)

    pairs = [moved(2, 0), moved(4, 0), moved(7, 0)]
    settings = (constant(2), constant(4), constant(8))
    found = comparison.apply(OpticalFlow("l1"), {"constant": settings}, pairs)
    assert [one.flows["constant"][0, 0, 0] for one in found] == [4, 4, 4]


def test_errors_of_no_motion_equal_the_speed():
    slow, fast = moved(0.6, 0.8), moved(-3, 4)
    unknown = np.zeros(fast.size, bool)
    unknown[: fast.size[0] // 2] = True
    task = OpticalFlow("l1")
    pairs = comparison.apply(task, comparison.CLASSICAL, [slow, without(fast, unknown)])
    values = comparison.measure(task, pairs, "no motion")
    # Averaged over pixels, not pairs: the second pair has half as many.
    assert values["epe"] == pytest.approx((2 * 1 + 5) / 3, rel=1e-5)
    assert values["3px"] == values["fl_all"] == pytest.approx(1 / 3)
    assert comparison.longest([slow]) == pytest.approx(1)


def test_a_reduced_pair_moves_like_the_original():
    pair = comparison.reduced(moved(8, -12), 4)
    assert pair.size == (30, 40)
    np.testing.assert_allclose(pair.flow.flow, np.broadcast_to([2, -3], (30, 40, 2)), atol=1e-5)
    # A whole number of pixels after reduction: the frames agree except at the edges.
    np.testing.assert_array_equal(pair.second[:-3, 2:], pair.first[3:, :-2])


def test_a_reduced_pair_knows_flow_where_half_of_it_was_known():
    pair = moved(8, -12)
    unknown = np.zeros(pair.size, bool)
    unknown[:4, :2] = True  # half of the first pixel
    unknown[:4, 4:8] = True  # the second one
    unknown[:4, 8:11] = True  # most of the third one
    small = comparison.reduced(without(pair, unknown), 4)
    assert small.flow.valid[0, :4].tolist() == [True, False, False, True]
    assert small.flow.valid[1:].all()
    np.testing.assert_allclose(small.flow.flow[0, 0], [2, -3], atol=1e-5)
    assert np.isfinite(small.flow.flow).all()


def shrunk(preset):
    config = experiments.shrink(experiments.load("optical_flow", preset))
    config.training.batch_size = jax.device_count()
    return configuration.overridden(config)


@pytest.fixture
def run_folder(tmp_path):
    """A run with random weights, on small procedural pairs."""
    config = shrunk("small")
    config.model.image_size = config.data.image_size = (64, 64)  # Fewer tiles for the motorcycle.
    write_run(tmp_path, config, [new_state(setup.build_parts(config))])
    return tmp_path


@pytest.mark.slow
def test_a_run_is_compared(run_folder, start):
    program = [sys.executable, "-m", "scripts.compare_flow", f"--workdir={run_folder}"]
    lines = finish(start([*program, "--pairs=2"])).splitlines()
    assert sum(line.startswith("this model") for line in lines) == 3
    assert any(line.startswith("2 pairs of procedural_flow, test") for line in lines)
    # The mean true flow of the motorcycle, 34.3 pixels.
    whole = next(i for i, line in enumerate(lines) if line.startswith("motorcycle (500x741 "))
    assert lines[whole + 2].split()[2:4] == ["34.342", "100.00%"]
    pictures = sorted(path.name for path in (run_folder / "comparison" / "7").iterdir())
    assert pictures == ["motorcycle.png", "pairs.png"]


@pytest.mark.slow
def test_the_benchmark_prints_every_line(start):
    program = [sys.executable, "-m", "scripts.benchmark_flow"]
    settings = {
        "config": "configs/optical_flow.py:small",
        "batches": 1,
        "workers": 1,
        "steps": 1,
        "threads": 1,
        "config.model.image_size": (16, 24),
        "config.model.encoder.num_latents": 8,
        "config.model.encoder.latent_dim": 16,
        "config.model.encoder.latent_stack.num_layers": 1,
        "config.data.frame_size": (32, 40),
        "config.data.augmentation": AUGMENTATION,
    }
    out = finish(start([*program, *(f"--{key}={value}" for key, value in settings.items())]))
    batches = ("training batches, in process", "training batches, 1 worker(s)")
    for line in ("whole pairs", "augmentation alone", *batches):
        assert float(out.split(f"\n{line} ")[1].split()[1]) > 0
    for form in ("plain", "as configured"):
        assert "GFLOP/s" in out.split(f"\n{form} ")[1].split("\n")[0]
