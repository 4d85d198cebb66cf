"""Optical flow folders with errors: the message names the file."""

import dataclasses

import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.data.flow import motorcycle
from perceiver_io.data.flow.autoflow import AutoFlow
from perceiver_io.data.flow.flying import FlyingChairs, FlyingThings3D
from perceiver_io.data.flow.kitti import Kitti
from perceiver_io.data.flow.middlebury import Middlebury
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.flow.sintel import Sintel
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.errors import UserError
from tests.helpers import flow_layouts as layouts

SETTINGS = {
    AutoFlow: {"validation_share": 0.0},
    Sintel: {"rendering": "final"},
    Kitti: {"year": 2012},
    FlyingChairs: {},
    FlyingThings3D: {"rendering": "clean", "cameras": ("left",)},
    Middlebury: {},
}
# How to build each dataset, and the files of its first training pair.
FILES = {
    "autoflow": (
        layouts.autoflow,
        [f"static_40k_png_1_of_4/table_3_batch_7/{x}" for x in ("im0.png", "im1.png")]
        + ["static_40k_png_1_of_4/table_3_batch_7/forward.flo"],
    ),
    "sintel": (
        layouts.sintel,
        [
            "training/clean/alley_1/frame_0001.png",
            "training/clean/alley_1/frame_0002.png",
            "training/flow/alley_1/frame_0001.flo",
            "training/invalid/alley_1/frame_0001.png",
            "training/occlusions/alley_1/frame_0001.png",
        ],
    ),
    "kitti": (
        layouts.kitti,
        [f"training/image_2/000000_1{i}.png" for i in (0, 1)]
        + [f"training/flow_{kind}/000000_10.png" for kind in ("occ", "noc")],
    ),
    "chairs": (
        layouts.chairs,
        [f"data/00001_{x}" for x in ("img1.ppm", "img2.ppm", "flow.flo")],
    ),
    "things": (
        layouts.things,
        [f"frames_finalpass/TRAIN/A/0000/left/000{i}.png" for i in (6, 7)]
        + ["optical_flow/TRAIN/A/0000/into_future/left/OpticalFlowIntoFuture_0006_L.pfm"]
        + ["optical_flow/TRAIN/A/0000/into_past/left/OpticalFlowIntoPast_0007_L.pfm"],
    ),
    "middlebury": (
        layouts.middlebury,
        [f"other-data/Urban2/frame1{i}.png" for i in (0, 1)] + ["other-gt-flow/Urban2/flow10.flo"],
    ),
}
EVERY_FILE = [(build, file) for build, files in FILES.values() for file in files]
IDS = [file.replace("/", "-") for _, file in EVERY_FILE]


def build_class(kind, root, **settings):
    return layouts.dataset(kind, **{"root": str(root), **SETTINGS[kind], **settings})


@pytest.mark.parametrize("kind", SETTINGS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("split", [0, 1])
def test_a_missing_folder_says_what_to_download(tmp_path, kind, split):
    dataset = build_class(kind, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"There is no .*nowhere.* Download .*\.") as error:
        dataset.source(dataset.source.splits[split])
    message = str(error.value)
    assert "https://" in message or "http://sintel.is.tue.mpg.de" in message
    assert "config.data.root" in message and "\n    root/" in message


def test_the_layout_of_every_missing_folder_is_the_one_read(tmp_path):
    """Every path shown in the error message is a file of the miniature dataset."""
    for build, split in (
        (layouts.autoflow, "train"),
        (layouts.kitti, "train"),
        (layouts.chairs, "train"),
        (layouts.middlebury, "test"),
    ):
        root = tmp_path / build.__name__
        dataset = build(root)
        with pytest.raises(UserError) as error:
            dataclasses.replace(dataset.source, root=str(tmp_path / "nowhere"))(split)
        drawn = [x.strip().removeprefix("root/") for x in str(error.value).split("\n")[1:]]
        # Table numbers may differ.
        drawn = [path.replace("table_0_batch_0", "table_3_batch_7") for path in drawn]
        assert drawn and all((root / path).exists() for path in drawn)


@pytest.mark.parametrize("build, file", EVERY_FILE, ids=IDS)
def test_a_missing_file_is_named(tmp_path, build, file):
    dataset = build(tmp_path)
    source = dataset.source("train")
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match="There is no ") as error:
        source[0]
    assert f"{tmp_path / file}. Download" in str(error.value)


@pytest.mark.parametrize("build, file", EVERY_FILE, ids=IDS)
def test_a_file_of_another_size_is_named(tmp_path, build, file):
    dataset = build(tmp_path)
    layouts.save(tmp_path, file, (6, 7))
    with pytest.raises(UserError, match="wide and 6 high, but the first frame") as error:
        dataset.source("train")[0]
    is_first = file == next(files[0] for maker, files in FILES.values() if maker is build)
    assert is_first or f"{tmp_path / file} is 7 pixels wide" in str(error.value)


@pytest.mark.parametrize("build, file", EVERY_FILE, ids=IDS)
def test_a_damaged_file_is_named(tmp_path, build, file):
    dataset = build(tmp_path)
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(UserError) as error:
        dataset.source("train")[0]
    assert str(tmp_path / file) in str(error.value)


@pytest.mark.parametrize("build, file", [case for case in EVERY_FILE if case[1].endswith(".flo")])
def test_flow_that_is_nan(tmp_path, build, file):
    dataset = build(tmp_path)
    data = bytearray((tmp_path / file).read_bytes())
    data[-12:-8] = np.float32(np.nan).tobytes()
    (tmp_path / file).write_bytes(data)
    with pytest.raises(UserError, match="has 1 values that are not numbers") as error:
        dataset.source("train")[0]
    assert str(tmp_path / file) in str(error.value)


@pytest.mark.parametrize(
    "build, split, frame",
    [
        (layouts.sintel, "train", "training/clean/alley_1/frame_0002.png"),
        (layouts.sintel, "test", "test/clean/bamboo_2/frame_0002.png"),
        (layouts.things, "train", "frames_finalpass/TRAIN/B/0001/right/0007.png"),
    ],
)
def test_a_gap_in_a_sequence_is_found_at_once(tmp_path, build, split, frame):
    dataset = build(tmp_path)
    (tmp_path / frame).unlink()
    with pytest.raises(UserError, match="There is no ") as error:
        dataset.source(split)
    assert str(tmp_path / frame) in str(error.value)


def test_sequences_need_two_frames(tmp_path):
    dataset = layouts.sintel(tmp_path)
    (tmp_path / "test/clean/alley_1/frame_0003.png").unlink()
    (tmp_path / "test/clean/alley_1/frame_0002.png").unlink()
    with pytest.raises(UserError, match="There is no .*alley_1/frame_0002.png"):
        dataset.source("test")
    (tmp_path / "test/clean/alley_1/frame_0001.png").unlink()
    with pytest.raises(UserError, match=r"There is no .*alley_1/\*.png"):
        dataset.source("test")


@pytest.mark.parametrize(
    "kind, folder, missing",
    [
        (AutoFlow, "static_40k_png_2_of_4", "static_40k_png_1_of_4/table_0_batch_0"),
        (Kitti, "training/image_0", "training/image_0/000000_10.png"),
        (FlyingChairs, "data", "data/00001_flow.flo"),
        (FlyingThings3D, "frames_cleanpass/TRAIN/A/0000", "A/0000/left"),
    ],
)
def test_an_empty_folder(tmp_path, kind, folder, missing):
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(UserError, match=f"There is no .*{missing}"):
        build_class(kind, tmp_path).source("train")


def test_chairs_for_validation_need_the_split_file(tmp_path):
    dataset = layouts.chairs(tmp_path, labels="")
    with pytest.raises(UserError, match="There is no .*FlyingChairs_train_val.txt"):
        dataset.source("validation")


@pytest.mark.parametrize(
    "labels, message",
    [("1\n3\n1\n", "'3' as entry 2"), ("1\n2\n", "has 2 lines, but there is a pair 00003")],
)
def test_a_wrong_split_file(tmp_path, labels, message):
    with pytest.raises(UserError, match=message):
        layouts.chairs(tmp_path, labels).source("train")


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (AutoFlow, {"validation_share": 1.0}, "validation_share is 1.0, which must be"),
        (AutoFlow, {"validation_share": -0.1}, "validation_share is -0.1, which must be"),
        (Sintel, {"rendering": "albedo"}, "'albedo', but Sintel needs .*'clean', 'final'"),
        (FlyingThings3D, {"rendering": "albedo"}, "'albedo', but .*'clean', 'final'"),
        (FlyingThings3D, {"cameras": ()}, r"cameras is \(\), which must be not empty"),
        (FlyingThings3D, {"cameras": ("left", "left")}, "must be not empty, each camera once"),
        (Kitti, {"year": 2013}, "year is 2013, but Kitti needs .*2012, 2015"),
        (Kitti, {"image_size": (0, 4)}, r"is \(0, 4\), each of which must be at least 1"),
    ],
)
def test_wrong_settings(tmp_path, kind, settings, message):
    with pytest.raises(UserError, match=message):
        build_class(kind, tmp_path, **settings)


@pytest.mark.parametrize(
    "kind, settings",
    [
        (Sintel, {"rendering": "albedo"}),
        (FlyingThings3D, {"rendering": "albedo"}),
        (Kitti, {"year": 2013}),
    ],
)
def test_wrong_choices(kind, settings):
    ((key, value),) = settings.items()
    section = {"root": "/nowhere", **SETTINGS[kind], **layouts.COMMON, **settings}
    with pytest.raises(UserError, match=f"config.data.{key} is {value!r}, but {kind.__name__} n"):
        construct(Composed(kind, FlowPreparation), section, "config.data")


def test_an_installation_without_the_motorcycle(tmp_path, monkeypatch):
    monkeypatch.setattr(motorcycle, "_FOLDER", tmp_path)
    with pytest.raises(UserError, match="installed without .*motorcycle_left.png"):
        motorcycle.Motorcycle()("test")[0]
