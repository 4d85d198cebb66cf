"""Flow of the user's images and videos."""

import sys
from pathlib import Path

import av
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from perceiver_io.data.flow.files import read_flo, read_kitti_png
from perceiver_io.data.video.clips import read_frames, timed_frames
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.optical_flow.colors import flow_colors
from perceiver_io.tasks.optical_flow.prediction import FlowEstimator
from perceiver_io.tasks.optical_flow.tiling import TiledFlow
from tests.helpers import oracles
from tests.helpers.predictions import (
    FLOW,
    applied,
    picture,
    size_of,
    trained,
    untrained,
    video_file,
)
from tests.helpers.videos import gray, make

pytestmark = pytest.mark.usefixtures("for_cpu")


def constant(*flow):
    """A model that predicts the same flow everywhere."""

    def apply(params, state, rng, *, inputs, is_training):
        return jnp.broadcast_to(jnp.float32(flow), (len(inputs), *inputs.shape[2:4], 2)), state

    return FlowEstimator(untrained(FLOW, Architecture(apply, apply, apply, apply)))


def two_images(folder, height, width):
    paths = [folder / name for name in ("one.png", "two.png")]
    for seed, path in enumerate(paths):
        Image.fromarray(picture(height, width, seed)).save(path)
    return list(map(str, paths))


def frames_in(folder, *names, height=20, width=30):
    folder.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(picture(height, width, 0.2 * index)).save(folder / name)
    return str(folder)


def test_flow_of_two_images_smaller_than_a_tile(tmp_path):
    inputs = two_images(tmp_path, 11, 13)
    before = [Path(path).read_bytes() for path in inputs]
    model = trained(FLOW)
    result = FlowEstimator(model).write(tmp_path, inputs=inputs)
    assert result.summary["flow"] == [str(tmp_path / "one_flow.flo")]
    found = read_flo(tmp_path / "one_flow.flo").flow
    padded = [np.pad(picture(11, 13, s), ((0, 5), (0, 11), (0, 0)), "edge") for s in (0, 1)]
    expected = applied(model, np.stack(padded)[None].astype(np.float32) / 127.5 - 1)
    oracles.assert_close(found, expected[0, :11, :13])
    assert size_of(tmp_path / "one_flow.png") == (13, 11)
    assert min(size_of(tmp_path / "one_figure.png")) > 200
    assert "video" not in result.summary
    # In the folder of its inputs, it overwrites none of them.
    assert [Path(path).read_bytes() for path in inputs] == before


def test_flow_of_less_than_a_pixel_is_pale(tmp_path):
    result = constant(0.05, 0).write(tmp_path, inputs=two_images(tmp_path, 20, 30))
    assert result.summary["max_length"] == pytest.approx(0.05)
    with Image.open(tmp_path / "one_flow.png") as colors:
        np.testing.assert_array_equal(np.asarray(colors)[0, 0], [255, 242, 242])


@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.slow
def test_flow_of_a_video(tmp_path, as_folder):
    if as_folder:
        source = frames_in(tmp_path / "video", *(f"{number}.png" for number in range(8, 12)))
    else:
        source = video_file(tmp_path / "video.mp4", 4)
    frames = list(read_frames(source).frames)
    model = FlowEstimator(trained(FLOW))
    result = model.write(tmp_path, inputs=[str(source)], batch_size=3)
    assert len(result.summary["flow"]) == 3
    measured = model.tiled()(frames[1], frames[2])
    oracles.assert_close(read_flo(tmp_path / "video_flow" / "00002.flo").flow, measured)
    beside = list(read_frames(result.summary["video"]).frames)
    assert [frame.shape for frame in beside] == [(20, 60, 3)] * 3
    left, right = np.split(beside[1].astype(int), 2, axis=1)
    with Image.open(tmp_path / "video_flow" / "00002.png") as colors:
        assert np.abs(right - np.asarray(colors)).mean() < 12
    assert np.abs(left - frames[1]).mean() < 12


def test_flow_of_a_variable_rate_video_keeps_its_timing(tmp_path):
    path = make(tmp_path / "a.mkv", gray(range(5), 20, 30), times=[0, 1, 2, 14, 26])
    result = constant(1, 1).write(tmp_path, inputs=[str(path)])
    times = [float(frame.seconds) for frame in timed_frames(result.summary["video"])]
    np.testing.assert_allclose(times, [0, 0.04, 0.08, 0.56], atol=2e-3)
    with av.open(result.summary["video"]) as container:
        assert container.duration / 1e6 == pytest.approx(26 / 25, abs=2e-3)


def test_flow_in_the_format_of_kitti(tmp_path):
    model, inputs = FlowEstimator(trained(FLOW)), two_images(tmp_path, 20, 30)
    model.write(tmp_path, inputs=inputs)
    result = model.write(tmp_path, inputs=inputs, flow_format="kitti")
    assert result.summary["flow"] == [str(tmp_path / "one_flow_kitti.png")]
    exact, (rounded, valid) = (
        read_flo(tmp_path / "one_flow.flo").flow,
        read_kitti_png(tmp_path / "one_flow_kitti.png"),
    )
    assert valid.all()
    assert 0 < np.abs(rounded - exact).max() <= 1 / 128
    with Image.open(tmp_path / "one_flow.png") as colors:
        expected = flow_colors(rounded, max(result.summary["max_length"], 1.0))
        np.testing.assert_array_equal(np.asarray(colors), expected)


def test_flow_of_a_video_in_the_format_of_kitti(tmp_path):
    source = frames_in(tmp_path / "video", "1.png", "2.png", "3.png")
    result = constant(1.5, -2).write(tmp_path, inputs=[source], flow_format="kitti")
    folder = tmp_path / "video_flow"
    names = ["00001.png", "00001_kitti.png", "00002.png", "00002_kitti.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert result.summary["flow"] == [str(folder / name) for name in names[1::2]]
    found = read_kitti_png(folder / "00002_kitti.png").flow
    np.testing.assert_array_equal(found, np.full((20, 30, 2), (1.5, -2)))
    # Files in another format would be from another run.
    constant(600, 0).write(tmp_path, inputs=[source])
    assert sorted(path.suffix for path in folder.iterdir()) == [".flo", ".flo", ".png", ".png"]


def test_flow_beyond_the_range_of_a_file(tmp_path):
    inputs = two_images(tmp_path, 20, 30)
    for value in (np.nan, np.inf, 2e9):
        with pytest.raises(UserError, match="from frame 1 to 2 .* weights are damaged"):
            constant(0, value).write(tmp_path, inputs=inputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]


def test_a_kitti_png_clips_to_its_range(tmp_path):
    inputs = two_images(tmp_path, 20, 30)
    constant(-600, 3).write(tmp_path, inputs=inputs, flow_format="kitti")
    (written,) = tmp_path.glob("*_kitti.png")
    assert (read_kitti_png(written).flow == (-512, 3)).all()


def test_the_folder_of_frames_is_not_a_valid_output(tmp_path):
    frames = frames_in(tmp_path / "frames", "frame_0001.png", "frame_0002.png")
    with pytest.raises(UserError, match="frames is the folder of the frames"):
        constant(1, 1).write(tmp_path / "frames", inputs=[frames])


def test_tiles_have_the_given_overlap(tmp_path):
    model, inputs = trained(FLOW), two_images(tmp_path, 20, 40)
    found = {}
    for overlap in (None, 8, 13):
        FlowEstimator(model).write(tmp_path, inputs=inputs, overlap=overlap)
        found[overlap] = read_flo(tmp_path / "one_flow.flo").flow
    settings = dict(tile_size=FLOW["image_size"], batch_size=1, overlap=13)
    tiled = TiledFlow(*model[:3], **settings)
    oracles.assert_close(found[13], tiled(picture(20, 40, 0), picture(20, 40, 1)))
    assert np.abs(found[13] - found[8]).max() > 1e-3
    # 20 pixels are too many for tiles of 16 rows.
    np.testing.assert_array_equal(found[None], found[8])
    for overlap in (16, -1):
        with pytest.raises(UserError, match=f"overlap={overlap} pixels must be .* 16x24"):
            FlowEstimator(model).write(tmp_path, inputs=inputs, overlap=overlap)


def test_the_default_overlap_is_that_of_the_published_evaluations(tmp_path):
    large = FlowEstimator(untrained(dict(FLOW, image_size=(368, 496))))
    corners = large.tiled().corners((436, 1024))
    assert corners == [(y, x) for y in (0, 68) for x in (0, 476, 528)]


def test_folders_of_frames_that_are_not_a_video(tmp_path):
    def error_of(folder):
        with pytest.raises(UserError) as caught:
            constant(1, 1).write(tmp_path, inputs=[folder])
        return str(caught.value)

    gap = frames_in(tmp_path / "gap", "frame_0001.png", "frame_0003.png")
    assert "frame_0002.png is missing" in error_of(gap)
    single = frames_in(tmp_path / "single", "frame_0001.png")
    assert "only one frame" in error_of(single)
    sizes = frames_in(tmp_path / "sizes", "1.png", "2.png", "3.png")
    Image.fromarray(picture(20, 31)).save(tmp_path / "sizes" / "3.png")
    assert "3.png has 31x20 pixels and the images before it 30x20" in error_of(sizes)
    corrupt = frames_in(tmp_path / "corrupt", "1.png", "2.png", "3.png")
    (tmp_path / "corrupt" / "2.png").write_bytes(b"no image")
    assert "Cannot decode image" in error_of(corrupt) and "2.png" in error_of(corrupt)
    (tmp_path / "empty").mkdir()
    assert "has no images" in error_of(str(tmp_path / "empty"))


@pytest.mark.parametrize("arguments", [{"inputs": ["."]}, {"flow_format": "kitti"}])
def test_a_missing_package_is_reported_before_the_flow_is_computed(
    tmp_path, monkeypatch, arguments
):
    monkeypatch.setitem(sys.modules, "av", None)
    model = FlowEstimator(untrained(FLOW))
    arguments = {"inputs": two_images(tmp_path, 20, 30)} | arguments
    with pytest.raises(UserError, match="need the package PyAV"):
        model.write(tmp_path, **arguments)


@pytest.mark.parametrize(
    "inputs, message",
    [
        (["a.png", "b.png"], "b.png has 10x8 pixels and the images before it 9x8"),
        (["a.png"], "only one frame"),
        (["a.png", "b.png", "a.png"], "3 inputs"),
        (["a.png", "."], "2 inputs"),
        (["c.png", "a.png"], r"c\.png: there is no such"),
    ],
)
def test_no_flow(tmp_path, monkeypatch, inputs, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(8, 9)).save("a.png")
    Image.fromarray(picture(8, 10)).save("b.png")
    with pytest.raises(UserError, match=message):
        FlowEstimator(trained(FLOW)).write(tmp_path, inputs=inputs)
