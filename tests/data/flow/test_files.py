"""Optical flow files, checked against files assembled byte by byte."""

import struct
import zlib

import numpy as np
import pytest

from perceiver_io.data.flow import files as flow_files
from perceiver_io.data.flow.files import Flow
from perceiver_io.errors import UserError
from tests.helpers import flow_layouts

FLOW = np.array([[[1, -2], [0.5, 3], [0, 0]], [[-7.25, 8], [100, -511], [2, 1]]], np.float32)
VALID = np.array([[True, True, False], [True, True, True]])

FLO = b"PIEH" + struct.pack("<ii", 3, 2) + struct.pack(
    "<12f", 1, -2, 0.5, 3, 1e10, 1e10, -7.25, 8, 100, -511, 2, 1
)  # fmt: skip


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows, *, width, depth=16, color=2):
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, 0)
    data = b"".join(b"\0" + row for row in rows)  # each row begins with its filter: none
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks)


def kitti():
    rows = ((32832, 32640, 1, 32800, 32960, 1, 0, 0, 0),)
    rows += ((32304, 33280, 1, 39168, 64, 1, 32896, 32832, 1),)
    return png([struct.pack(">9H", *row) for row in rows], width=3)


def pfm(order, kind=b"PF"):
    scale = b"-1.0" if order == "<" else b"1"
    bottom = struct.pack(f"{order}6f", 1, 2, 3, 4, 5, 6)
    top = struct.pack(f"{order}6f", -1, -2, -3, -4, -5, -6.5)
    return kind + b"\n2 2\n" + scale + b"\n" + bottom + top


def save(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def assert_flow(flow, expected=FLOW, valid=VALID):
    np.testing.assert_array_equal(flow.flow, expected)
    np.testing.assert_array_equal(flow.valid, valid)
    assert flow.flow.dtype == np.float32 and flow.valid.dtype == bool


def random_flow(unit):
    rng = np.random.default_rng(0)
    valid = rng.random((9, 14)) > 0.3
    flow = (rng.integers(-32768, 32767, (9, 14, 2)) * unit).astype(np.float32)
    return Flow(np.where(valid[..., None], flow, 0), valid)


@pytest.mark.parametrize("name, data", [("a.flo", FLO), ("a.png", kitti())])
def test_reading_and_writing_known_bytes(tmp_path, name, data):
    assert_flow(flow_files.read_flow(save(tmp_path, name, data)))


def test_a_written_flo_has_the_known_bytes(tmp_path):
    flow_files.write_flo(tmp_path / "a.flo", Flow(FLOW, VALID))
    assert (tmp_path / "a.flo").read_bytes() == FLO


@pytest.mark.parametrize("unit", [1 / 64, 0.001])
def test_flo_round_trip(tmp_path, unit):
    flow = random_flow(unit)
    flow_files.write_flo(tmp_path / "a.flo", flow)
    assert_flow(flow_files.read_flo(tmp_path / "a.flo"), *flow)


def test_kitti_round_trip(tmp_path):
    flow = random_flow(1 / 64)
    flow_files.write_kitti_png(tmp_path / "a.png", flow)
    assert_flow(flow_files.read_kitti_png(tmp_path / "a.png"), *flow)
    data = (tmp_path / "a.png").read_bytes()
    assert struct.unpack(">IIBB", data[16:26]) == (14, 9, 16, 2)


def test_kitti_rounds_and_ignores_invalid_flow(tmp_path):
    flow = np.array([[[0.01, -0.0079], [np.nan, 1e10]]], np.float32)
    flow_files.write_kitti_png(tmp_path / "a.png", Flow(flow, np.array([[True, False]])))
    expected = [[[1 / 64, -1 / 64], [0, 0]]]
    assert_flow(flow_files.read_kitti_png(tmp_path / "a.png"), expected, [[True, False]])


@pytest.mark.parametrize("order", "<>")
def test_pfm_in_both_byte_orders(tmp_path, order):
    image = flow_files.read_pfm(save(tmp_path, "a.pfm", pfm(order)))
    np.testing.assert_array_equal(image[0], [[-1, -2, -3], [-4, -5, -6.5]])
    np.testing.assert_array_equal(image[1], [[1, 2, 3], [4, 5, 6]])
    assert image.dtype == np.float32 and image.flags.writeable


def test_pfm_of_one_channel(tmp_path):
    data = b"Pf\n1 2\n-1.0\n" + struct.pack("<2f", 1, np.inf)
    image = flow_files.read_pfm(save(tmp_path, "a.pfm", data))
    np.testing.assert_array_equal(image, [[[np.inf]], [[1]]])
    with pytest.raises(UserError, match="a.pfm has 1 channel"):
        flow_files.read_flow(tmp_path / "a.pfm")


def test_flow_in_a_pfm(tmp_path):
    data = b"PF\n1 2\n1.0\n" + struct.pack(">6f", 1, 2, 0, 2e9, 4, 0)
    flow = flow_files.read_flow(save(tmp_path, "a.PFM", data))
    assert_flow(flow, [[[0, 0]], [[1, 2]]], [[False], [True]])


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.flo", b"", "begins with b'', not b'PIEH'"),
        ("a.flo", b"PIEX" + FLO[4:], "begins with b'PIEX'"),
        ("a.flo", FLO[:10], "has 10 bytes"),
        ("a.flo", FLO[:-1], "has 47 bytes after its header; 3x2 pixels .* need 48"),
        ("a.flo", FLO + b"x", "has 49 bytes after its header"),
        ("a.flo", b"PIEH" + struct.pack("<ii", 1_000_000, 2), "1000000 pixels wide .* 1 to 32768"),
        ("a.flo", b"PIEH" + struct.pack("<ii", 3, -2), "-2 high"),
        ("a.flo", FLO[:-4] + struct.pack("<f", np.nan), "has 1 values that are not numbers"),
        ("a.png", b"P5 nothing", "not a PNG file"),
        ("a.png", kitti()[:20], "not a PNG file"),
        ("a.png", png([bytes(9)], width=3, depth=8), "8 bits and colour type 2"),
        ("a.png", png([bytes(6)], width=3, color=0), "16 bits and colour type 0"),
        ("a.png", png([bytes(6)], width=70_000), "70000 pixels wide"),
        ("a.pfm", b"P6\n2 2\n255\n", "a PFM file begins with PF or Pf"),
        ("a.pfm", b"PF\n2 2", "a PFM file begins with PF or Pf"),
        ("a.pfm", b"PF\n2 x\n1\n", "'2 x' and b'1' should be the width and height"),
        ("a.pfm", b"PF\n2 2\n0\n", "its scale is 0"),
        ("a.pfm", b"PF\n2 0\n1\n", "0 high"),
        ("a.pfm", pfm("<")[:-1], "has 47 bytes after its header"),
        ("a.pfm", b"Pf\n1 1\n1\n" + struct.pack(">f", 0), "has 1 channel"),
        ("a.jpg", b"", "must end in one of .flo, .png, .pfm"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, data, message):
    with pytest.raises(UserError, match=message) as error:
        flow_files.read_flow(save(tmp_path, name, data))
    assert str(tmp_path / name) in str(error.value)


def test_nan_in_a_pfm_is_unknown_flow(tmp_path):
    image = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    image[0, 1, 1] = np.nan
    flow = flow_files.read_flow(save(tmp_path, "a.pfm", flow_layouts.pfm(image)))
    np.testing.assert_array_equal(flow.valid, [[True, False], [True, True]])
    np.testing.assert_array_equal(flow.flow[0, 1], 0)


@pytest.mark.parametrize("end", range(26, len(kitti()) - 12, 7))
def test_a_truncated_png_is_named(tmp_path, end):
    with pytest.raises(UserError, match="a.png is truncated or damaged"):
        flow_files.read_kitti_png(save(tmp_path, "a.png", kitti()[:end]))


@pytest.mark.parametrize("place", [30, 45, 55])
def test_a_png_with_a_flipped_bit_is_named(tmp_path, place):
    data = bytearray(kitti())
    data[place] ^= 4
    with pytest.raises(UserError, match="a.png is truncated or damaged"):
        flow_files.read_kitti_png(save(tmp_path, "a.png", data))


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="Cannot read .*a.flo: No such file"):
        flow_files.read_flow(tmp_path / "a.flo")
    with pytest.raises(UserError, match="Cannot write .*a.flo: No such file"):
        flow_files.write_flo(tmp_path / "nowhere" / "a.flo", Flow(FLOW, VALID))


@pytest.mark.parametrize("write", [flow_files.write_flo, flow_files.write_kitti_png])
@pytest.mark.parametrize(
    "flow, message",
    [
        (Flow(np.where(VALID[..., None], np.nan, FLOW), VALID), "valid values that are NaN"),
        (Flow(FLOW, VALID[:1]), r"\[2, 3, 2\] and mask bool \[1, 3\]"),
        (Flow(FLOW, VALID.astype(float)), "mask float64"),
    ],
)
def test_nothing_is_written_for_bad_flow(tmp_path, write, flow, message):
    with pytest.raises(UserError, match=message):
        write(tmp_path / "flow", flow)
    assert not list(tmp_path.iterdir())


def test_limits_of_kitti(tmp_path):
    for value in (-512.1, 512.0):
        flow = Flow(np.full((1, 1, 2), value, np.float32), np.array([[True]]))
        with pytest.raises(UserError, match="reaches 512.* holds -512 to 511.98"):
            flow_files.write_kitti_png(tmp_path / "a.png", flow)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path, "a.flo", b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(UserError, match="Cannot write .*a.flo: No space left"):
        flow_files.write_flo(path, Flow(FLOW, VALID))
    assert [p.name for p in tmp_path.iterdir()] == ["a.flo"]
    assert path.read_bytes() == b"old"
