"""PyTorch files, read without PyTorch: real, handmade and hostile ones."""

import io
import pathlib
import re
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.torch_files import read_torch

# Written by torch.save of PyTorch 2.13.
REAL = pathlib.Path(__file__).parents[2] / "files/state_dict.bin"
FLOATS = np.arange(6, dtype="<f4")


def tensor(kind="Float", key="0", count=6, offset=0, shape=(2, 3), strides=(3, 1)):
    """The opcodes that build a tensor; a size may be any text that stands for a number."""

    def sizes(values):
        return "(" + "".join(f"I{value}\n" for value in values) + "t"

    storage = f"(Vstorage\nctorch\n{kind}Storage\nV{key}\nVcpu\nI{count}\ntQ"
    rest = f"I{offset}\n{sizes(shape)}{sizes(strides)}I00\nccollections\nOrderedDict\n)R"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}{rest}tR"


def state_dict(**tensors):
    items = "".join(f"V{name}\n{value}s" for name, value in tensors.items())
    return f"ccollections\nOrderedDict\n)R{items}."


def write(path, pickle, storages=None, byte_order=None, compression=zipfile.ZIP_STORED):
    storages = {"0": FLOATS.tobytes()} if storages is None else storages
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickle)
        if byte_order is not None:
            archive.writestr("archive/byteorder", byte_order)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
        archive.writestr("archive/version", "3\n")
    return path


def assert_refused(path, match):
    with pytest.raises(UserError, match=match) as error:
        read_torch(path)
    assert str(path) in str(error.value)


def test_a_torch_file():
    tensors = read_torch(REAL)
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    expected = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "bias": np.array([0.5, -1], np.float32),
        "whole": whole,
        "transposed": whole.T,
        "columns": whole[1:, ::2],
        "tied": whole,
        "half": np.array([1.5, -2], np.float32),
        "bfloat16": np.array([[1.5, -2]], np.float32),
        "ids": np.arange(5).reshape(1, 5),
        "scalar": np.array(7),
        "empty": np.zeros((0, 3), np.float32),
        "mask": np.array([True, False]),
        "parameter": np.array([3], np.float32),
    }
    assert list(tensors) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(tensors[name], array, err_msg=name, strict=True)
    assert np.shares_memory(tensors["tied"], tensors["transposed"])


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize(
    "kind, dtype",
    [
        ("Float", "f4"),
        ("Double", "f8"),
        ("Half", "f2"),
        ("Long", "i8"),
        ("Int", "i4"),
        ("Short", "i2"),
        ("Char", "i1"),
        ("Byte", "u1"),
        ("Bool", "?"),
        ("ComplexFloat", "c8"),
        ("ComplexDouble", "c16"),
    ],
)
def test_dtypes(kind, dtype, byte_order, tmp_path):
    numbers = np.array([0, 1, 2, 3, 100, 7]).astype(byte_order + dtype)
    name = {"<": "little", ">": "big"}[byte_order]
    path = write(
        tmp_path / "x.bin", state_dict(w=tensor(kind)), {"0": numbers.tobytes()}, byte_order=name
    )
    expected = numbers.reshape(2, 3).astype(np.float32 if dtype == "f2" else dtype)
    np.testing.assert_array_equal(read_torch(path)["w"], expected, strict=True)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_bfloat16_becomes_float32(byte_order, tmp_path):
    numbers = np.array([1.5, -0.25, 3e38, 1e-40, np.inf, 0], np.float32).astype(ml_dtypes.bfloat16)
    data = numbers.view(np.uint16).astype(f"{byte_order}u2").tobytes()
    name = {"<": "little", ">": "big"}[byte_order]
    path = write(tmp_path / "x.bin", state_dict(w=tensor("BFloat16")), {"0": data}, byte_order=name)
    expected = numbers.astype(np.float32).reshape(2, 3)
    np.testing.assert_array_equal(read_torch(path)["w"], expected, strict=True)


def test_without_an_entry_for_it_the_byte_order_is_little(tmp_path):
    path = write(tmp_path / "x.bin", state_dict(w=tensor()))
    np.testing.assert_array_equal(read_torch(path)["w"], FLOATS.reshape(2, 3))


@pytest.mark.parametrize(
    "view, expected",
    [
        ({"offset": 2, "shape": (2, 2), "strides": (2, 1)}, [[2, 3], [4, 5]]),
        ({"offset": 1, "shape": (3,), "strides": (2,)}, [1, 3, 5]),
        ({"shape": (3, 2), "strides": (1, 3)}, [[0, 3], [1, 4], [2, 5]]),
        ({"offset": 5, "shape": (), "strides": ()}, 5),
        ({"offset": 5, "shape": (1, 1), "strides": (99, 99)}, [[5]]),
        ({"offset": 99, "shape": (0, 2), "strides": (2, 1)}, np.zeros((0, 2))),
    ],
)
def test_views(view, expected, tmp_path):
    path = write(tmp_path / "x.bin", state_dict(w=tensor(**view)))
    result = read_torch(path)["w"]
    np.testing.assert_array_equal(result, np.array(expected, np.float32), strict=True)
    assert not result.size or not result.flags.writeable


@pytest.mark.parametrize(
    "view, match",
    [
        ({"offset": 1}, "6 numbers that exceeds"),
        ({"strides": (4, 1)}, "6 numbers that exceeds"),
        ({"shape": (1,), "strides": (1,), "offset": 6}, "1 numbers that exceeds"),
        ({"shape": (2**40, 2**40), "strides": (0, 0)}, "repeats numbers"),
        ({"shape": (7,), "strides": (0,)}, "repeats numbers"),
        ({"shape": (2**62,), "strides": (2**62,)}, "exceeds its storage"),
        ({"offset": -1}, "invalid offset"),
        ({"shape": (-1, 3)}, "invalid offset"),
        ({"strides": (-3, 1), "offset": 3}, "invalid offset"),
        ({"shape": ("01",), "strides": (1,)}, "invalid offset"),  # That is, true.
        ({"strides": (1,)}, "corrupt|shorter"),
        ({"shape": (1,) * 65, "strides": (1,) * 65}, "without a shape"),
        ({"count": 7}, "has 6 numbers as torch.FloatStorage, not 7"),
        ({"count": 5}, "has 6 numbers as torch.FloatStorage, not 5"),
        ({"kind": "Double"}, "has 3 numbers as torch.DoubleStorage, not 6"),
        ({"kind": "Quint8"}, "torch.Quint8Storage"),
        ({"key": "1"}, "lacks the entry 'data/1'"),
        ({"key": "../version"}, "lacks the entry"),
    ],
)
def test_views_beyond_their_storage_are_refused(view, match, tmp_path):
    assert_refused(write(tmp_path / "x.bin", state_dict(w=tensor(**view))), match)


def test_one_storage_has_one_dtype(tmp_path):
    both = state_dict(a=tensor(), b=tensor("Int"))
    assert_refused(write(tmp_path / "x.bin", both), "not 6 as torch.IntStorage")


@pytest.mark.parametrize(
    "pickle, match",
    [
        ("]I1\na.", "not a dict of tensors"),
        (state_dict(epoch="I3\n"), "'epoch' is not a tensor"),
        (state_dict(model="}"), "'model' is not a tensor"),
        ("}I1\n" + tensor() + "s.", "'1' is not a tensor"),
        ("}Vw\n(Vmodule\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQs.", "not a tensor.s storage"),
        ("}Vw\n(Vstorage\nVFloatStorage\nV0\nVcpu\nI6\ntQs.", "not a tensor.s storage"),
        ("}Vw\n(Vstorage\nctorch\nFloatStorage\nI0\nVcpu\nI6\ntQs.", "without a name"),
        ("}Vw\nVstorage\nQs.", "Cannot read"),
        ("}Vw\nctorch._utils\n_rebuild_tensor_v2\n(I0\nI0\n))tRs.", "without a storage"),
        ("}Vw\nctorch._utils\n_rebuild_parameter\n(NI01\nNtRs.", "not a tensor"),
        ("}Vw\nctorch\nload\n(Vx\ntRs.", "torch.load"),
        ("}Vw\nctorch._utils\n_rebuild_tensor_v2.__globals__\ns.", "__globals__"),
        ("}Vw\nctorch\nFloatStorage\n(I9\ntRs.", "calls torch.FloatStorage"),
        (state_dict(w=tensor() + "(I0\nI7\nu"), "read-only"),
        (state_dict(w=tensor("Half", count=12) + "(I0\nI0\ntb"), "corrupt"),
        ("(Vstorage\nctorch\nHalfStorage\nV0\nVcpu\nI12\ntQI0\nI7\ns.", "read-only"),
        (state_dict(w=tensor(shape=(0,), strides=(1,)) + "I0\nI7\ns"), "read-only"),
        ("", "Cannot read"),
    ],
)
def test_other_contents_are_refused(pickle, match, tmp_path):
    assert_refused(write(tmp_path / "x.bin", pickle), match)


def test_a_call_of_the_shell_is_refused_and_leaves_no_trace(tmp_path):
    trace = tmp_path / "trace"
    pickle = state_dict(w=f"cposix\nsystem\n(Vtouch {trace}\ntR")
    assert_refused(write(tmp_path / "x.bin", pickle), "posix.system")
    assert not trace.exists()


def test_the_old_format_is_refused_with_advice(tmp_path):
    path = tmp_path / "x.bin"
    # PyTorch's first format begins with this number, pickled, and its version, 1001.
    magic = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
    path.write_bytes(b"\x80\x02\x8a\x0a" + magic + b".\x80\x02M\xe9\x03.")
    assert_refused(path, r"before version 1\.6.*weights_only=True")


def test_a_compressed_archive_is_refused(tmp_path):
    zeros = {"0": bytes(10_000_000)}
    path = write(tmp_path / "x.bin", state_dict(), zeros, compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    assert_refused(path, "compressed")


def test_an_archive_that_claims_more_than_it_has_is_refused(tmp_path):
    path = write(tmp_path / "x.bin", state_dict(w=tensor()))
    data = bytearray(path.read_bytes())
    # In the central directory, 20 bytes into an entry: the compressed and the full size.
    line = data.rindex(b"PK\x01\x02", 0, data.rindex(b"archive/data/0"))
    assert struct.unpack_from("<II", data, line + 20) == (24, 24)
    struct.pack_into("<II", data, line + 20, 2**31, 2**31)
    path.write_bytes(data)
    assert_refused(path, "claim more bytes")


def test_overlapping_entries_are_refused(tmp_path):
    path = write(tmp_path / "x.bin", state_dict(), {str(key): bytes(1000) for key in range(20)})
    file = io.BytesIO(path.read_bytes())
    with zipfile.ZipFile(file, "a") as archive:
        for info in archive.infolist()[2:]:
            info.header_offset = archive.infolist()[1].header_offset
        archive.writestr("archive/last", "")
    data = file.getvalue()
    start = data.index(b"PK\x03\x04", 2000)
    end = data.index(b"PK\x01\x02")
    contents = bytearray(data[:start] + data[end:])
    place = contents.rindex(b"PK\x05\x06") + 16
    struct.pack_into("<I", contents, place, start)
    path.write_bytes(contents)
    assert_refused(path, "claim more bytes")


@pytest.mark.parametrize("byte_order", ["middle", "", "littlelittle"])
def test_an_unknown_byte_order_is_refused(byte_order, tmp_path):
    path = write(tmp_path / "x.bin", state_dict(w=tensor()), byte_order=byte_order)
    assert_refused(path, "byte order")


def test_other_zip_files_are_refused(tmp_path):
    path = tmp_path / "x.bin"
    np.savez(path.with_suffix(".npz"), w=FLOATS)
    path.with_suffix(".npz").rename(path)
    assert_refused(path, "without the one entry data.pkl")


@pytest.mark.parametrize("data", [b"", b"no zip file", b"\x80\x04N."])
def test_other_files_are_refused(data, tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    assert_refused(path, "not written by torch.save")


def test_a_missing_file_is_refused(tmp_path):
    assert_refused(tmp_path / "absent.bin", "No such file")


def test_every_truncated_file_is_refused(tmp_path):
    path = tmp_path / "x.bin"
    data = REAL.read_bytes()
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        assert_refused(path, "truncated")


def test_damaged_files_raise_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.bin"
    data = REAL.read_bytes()
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        for place in rng.integers(len(data), size=3):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_torch(path)
        except UserError as error:
            assert re.match(f"Cannot read {path}", str(error))
            refused += 1
    assert refused > 100
