"""Plans for a slice, here of the devices that there are."""

import jax
import pytest
from ml_collections import ConfigDict

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration
from perceiver_io.runtime.plan import machines, planning, report
from perceiver_io.runtime.plan.machines import Machine, Rates, Slice
from perceiver_io.runtime.plan.planning import Plan, Settings
from perceiver_io.runtime.plan.program import Collective, Kernel

MACHINE = Machine("cpu", 1e9, 2e12, Rates(1e12, 5e11, 1e11, 1e-9), 1e10, 1e9)


def config(**training):
    """Handwritten digits, with a small model."""
    model = dict(
        name="convnet_classifier",
        num_classes=10,
        widths=(256,),
        image_size=(8, 8),
        image_channels=1,
    )
    settings = {"batch_size": 16} | training
    overrides = [f"--config.training.{name}={value}" for name, value in settings.items()]
    return configuration.load("configs/quickstart.py", [f"--config.model={model}", *overrides])


def slice_of(memory):
    """All devices, with so much memory each."""
    return Slice("cpu:8", MACHINE._replace(memory=memory), jax.devices())


def plan_of(seconds=None, memory=5, remat=None):
    """A plan that was made up."""
    return Plan(
        Settings(1, remat, 2),
        {"parameters": 1, "optimizer": 2, "batch": 3, "temporary": memory},
        10,
        1000,
        [Kernel("fusion", "a", 3, 200, 0, True, 0), Kernel("dot", "b", 1, 1, 10**12, True, 0)],
        [Collective("all-reduce", 2, 10**9), Collective("all-gather", 1, 10**9)],
        seconds,
        0.5,
    )


@pytest.mark.slow
def test_the_own_settings_are_used_if_they_fit():
    (plan,) = planning.search(config(), slice_of(1e9))
    assert plan.settings == Settings(1, None, 1) and plan.fits
    weights = 3 * 3 * 256 + 256 + 256 * 10 + 10
    assert plan.memory["parameters"] >= 4 * weights
    assert plan.memory["optimizer"] >= 2 * plan.memory["parameters"]
    # The gradients are added up over the devices.
    sent = {entry.name: entry.amount for entry in report.sent(plan)}
    assert sent["all-reduce"] >= plan.memory["parameters"]
    assert plan.flops > 0 and plan.kernels and plan.seconds > plan.least_seconds


@pytest.mark.slow
def test_shards_and_microbatches_need_less_memory():
    # The batch divides into so many microbatches only.
    limited = config(batch_size=2 * jax.device_count())
    shards = jax.device_count()
    whole, sharded, halved = (
        planning.plan(limited, Settings(fsdp, None, accumulate), slice_of(1))
        for fsdp, accumulate in ((1, 1), (shards, 1), (1, 2))
    )
    assert sharded.memory["parameters"] < whole.memory["parameters"]
    assert halved.memory["batch"] == whole.memory["batch"]
    assert halved.memory["temporary"] < whole.memory["temporary"]
    found = list(planning.search(limited, slice_of(sharded.used)))
    assert [plan.settings for plan in found] == [whole.settings, sharded.settings]
    assert [plan.fits for plan in found] == [False, True]
    nothing = list(planning.search(limited, slice_of(1)))
    assert [plan.settings for plan in nothing] == [whole.settings, halved.settings]


def tried(monkeypatch, state, temporary, limit=100, batch_size=4096):
    """The settings that a search tries, with made-up sizes of state and temporary arrays."""

    def plan(config, settings, slice_):
        share = 1 / settings.fsdp
        memory = {"parameters": state * share, "optimizer": state * share}
        memory |= {"average and statistics": 0, "batch": 0}
        memory["temporary"] = temporary(settings) + state * share
        return plan_of()._replace(settings=settings, memory=memory, limit=limit)

    monkeypatch.setattr(planning, "plan", plan)
    cluster = Slice("v5e:16x16", MACHINE, [None] * 256)
    section = configuration.load("configs/masked_lm.py:bytes")
    section.training.batch_size = batch_size
    found = planning.search(section, cluster)
    return [tuple(plan.settings) for plan in found]


def test_what_costs_least_time_is_tried_first(monkeypatch):
    kept = {"none": 3, "products": 2, "all": 1}
    own = (1, "products", 1)

    def activations(size):
        return lambda settings: size * kept[settings.remat] / settings.accumulate

    assert tried(monkeypatch, 1, activations(1)) == [own]
    # Shards of a small state would not help.
    few = [own, (1, "none", 1), (1, "all", 1), (1, "all", 2)]
    assert tried(monkeypatch, 1, activations(110)) == few
    assert tried(monkeypatch, 1, activations(500)) == [*few, (1, "all", 4), (1, "all", 8)]
    # Those of a large one do.
    assert tried(monkeypatch, 40, activations(5)) == [
        own,
        (1, "none", 1),
        (1, "all", 1),
        (8, "none", 1),
    ]
    assert tried(monkeypatch, 1000, activations(1))[-1] == (256, "none", 1)


def test_a_batch_that_does_not_divide():
    with pytest.raises(UserError, match="batch_size is 12, which does not divide evenly over 8"):
        next(planning.search(config(batch_size=12), Slice("h100:1x1x8", MACHINE, [None] * 8)))


def test_remat_is_found_and_set_wherever_it_is():
    section = ConfigDict({"encoder": {"latent_stack": {"remat": "products"}}, "name": "x"})
    assert planning._remat(section) == "products"
    planning._set_remat(section, "all")
    assert section.encoder.latent_stack.remat == "all"
    assert planning._remat(ConfigDict({"name": "x"})) is None


def test_estimated_seconds():
    plan = plan_of()
    # Traffic, then products; an all-reduce is sent twice.
    seconds = 3 * (1e-9 + 200 / 1e11) + 1 + (2 * 2 + 1) * 1e9 / 1e10
    estimate = planning.estimated_seconds(plan.kernels, plan.collectives, MACHINE)
    assert estimate == pytest.approx(seconds)
    assert planning.kernel_seconds(Kernel("copy", "c", 1, 9, 9, True, 500), MACHINE) == 5e-7
    # In float32, products take twice as long.
    single = planning.kernel_seconds(Kernel("dot", "d", 1, 9, 10**12, False, 0), MACHINE)
    assert single == pytest.approx(2)


@pytest.mark.parametrize(
    "message, needed",
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (48.25G) exceeds available HBM (15.75G).",
            48.25 * 2**30,
        ),
        ("RESOURCE_EXHAUSTED: Used 512.0M of 256.0M hbm.", 2**29),
    ],
)
def test_memory_that_a_program_would_need(message, needed):
    assert planning._needed(jax.errors.JaxRuntimeError(message)) == needed


def test_other_errors_of_the_compiler_are_raised():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        planning._needed(jax.errors.JaxRuntimeError("INTERNAL: failed"))


def test_a_table_shows_each_plan_and_what_the_last_one_takes():
    slice_ = slice_of(10)
    table = report.as_table([plan_of(memory=9), plan_of(seconds=2.0, memory=1)], slice_, 16)
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert rows[2].split("|")[9:12] == [" no ", "  ", "  "]
    assert rows[3].split("|")[9:14] == [" yes ", " 3.00 ", " 2000.0 ", " 0.50 ", " 25% "]
    assert "--config.training.accumulate=2" in table
    assert "| all-reduce | 2 | 2.000 |" in rows and "| b | 1 | 1000.00 |" in rows
    assert "Nothing fits: the last one needs" in report.as_table([plan_of(memory=9)], slice_, 16)
    assert report.as_json([plan_of()], slice_)["plans"][0]["memory"]["temporary"] == 5
    assert len(report.draw([plan_of(memory=9), plan_of()], slice_).axes) == 2


@pytest.mark.parametrize(
    "name, message",
    [
        ("v5:2x2", r"there is no 'v5' .*did you mean 'v5"),
        ("h200", "there is no 'h200'"),
        ("v5e", "needs a shape"),
        ("v5e:axb", "needs a shape"),
    ],
)
def test_slices_that_do_not_exist(name, message):
    with pytest.raises(UserError, match=message):
        machines.open_slice(name)


def test_a_compiler_that_is_missing(monkeypatch):
    monkeypatch.setattr(machines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"the package libtpu: `pip install -e '.\[tpu\]'`"):
        machines.open_slice("v5e:4x4")
