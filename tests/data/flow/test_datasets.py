"""Optical flow datasets, in miniature folders with the layouts of their publishers."""

import pickle

import numpy as np
import pytest

from perceiver_io.data.flow.autoflow import AutoFlow
from perceiver_io.data.flow.motorcycle import Motorcycle
from tests.helpers import flow_layouts as layouts
from tests.helpers.flow_layouts import flow_of, frame_of, mask_of


def names(dataset, split):
    return [pair.name for pair in dataset.source(split)]


def assert_frames(pair, first, second):
    np.testing.assert_array_equal(pair.first, frame_of(first))
    np.testing.assert_array_equal(pair.second, frame_of(second))


def assert_flow(flow, expected, valid=None):
    """The expected flow, which is 0 where it is not valid."""
    valid = expected.valid if valid is None else valid
    np.testing.assert_array_equal(flow.valid, valid)
    np.testing.assert_array_equal(flow.flow, np.where(valid[..., None], expected.flow, 0))
    assert flow.flow.dtype == np.float32 and flow.valid.dtype == bool


def assert_unknown(pair):
    assert pair.flow.flow.shape == (*pair.size, 2) and not pair.flow.flow.any()
    assert pair.flow.valid.shape == pair.size and not pair.flow.valid.any()
    assert pair.backward is None and pair.occluded is None


def test_autoflow(tmp_path):
    dataset = layouts.autoflow(tmp_path)
    (tmp_path / "static_40k_png_1_of_4" / ".hidden").mkdir()
    (tmp_path / "static_40k_png_1_of_4" / "__MACOSX").mkdir()
    (tmp_path / "downloads").mkdir()
    folders = ["static_40k_png_1_of_4/table_3_batch_7", "static_40k_png_2_of_4/table_5_batch_7"]
    assert names(dataset, "train") == folders
    assert len(dataset.source("validation")) == 0
    pair = dataset.source("train")[1]
    assert_frames(pair, f"{folders[1]}/im0.png", f"{folders[1]}/im1.png")
    assert_flow(pair.flow, flow_of(f"{folders[1]}/forward.flo"))
    assert pair.backward is None and pair.occluded is None


def autoflow_members(root, part, numbers, share):
    """The pairs of each split, by the last part of the name; files are not opened."""
    for number in numbers:
        (root / part / f"table_{number}_batch_0").mkdir(parents=True)
    dataset = layouts.dataset(AutoFlow, root=str(root), validation_share=share)
    return [
        {name.split("/")[1] for name in dataset.source(split)._names}
        for split in ("train", "validation")
    ]


def test_the_validation_share_of_autoflow_depends_on_names_alone(tmp_path):
    train, held_out = autoflow_members(tmp_path / "all", "static_40k_png_1_of_4", range(400), 0.25)
    assert len(train) + len(held_out) == 400 and not train & held_out
    assert 70 < len(held_out) < 130
    some, some_held_out = autoflow_members(tmp_path / "some", "static_x", range(0, 400, 3), 0.25)
    assert some <= train and some_held_out <= held_out
    _, fewer = autoflow_members(tmp_path / "fewer", "static_x", range(400), 0.1)
    assert fewer < held_out


@pytest.mark.parametrize("rendering", ["clean", "final"])
def test_sintel(tmp_path, rendering):
    dataset = layouts.sintel(tmp_path, rendering)
    expected = [f"{x}/frame_000{i}" for x in ("alley_1", "bamboo_2") for i in (1, 2)]
    assert names(dataset, "train") == expected
    pair = dataset.source("train")[3]
    folder = f"training/{rendering}/bamboo_2"
    assert_frames(pair, f"{folder}/frame_0002.png", f"{folder}/frame_0003.png")
    invalid = mask_of("training/invalid/bamboo_2/frame_0002.png")
    assert_flow(pair.flow, flow_of("training/flow/bamboo_2/frame_0002.flo"), ~invalid)
    occluded = mask_of("training/occlusions/bamboo_2/frame_0002.png")
    np.testing.assert_array_equal(pair.occluded, occluded)
    assert pair.backward is None


def test_sintel_frame_numbers_beyond_nine(tmp_path):
    dataset = layouts.sintel(tmp_path)
    for number in range(4, 12):
        layouts.save(tmp_path, f"test/clean/alley_1/frame_{number:04d}.png")
    assert names(dataset, "test")[8:11] == [
        "alley_1/frame_0009",
        "alley_1/frame_0010",
        "bamboo_2/frame_0001",
    ]
    folder = "test/clean/alley_1"
    pair = dataset.source("test")[8]
    assert_frames(pair, f"{folder}/frame_0009.png", f"{folder}/frame_0010.png")
    assert_unknown(pair)


@pytest.mark.parametrize(
    "year, frames", [(2015, "image_2"), (2012, "colored_0"), (2012, "image_0")]
)
def test_kitti(tmp_path, year, frames):
    dataset = layouts.kitti(tmp_path, year, frames)
    assert names(dataset, "train") == names(dataset, "test") == ["000000_10", "000001_10"]
    pair = dataset.source("train")[1]
    folder = f"training/{frames}"
    assert_frames(pair, f"{folder}/000001_10.png", f"{folder}/000001_11.png")
    everywhere = flow_of("training/flow_occ/000001_10.png")
    visible = flow_of("training/flow_noc/000001_10.png")
    assert_flow(pair.flow, everywhere)
    np.testing.assert_array_equal(pair.occluded, everywhere.valid & ~visible.valid)
    assert pair.occluded.any() and pair.backward is None
    pair = dataset.source("test")[0]
    assert_frames(pair, f"testing/{frames}/000000_10.png", f"testing/{frames}/000000_11.png")
    assert_unknown(pair)


def test_kitti_2012_prefers_colour(tmp_path):
    layouts.kitti(tmp_path, 2012, "image_0")
    pair = layouts.kitti(tmp_path, 2012, "colored_0").source("train")[0]
    folder = "training/colored_0"
    assert_frames(pair, f"{folder}/000000_10.png", f"{folder}/000000_11.png")


def test_flying_chairs(tmp_path):
    dataset = layouts.chairs(tmp_path)
    assert names(dataset, "train") == ["00001", "00003"]
    assert names(dataset, "validation") == ["00002"]
    pair = dataset.source("train")[1]
    assert_frames(pair, "data/00003_img1.ppm", "data/00003_img2.ppm")
    assert_flow(pair.flow, flow_of("data/00003_flow.flo"))
    assert pair.backward is None and pair.occluded is None


def test_without_the_split_file_all_chairs_are_for_training(tmp_path):
    assert names(layouts.chairs(tmp_path, labels=""), "train") == ["00001", "00002", "00003"]


def test_a_subset_of_chairs_keeps_its_splits(tmp_path):
    dataset = layouts.chairs(tmp_path)
    for path in (tmp_path / "data").glob("00001*"):
        path.unlink()
    assert names(dataset, "train") == ["00003"]
    assert names(dataset, "validation") == ["00002"]


@pytest.mark.parametrize("rendering", ["clean", "final"])
def test_flying_things(tmp_path, rendering):
    dataset = layouts.things(tmp_path, rendering=rendering)
    expected = [
        f"{scene}/{camera}/000{i}"
        for scene in ("A/0000", "B/0001")
        for camera in ("left", "right")
        for i in (6, 7)
    ]
    assert names(dataset, "train") == expected
    pair = dataset.source("train")[7]
    folder = f"frames_{rendering}pass/TRAIN/B/0001/right"
    assert_frames(pair, f"{folder}/0007.png", f"{folder}/0008.png")
    flow = "optical_flow/TRAIN/B/0001"
    assert_flow(pair.flow, flow_of(f"{flow}/into_future/right/OpticalFlowIntoFuture_0007_R.pfm"))
    assert_flow(pair.backward, flow_of(f"{flow}/into_past/right/OpticalFlowIntoPast_0008_R.pfm"))
    assert pair.occluded is None
    assert names(dataset, "test")[0] == "A/0002/left/0006"


def test_one_camera_of_flying_things(tmp_path):
    dataset = layouts.things(tmp_path, cameras=("left",))
    assert names(dataset, "test") == ["A/0002/left/0006", "A/0002/left/0007"]
    pair = dataset.source("test")[0]
    flow = "optical_flow/TEST/A/0002/into_future/left/OpticalFlowIntoFuture_0006_L.pfm"
    assert_flow(pair.flow, flow_of(flow))


def test_middlebury(tmp_path):
    dataset = layouts.middlebury(tmp_path)
    assert names(dataset, "train") == ["Urban2", "Venus"]
    pair = dataset.source("train")[0]
    assert_frames(pair, "other-data/Urban2/frame10.png", "other-data/Urban2/frame11.png")
    assert_flow(pair.flow, flow_of("other-gt-flow/Urban2/flow10.flo"))
    assert not pair.flow.valid.all() and pair.backward is None and pair.occluded is None
    (pair,) = dataset.source("test")
    assert pair.name == "Army"
    assert_frames(pair, "eval-data/Army/frame10.png", "eval-data/Army/frame11.png")
    assert_unknown(pair)


def test_the_flow_of_the_motorcycle_maps_to_equal_colours(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("no network")

    monkeypatch.setattr("socket.socket", refuse)
    dataset = layouts.dataset(Motorcycle)
    (pair,) = dataset.source("test")
    assert (pair.name, pair.size, dataset.source.splits) == ("motorcycle", (500, 741), ("test",))
    assert pair.backward is None and pair.occluded is None
    rows, columns = np.nonzero(pair.flow.valid)
    flow = pair.flow.flow[rows, columns]
    assert len(rows) == 500 * 741 - 27226
    assert not flow[:, 1].any() and flow[:, 0].min() > -60 and flow[:, 0].max() < -7
    targets = np.rint(columns + flow[:, 0]).astype(int)
    inside = targets >= 0
    before = pair.first[rows[inside], columns[inside]].astype(int)
    after = pair.second[rows[inside], targets[inside]].astype(int)
    assert np.abs(before - after).mean() < 10
    assert np.abs(pair.first.astype(int) - pair.second).mean() > 30


DATASETS = {
    "autoflow": layouts.autoflow,
    "sintel": layouts.sintel,
    "kitti": layouts.kitti,
    "chairs": layouts.chairs,
    "things": layouts.things,
    "middlebury": layouts.middlebury,
    "motorcycle": lambda _: layouts.dataset(Motorcycle),
}


@pytest.mark.parametrize("build", DATASETS.values(), ids=DATASETS)
def test_sources_are_cheap_to_pickle(tmp_path, build):
    dataset = build(tmp_path)
    for split in dataset.source.splits:
        source = dataset.source(split)
        size = len(pickle.dumps(source))
        assert size < 1500
        copy = pickle.loads(pickle.dumps(source))
        assert [pair.name for pair in copy] == [pair.name for pair in source]
        assert len(pickle.dumps(source)) == size


def test_an_evaluation_batch(tmp_path):
    dataset = layouts.sintel(tmp_path)
    options = {"training": False, "seed": 0, "shard": (0, 1)}
    first, second = dataset.load("train", batch_size=3, **options)
    for batch in (first, second):
        spec = {name: (array.shape, array.dtype) for name, array in batch.items()}
        assert spec == dataset.batch_spec(3)
    np.testing.assert_array_equal(second["valid"], [True, False, False])
    middle = (slice(1, 5), slice(1, 7))
    folder = "training/clean/bamboo_2"
    for number, frame in enumerate(("frame_0002.png", "frame_0003.png")):
        expected = frame_of(f"{folder}/{frame}")[middle]
        np.testing.assert_array_equal(second["frames"][0, number], expected)
    valid = ~mask_of("training/invalid/bamboo_2/frame_0002.png")[middle]
    np.testing.assert_array_equal(second["flow_valid"][0], valid)
    flow = flow_of("training/flow/bamboo_2/frame_0002.flo").flow[middle]
    np.testing.assert_array_equal(second["flow"][0], np.where(valid[..., None], flow, 0))


def test_a_training_batch(tmp_path):
    dataset = layouts.things(tmp_path)
    stream = iter(dataset.load("train", batch_size=4, training=True, seed=0, shard=(0, 1)))
    first, second = next(stream), next(stream)
    spec = {name: (array.shape, array.dtype) for name, array in first.items()}
    assert spec == dataset.batch_spec(4)
    assert first["flow_valid"].all() and first["valid"].all()
    assert not np.array_equal(first["frames"], second["frames"])
