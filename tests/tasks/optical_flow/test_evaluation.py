"""Optical flow on whole images: metrics against NumPy, figures, submissions."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.data.flow.files import Flow, read_flow
from perceiver_io.data.flow.motorcycle import motorcycle
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.pipeline.mixture import Mixture
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build
from perceiver_io.runtime import configuration, setup
from perceiver_io.tasks.optical_flow import evaluation
from perceiver_io.tasks.optical_flow.colors import flow_colors
from perceiver_io.tasks.optical_flow.evaluation import WholeImages
from perceiver_io.tasks.optical_flow.task import OpticalFlow
from perceiver_io.tasks.optical_flow.tiling import TiledFlow
from perceiver_io.training.parallel import Mesh, Pmap
from tests.helpers import experiments, oracles
from tests.helpers import flow_layouts as layouts
from tests.helpers.predictions import FLOW

pytestmark = pytest.mark.usefixtures("for_cpu")

# The sides of FLOW's tiles are 16 and 24 pixels: less than twice the default overlap.
OVERLAP = 8
SIZES = ((6, 8), (20, 61))


@dataclasses.dataclass(frozen=True)
class InMemory(Source):
    """Given pairs."""

    pairs: tuple

    splits: ClassVar[tuple[str, ...]] = ("test",)

    def __call__(self, split):
        return self.pairs


def in_memory(*pairs):
    return layouts.dataset(InMemory, pairs=pairs)


def pair(name, size, flow, valid=True):
    frame = np.zeros((*size, 3), np.uint8)
    flow = np.broadcast_to(np.float32(flow), (*size, 2))
    return FlowPair(frame, frame, Flow(flow, np.full(size, valid)), None, None, name)


def still(params, state, rng, *, inputs, is_training):
    """A model that predicts no motion."""
    return jnp.zeros((len(inputs), *inputs.shape[2:4], 2)), state


STILL = (Architecture(still, still, still, still), {}, {})


TASK = OpticalFlow("end_point")


def images(dataset, split, *, task=TASK, **settings):
    settings = dict(tile_size=FLOW["image_size"], batch_size=8, overlap=None) | settings
    return WholeImages(task, dataset, split, **settings)


def evaluate(dataset, split, trained, **settings):
    """Metrics and figures, with everything on the first device."""
    return images(dataset, split, **settings)(*trained, Mesh(fsdp=1))


def measured(*pairs):
    return evaluate(in_memory(*pairs), "test", STILL)


@pytest.fixture(scope="module")
def trained():
    """A small model with random weights."""
    model = build(FLOW)
    return model, *oracles.random_params_and_state(model.init, **model.input_spec)


def kitti(root):
    """Two pairs of different sizes, with and without ground truth."""
    dataset = layouts.kitti(root)
    for part in ("training", "testing"):
        for path in (root / part).rglob("000001_1*.png"):
            layouts.save(root, str(path.relative_to(root)), SIZES[1])
    return dataset


def measures_in_numpy(pairs, flows):
    """The metrics over all pixels of all pairs, in float64."""
    error, speed, occluded, of_pairs = [], [], [], []
    for one, flow in zip(pairs, flows, strict=True):
        known = one.flow.valid
        error.append(np.linalg.norm((flow - one.flow.flow).astype(np.float64), axis=-1)[known])
        speed.append(np.linalg.norm(one.flow.flow.astype(np.float64), axis=-1)[known])
        occluded.append(one.occluded[known])
        of_pairs.append(error[-1].mean())
    error, speed, occluded = map(np.concatenate, (error, speed, occluded))
    result = {
        "loss": error.mean() / 20,
        "epe": error.mean(),
        "epe_per_pair": np.mean(of_pairs),
        "fl_all": ((error > 3) & (error > 0.05 * speed)).mean(),
        "epe_matched": error[~occluded].mean(),
        "epe_unmatched": error[occluded].mean(),
        "epe_s0_10": error[speed < 10].mean(),
        "epe_s10_40": error[(speed >= 10) & (speed < 40)].mean(),
    }
    return result | {f"{limit}px": (error > limit).mean() for limit in (1, 3, 5)}


@pytest.mark.parametrize(("batch_size", "overlap"), [(1, None), (20, 3)])
def test_measures_of_pairs_of_different_sizes(tmp_path, trained, batch_size, overlap):
    dataset = kitti(tmp_path)
    pairs = list(dataset.source("train"))
    assert tuple(one.size for one in pairs) == SIZES
    flow_between = TiledFlow(
        *trained,
        tile_size=FLOW["image_size"],
        batch_size=3,
        overlap=OVERLAP if overlap is None else overlap,
    )
    expected = measures_in_numpy(pairs, [flow_between(*one[:2]) for one in pairs])
    result = evaluate(dataset, "train", trained, batch_size=batch_size, overlap=overlap)
    assert result.metrics == pytest.approx(expected, rel=1e-4)
    assert expected["epe"] != pytest.approx(expected["epe_per_pair"], rel=1e-3)
    assert result.figures.keys() == {"examples"}


def test_training_and_evaluation_measure_whole_images_and_crops():
    """Crops have the size of the model's frames, whatever another config's data are."""
    config = experiments.shrink(experiments.load("optical_flow", "small"))
    config.data = experiments.load("optical_flow", "motorcycle").data
    config.evaluation.splits = ("test",)
    config = configuration.overridden(config, ["--config.task.overlap=3"])
    evaluators = setup.build_task(config).evaluators(config)
    crops, whole = evaluators["test"], evaluators["test_whole"]
    assert evaluators.keys() == {"test", "test_whole"}
    assert (whole.tile_size, whole.overlap) == ((16, 16), 3)
    assert crops.dataset.preparation.image_size == (16, 16)
    model = build(config.model)
    assert whole.metric_names(model) == crops.metric_names(model)
    assert {"loss", "epe", "3px", "epe_s40"} <= set(whole.metric_names(model))


def test_the_best_checkpoint_is_chosen_by_whole_images():
    config = configuration.overridden(experiments.load("optical_flow", "small"))
    assert config.checkpoint.best_metric == "validation_whole/epe"
    # As in a run from before whole images were evaluated in training.
    for best in ("validation_whole/epe_unmatched", "validation/epe"):
        config.checkpoint.best_metric = best
        setup.check_training(config, setup.build_parts(config))
    config.checkpoint.best_metric = "validation/epe_unmatched"
    with pytest.raises(UserError, match="best_metric is 'validation/epe_unmatched'"):
        setup.check_training(config, setup.build_parts(config))


def test_matched_pixels_are_measured_if_a_part_of_a_mixture_has_occlusions():
    plain = pair("plain", (4, 5), (1, 0))
    known = plain._replace(occluded=np.zeros((4, 5), bool))
    for parts, expected in (
        ([[plain], [known]], True),
        ([[plain], [plain]], False),
        ([[known, plain]], True),
    ):
        sources = {str(i): InMemory(tuple(part)) for i, part in enumerate(parts)}
        mixed = Mixture(sources, dict.fromkeys(sources, 1), "config.data")
        dataset = dataclasses.replace(in_memory(), source=mixed)
        names = images(dataset, "test").metric_names(STILL[0])
        assert ("epe_matched" in names, "epe_unmatched" in names) == (expected, expected)


def test_processes_sum_their_metrics(monkeypatch):
    sent = []

    def gather(own):
        """What a process receives once it and all earlier processes have sent their sums."""
        sent.append(own)
        return np.stack(sent)

    monkeypatch.setattr(evaluation.multihost_utils, "process_allgather", gather)
    names = ["epe", "epe_matched", "epe_unmatched"]
    first = {"epe_matched": np.array([1.0, 2]), "epe": np.array([3.0, 4])}
    second = {"epe": np.array([10.0, 20]), "epe_unmatched": np.array([30.0, 40])}
    evaluation._over_processes(first, names)
    total = evaluation._over_processes(second, names)
    expected = {"epe": [13, 24], "epe_matched": [1, 2], "epe_unmatched": [30, 40]}
    assert {name: list(value) for name, value in total.items()} == expected


def test_known_pixels_count_equally_and_unknown_ones_are_ignored():
    fast = pair("fast", (4, 5), (60, 80))
    unknown = pair("unknown", (40, 50), np.nan, valid=False)
    metrics = measured(pair("slow", (10, 6), (0, 3)), unknown, fast).metrics
    assert metrics["epe"] == pytest.approx((60 * 3 + 20 * 100) / 80)
    assert metrics["epe_per_pair"] == pytest.approx((3 + 100) / 2)
    assert metrics["epe_s40"] == pytest.approx(100)
    assert "epe_s10_40" not in metrics and "epe_matched" not in metrics


def titles(figure):
    return [axes.get_title() for axes in figure.axes if axes.get_title().startswith("error")]


def names(figure):
    return [axes.get_ylabel() for axes in figure.axes if axes.get_title() == "first frame"]


def test_figures_have_the_key_to_their_colours():
    figure = measured(pair("a", (4, 4), (3, 0))).figures["examples"]
    (true,) = [axes for axes in figure.axes if axes.get_title().startswith("true flow")]
    assert true.get_title() == "true flow, rim of the key: 3 px"
    ((wheel,),) = [axes.images for axes in true.child_axes]
    # Half way to the right, the colour of flow half as long as the rim.
    side = len(wheel.get_array())
    np.testing.assert_allclose(
        wheel.get_array()[side // 2, 3 * side // 4],
        flow_colors(np.array([[[1.5, 0]]]), 3.0)[0, 0],
        atol=3,
    )


def test_figures_show_the_first_and_the_worst_pairs():
    lengths = {"a": 1, "b": 7, "c": 2, "d": 3, "e": 9, "f": 4}
    figures = measured(*(pair(name, (4, 4 + i), (i, 0)) for name, i in lengths.items())).figures
    assert names(figures["examples"]) == list("abcd")
    assert names(figures["worst"]) == list("ebfd")
    errors = [f"error, {lengths[name]}.00 px on average" for name in "ebfd"]
    assert titles(figures["worst"]) == errors


def test_one_pair_is_shown_once():
    figures = measured(pair("only", (4, 5), (1, 0))).figures
    assert figures.keys() == {"examples"} and names(figures["examples"]) == ["only"]


def test_sintel_by_rendering_occlusion_and_speed(tmp_path, trained):
    result = {}
    for rendering in ("clean", "final"):
        dataset = layouts.sintel(tmp_path, rendering)
        result[rendering] = evaluate(dataset, "train", trained).metrics
        assert {"epe", "epe_matched", "epe_unmatched", "epe_s0_10"} <= result[rendering].keys()
    assert result["clean"]["epe"] != result["final"]["epe"]
    known = np.stack([one.flow.valid for one in dataset.source("train")])
    hidden = np.stack([one.occluded for one in dataset.source("train")])[known].mean()
    for values in result.values():
        both = (1 - hidden) * values["epe_matched"] + hidden * values["epe_unmatched"]
        assert values["epe"] == pytest.approx(both, rel=1e-5)


def test_parameters_of_replicas(tmp_path, trained):
    model, *weights = trained
    dataset = layouts.middlebury(tmp_path)
    expected = evaluate(dataset, "train", trained).metrics
    replicas = Pmap().adopt(jax.device_put(tuple(weights)))
    result = images(dataset, "train")(model, *replicas, Pmap())
    assert result.metrics == pytest.approx(expected)


def test_the_motorcycle():
    dataset = motorcycle(
        num_workers=0, image_size=(9, 9), plain_examples=0, growth_examples=0, augmentation=None
    )
    metrics = evaluate(dataset, "test", STILL, tile_size=(368, 496)).metrics
    (one,) = dataset.source("test")
    disparities = -one.flow.flow[..., 0][one.flow.valid].astype(np.float64)
    assert metrics["epe"] == pytest.approx(disparities.mean(), rel=1e-5)
    assert metrics["epe_s40"] == pytest.approx(disparities[disparities >= 40].mean(), rel=1e-5)
    assert metrics["fl_all"] == 1


@pytest.mark.parametrize(
    ("build_dataset", "files"),
    [
        (
            layouts.sintel,
            [f"clean/{s}/frame_000{i}.flo" for s in ("alley_1", "bamboo_2") for i in (1, 2)],
        ),
        (kitti, ["flow/000000_10.png", "flow/000001_10.png"]),
        (lambda root: layouts.kitti(root, 2012, "colored_0"), ["000000_10.png", "000001_10.png"]),
    ],
)
def test_a_submission(tmp_path, trained, build_dataset, files):
    dataset = build_dataset(tmp_path / "data")
    folder = tmp_path / "submission"
    assert images(dataset, "test").submit(*trained, Mesh(fsdp=1), folder) == len(files)
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == sorted(files)
    flow_between = TiledFlow(*trained, tile_size=FLOW["image_size"], batch_size=1, overlap=OVERLAP)
    for one, file in zip(dataset.source("test"), files, strict=True):
        written = read_flow(folder / file)
        expected = flow_between(*one[:2])
        assert written.valid.all() and written.flow.shape == (*one.size, 2)
        exact = 1e-4 if file.endswith(".flo") else 1 / 128 + 1e-4
        np.testing.assert_allclose(written.flow, expected, atol=exact, rtol=1e-5)


@pytest.mark.parametrize("build_dataset", [layouts.sintel, layouts.kitti, layouts.middlebury])
def test_ground_truth_that_is_not_published(tmp_path, build_dataset):
    message = "truth of the split 'test' of .* is not published.*of train.*--submission=DIR"
    with pytest.raises(UserError, match=message):
        evaluate(build_dataset(tmp_path), "test", STILL)
    with pytest.raises(UserError, match=message):
        images(build_dataset(tmp_path), "test").metric_names(STILL[0])


def test_splits_that_cannot_be_submitted(tmp_path):
    folder = tmp_path / "submission"
    with pytest.raises(UserError, match="of the split 'train' of Sintel is known.*--split=test"):
        images(layouts.sintel(tmp_path), "train").submit(*STILL, Mesh(fsdp=1), folder)
    with pytest.raises(UserError, match="is for Sintel and KITTI, .* dataset is Middlebury"):
        images(layouts.middlebury(tmp_path), "test").submit(*STILL, Mesh(fsdp=1), folder)
    assert not folder.exists()


def test_missing_data(tmp_path):
    sintel = layouts.sintel(tmp_path)
    with pytest.raises(UserError, match="Sintel has no split 'validation'; choose one of 'train'"):
        evaluate(sintel, "validation", STILL)
    (tmp_path / "training/flow/bamboo_2/frame_0002.flo").unlink()
    with pytest.raises(UserError, match="There is no .*bamboo_2/frame_0002.flo. Download MPI-Sin"):
        evaluate(sintel, "train", STILL)
    with pytest.raises(UserError, match="There is no .*elsewhere.*Download"):
        moved = dataclasses.replace(
            sintel, source=dataclasses.replace(sintel.source, root=str(tmp_path / "elsewhere"))
        )
        evaluate(moved, "train", STILL)
    with pytest.raises(UserError, match="'test' of InMemory has no examples"):
        evaluate(in_memory(), "test", STILL)


def test_an_overlap_that_does_not_fit():
    with pytest.raises(UserError, match="overlap=16 pixels must be .* a tile of 16x24"):
        evaluate(in_memory(pair("a", (4, 5), (1, 0))), "test", STILL, overlap=16)
