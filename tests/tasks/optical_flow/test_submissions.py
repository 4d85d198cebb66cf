"""Submission files for the servers of optical flow benchmarks."""

import numpy as np
import pytest

from perceiver_io.data.flow.files import read_flow
from perceiver_io.errors import UserError
from perceiver_io.tasks.optical_flow import submissions

FLOW = np.random.default_rng(0).normal(0, 20, (5, 7, 2)).astype(np.float32)


@pytest.mark.parametrize("rendering", ["clean", "final"])
def test_sintel(tmp_path, rendering):
    path = submissions.write_sintel_submission(tmp_path, rendering, "market_1/frame_0042", FLOW)
    assert path == tmp_path / rendering / "market_1" / "frame_0042.flo"
    assert path == submissions.sintel_submission_path(tmp_path, rendering, "market_1/frame_0042")
    read = read_flow(path)
    np.testing.assert_array_equal(read.flow, FLOW)
    assert read.valid.all()


@pytest.mark.parametrize("year, file", [(2012, "000007_10.png"), (2015, "flow/000007_10.png")])
def test_kitti(tmp_path, year, file):
    path = submissions.write_kitti_submission(tmp_path, year, "000007_10", FLOW)
    assert path == tmp_path / file
    assert path == submissions.kitti_submission_path(tmp_path, year, "000007_10")
    read = read_flow(path)
    np.testing.assert_allclose(read.flow, FLOW, atol=1 / 128)
    assert read.valid.all()


def test_kitti_clips_to_the_range_of_its_format(tmp_path):
    flow = np.array([[[-600, 3], [9e8, 511.99]]])
    path = submissions.write_kitti_submission(tmp_path, 2015, "000000_10", flow)
    limit = 512 - 1 / 64
    np.testing.assert_array_equal(read_flow(path).flow, [[[-512, 3], [limit, limit]]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_flow_is_refused(tmp_path, value):
    flow = FLOW.copy()
    flow[1, 2, 0] = value
    with pytest.raises(UserError, match="000000_10.png has valid values that are NaN"):
        submissions.write_kitti_submission(tmp_path, 2015, "000000_10", flow)
    with pytest.raises(UserError, match="frame_0001.flo has valid values that are NaN"):
        submissions.write_sintel_submission(tmp_path, "clean", "cave_3/frame_0001", flow)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_created(tmp_path):
    (tmp_path / "flow").write_text("a file")
    with pytest.raises(UserError, match="Cannot make the folder .*flow: "):
        submissions.write_kitti_submission(tmp_path, 2015, "000000_10", FLOW)
