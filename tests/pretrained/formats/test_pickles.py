"""Pickles of Haiku checkpoints: contents are read, code is never run."""

import os
import pickle

import haiku as hk
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from haiku._src import data_structures

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.pickles import read_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NUMBERS = np.arange(24).reshape(2, 3, 4)


def read(data, tmp_path):
    path = tmp_path / "params.pkl"
    path.write_bytes(data)
    return read_pickle(path)


def assert_refused(data, tmp_path, match):
    with pytest.raises(UserError, match=match) as error:
        read(data, tmp_path)
    assert "params.pkl" in str(error.value)


class Call:
    """Pickles as a function call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        *(NUMBERS.astype(code) for code in "?bhilBHILfdFD"),
        NUMBERS.astype(">f4"),
        NUMBERS.astype(">i8"),
        np.asfortranarray(NUMBERS),
        NUMBERS.transpose(1, 0, 2),
        NUMBERS[:, ::2],
        np.array(3.5),
        np.zeros((0, 3), np.float32),
        jnp.arange(6, dtype=jnp.float32).reshape(2, 3),
        jax.random.PRNGKey(3),
    ],
    ids=str,
)
def test_arrays_come_out_native_and_contiguous(array, protocol, tmp_path):
    result = read(pickle.dumps({"w": array}, protocol), tmp_path)["w"]
    assert type(result) is np.ndarray
    assert result.dtype == array.dtype.newbyteorder("=")
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array, strict=result.dtype == array.dtype)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", [np.float16, ">f2", ml_dtypes.bfloat16, jnp.bfloat16])
def test_half_precision_becomes_float32(dtype, protocol, tmp_path):
    values = np.array([[1.5, -0.25, 3e4], [2**-14, np.inf, 0]], np.float32)
    half = values.astype(dtype)
    result = read(pickle.dumps([half, half[0, 0]], protocol), tmp_path)
    assert result[0].dtype == np.float32
    np.testing.assert_array_equal(result[0], half.astype(np.float32))
    assert result[1] == np.float32(1.5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_mappings_become_dicts_and_other_values_stay(protocol, tmp_path):
    tree = {"a/~/b": {"w": np.ones((2, 2)), "b": np.float32(2.5)}}
    mappings = hk.data_structures.to_immutable_dict(tree)
    assert type(mappings) is not dict
    values = [None, True, -3, 2**70, 0.5, "ä", (), (1, (2, "x")), [], [0]]
    result = read(pickle.dumps({"params": mappings, "values": values, 7: {}}, protocol), tmp_path)
    assert type(result["params"]) is type(result["params"]["a/~/b"]) is dict
    np.testing.assert_array_equal(result["params"]["a/~/b"]["w"], tree["a/~/b"]["w"])
    assert result["params"]["a/~/b"]["b"] == np.float32(2.5)
    assert result["values"] == values
    assert result[7] == {}


@pytest.mark.parametrize(
    "today, formerly",
    [
        ("numpy._core.multiarray _reconstruct", "numpy.core.multiarray _reconstruct"),
        ("numpy._core.multiarray scalar", "numpy.core.multiarray scalar"),
        ("jax._src.array _reconstruct_array", "jax._src.device_array reconstruct_device_array"),
        ("jax._src.array _reconstruct_array", "jax.interpreters.xla reconstruct_device_array"),
        ("haiku._src.data_structures FlatMapping", "haiku._src.data_structures FlatMap"),
        ("haiku._src.data_structures FlatMapping", "haiku._src.data_structures frozendict"),
    ],
)
def test_names_of_older_libraries_are_accepted(today, formerly, tmp_path):
    tree = data_structures.to_immutable_dict({"w": jnp.ones(3), "n": np.float32(2)})
    # Protocol 2 writes names as lines.
    today, formerly = (f"c{name}\n".replace(" ", "\n").encode() for name in (today, formerly))
    data = pickle.dumps(tree, 2)
    assert today in data
    result = read(data.replace(today, formerly), tmp_path)
    assert result["n"] == 2
    np.testing.assert_array_equal(result["w"], np.ones(3, np.float32), strict=True)


def test_shared_arrays_stay_shared(tmp_path):
    array = np.ones(5)
    result = read(pickle.dumps([array] * 50), tmp_path)
    assert all(other is result[0] for other in result)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_of_the_shell_is_refused_and_leaves_no_trace(protocol, tmp_path):
    trace = tmp_path / "trace"
    data = pickle.dumps({"w": Call(os.system, f"touch {trace}")}, protocol)
    pickle.loads(data)  # Python's own reader runs it.
    assert trace.exists()
    trace.unlink()
    assert_refused(data, tmp_path, f"{os.name}.system")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    ["haiku._src.data_structures\nFlatMapping", "collections\nOrderedDict", "numpy\ndtype"],
)
def test_a_call_inside_an_allowed_one_is_refused(name, tmp_path):
    trace = tmp_path / "trace"
    data = f"c{name}\n(cposix\nsystem\n(Vtouch {trace}\ntRtR.".encode()
    assert_refused(data, tmp_path, "posix.system")
    assert not trace.exists()


@pytest.mark.parametrize(
    "module, name",
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "getattr"),
        ("functools", "partial"),
        ("copyreg", "_reconstructor"),
        ("copyreg", "add_extension"),
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy", "dtype.__class__"),
        ("numpy.f2py", "compile"),
        ("numpy._core.multiarray", "_reconstruct.__globals__"),
        ("haiku._src.data_structures", "FlatMapping.__init__.__globals__"),
        ("haiku._src.data_structures", "jax"),
        ("", ""),
    ],
)
def test_other_names_are_refused(module, name, tmp_path):
    lines = f"c{module}\n{name}\n.".encode()
    stacked = f"V{module}\nV{name}\n".encode() + b"\x93."
    for data in (lines, stacked):
        assert_refused(data, tmp_path, f"{module}.{name}")


@pytest.mark.parametrize(
    "data, opcode",
    [
        (b"(Vtrue\niposix\nsystem\n.", "INST"),
        (b"(cnumpy\nndarray\nI0\no.", "OBJ"),
        (b"chaiku._src.data_structures\nFlatMapping\n)\x81.", "NEWOBJ"),
        (b"chaiku._src.data_structures\nFlatMapping\n)}\x92.", "NEWOBJ_EX"),
        (b"\x82\x01.", "EXT1"),
        (b"\x83\x01\x00.", "EXT2"),
        (b"\x84\x01\x00\x00\x00.", "EXT4"),
        (b"Pabc\n.", "PERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x05N\x98.", "READONLY_BUFFER"),
        (b"\x80\x04\x8f.", "EMPTY_SET"),
        (b"N20.", "DUP"),
    ],
)
def test_other_instructions_are_refused(data, opcode, tmp_path):
    assert_refused(data, tmp_path, opcode)


@pytest.mark.parametrize(
    "data, match",
    [
        (b"Vabc\nQ.", "outside the file"),
        (b"cnumpy\nndarray\n}b.", "sets the state"),
        (b"cnumpy\ndtype\n}b.", "sets the state"),
        (b"cnumpy\ndtype\nN}Vfunction\nNs\x86b.", "sets the state"),
        (b"]}Vx\nNsb.", "no attribute"),
        (b"cnumpy\nndarray\n)R.", "calls numpy.ndarray"),
        (b"Vabc\n)R.", "not callable"),
        (b"cnumpy\ndtype\n]R.", "must be a tuple"),
        (b"cnumpy\ndtype\n(cnumpy\nndarray\ntR.", "arrays of the non-numeric type"),
        (b"ccollections\nOrderedDict\n(cnumpy\nndarray\ntR.", "not made from a dict"),
        (b"cnumpy\nndarray\n.", "neither an array nor a number"),
        (b"cnumpy\ndtype\n(Vf4\ntR.", "neither an array nor a number"),
        (b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR.", "array without data"),
        (b"cnumpy._core.multiarray\n_reconstruct\n(NNNtR.", "unknown class"),
        (b"cnumpy._core.multiarray\nscalar\n(cnumpy\ndtype\n(VO8\ntRVabc\ntR.", "type 'O8'"),
        (b"cjax._src.array\n_reconstruct_array\n(cnumpy\ndtype\n))}tR.", "made from a NumPy array"),
        (b"}(]I1\nu.", "unhashable"),
        (b"}()I1\nu.", "a key that is neither"),
        (b"V\n(I1\nI2\nu.", "item assignment"),
        (b"Vx\nI2\na.", "no attribute"),
        (b"h\x05.", "not found"),
        (b"R.", "underflow"),
        (b"t.", "MARK"),
        (b"b.", "underflow"),
        (b"I1\nI2\n\x93.", "requires str"),
    ],
)
def test_misused_instructions_are_refused(data, match, tmp_path):
    assert_refused(data, tmp_path, match)


def test_attributes_of_an_ordered_dict_are_ignored(tmp_path):
    result = read(b"ccollections\nOrderedDict\n)R}V__class__\nI1\nsb.", tmp_path)
    assert type(result) is dict
    assert result == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "array",
    [
        np.array([None, {}], object),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.zeros(2, [("a", "f4"), ("b", "i4")]),
        np.zeros(2, "M8[s]"),
        np.zeros(2, "V4"),
        np.zeros(2, "f4").view(np.recarray),
        np.ma.zeros(2),
    ],
    ids=lambda array: f"{type(array).__name__}-{array.dtype}",
)
def test_arrays_other_than_numbers_are_refused(array, protocol, tmp_path):
    assert_refused(pickle.dumps(array, protocol), tmp_path, "Cannot read")


@pytest.mark.parametrize(
    "shape, match",
    [
        (b"K\x02\x85", "an array of 2 numbers with 4 bytes"),
        (b"J\x00\x00\x00\x70J\x00\x00\x00\x70\x86", "with 4 bytes of data"),
        (b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", "invalid sizes"),
        (b"\x88\x85", "invalid sizes"),
        (b"G\x3f\xf0\x00\x00\x00\x00\x00\x00\x85", "invalid sizes"),
        (b"(" + b"K\x01" * 65 + b"t", "without a shape"),
        (b"N", "without a shape"),
    ],
)
def test_shapes_that_do_not_fit_the_bytes_are_refused(shape, match, tmp_path):
    valid = pickle.dumps(np.zeros(1, np.float32), 3)
    # The second is the shape; the first, (0,), is what NumPy writes for the empty array.
    assert valid.count(b"K\x01\x85") == 1
    assert_refused(valid.replace(b"K\x01\x85", shape), tmp_path, match)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"abc.",
        b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"abc.",
        b"\x80\x05\x96" + (2**35).to_bytes(8, "little") + b"abc.",
        b"\x80\x02\x8b" + (2**31 - 1).to_bytes(4, "little") + b"abc.",
        b"I" + b"1" * 10_000 + b"\n.",
    ],
)
def test_lengths_beyond_the_file_are_refused(data, tmp_path):
    assert_refused(data, tmp_path, "Cannot read")
