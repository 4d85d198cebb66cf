"""Files that are damaged, truncated, too long or not pickles are refused."""

import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.pickles import read_pickle
from tests.pretrained.formats.test_pickles import PROTOCOLS, assert_refused, read


def test_a_high_memo_index_is_refused(tmp_path):
    # Python's own reader allocates memory for all lower indices.
    assert_refused(b"I7\nr\xff\xff\xff\xff.", tmp_path, "memo slot 4294967295")


@pytest.mark.parametrize("length", [2**40, 2**62, 3])
def test_frames_that_hide_instructions_are_refused(length, tmp_path):
    # Python's own reader drops the rest of a frame at an instruction that reaches beyond its end,
    # so that it does not continue with the next bytes.
    hidden = b"r\xff\xff\xff\xff."
    text = b"X" + len(hidden).to_bytes(4, "little") + hidden
    frame = b"\x95" + length.to_bytes(8, "little")
    assert_refused(frame + text + b".", tmp_path, "Cannot read")
    outer = b"\x95" + (len(frame + text) + 1).to_bytes(8, "little")
    assert_refused(outer + frame + text + b".", tmp_path, "across the end of a frame")


@pytest.mark.parametrize(
    "data, match",
    [
        (b"]" * 200_000 + b"a" * 199_999 + b".", "nested too deeply"),
        (b"})" + b"\x85" * 200_000 + b"Ns.", "20000 tuples"),
        (b"})" + b"\x85" * 19_999 + b"Ns.", "a key that is neither"),
        (b"cnumpy\ndtype\n()" + b"\x85" * 19_999 + b"tR.", "non-numeric"),
        (b"]q\x00h\x00a.", "nested too deeply"),
        (b"}q\x00Vx\nh\x00s.", "nested too deeply"),
        (b"cnumpy\ndtype\n()" + b"\x85" * 200_000 + b"tR.", "20000 tuples"),
        (b"N" * 1_000_001 + b".", "more than 1000000 opcodes"),
    ],
    ids=[
        *("deep lists", "too deep key", "deep key", "deep type", "list in itself"),
        *("dict in itself", "too deep type", "long"),
    ],
)
def test_bombs_are_refused(data, match, tmp_path):
    assert_refused(data, tmp_path, match)


@pytest.mark.slow
def test_doubling_lists_are_refused(tmp_path):
    data = b"]" + b"".join(b"q%c(h%ch%cl" % (i, i, i) for i in range(90))
    assert_refused(b"(" + data + b"t.", tmp_path, "nested too deeply")


def test_many_arrays_of_the_same_bytes_are_refused(tmp_path):
    state = np.zeros(10_000, np.float32).__reduce__()[2]
    empty = (np.ndarray, (0,), b"b")
    reconstruct = np.zeros(1).__reduce__()[0]

    class Array:
        def __reduce__(self):
            return reconstruct, empty, state

    one, many = (pickle.dumps([Array() for _ in range(count)]) for count in (1, 100))
    assert len(many) < 2 * len(one)
    assert read(one, tmp_path)[0].shape == (10_000,)
    assert_refused(many, tmp_path, "larger than the file")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_truncated_file_is_refused(protocol, tmp_path):
    data = pickle.dumps({"w": jnp.ones((2, 2)), "b": np.float32(1), "n": (1, [2])}, protocol)
    for length in range(len(data)):
        assert_refused(data[:length], tmp_path, "Cannot read")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_damaged_files_raise_nothing_else(protocol, tmp_path):
    rng = np.random.default_rng(protocol)
    data = pickle.dumps({"w": jnp.ones((2, 2)), "b": np.ones(2, ">f2"), "n": (1, [2])}, protocol)
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        for place in rng.integers(len(data), size=rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            read(bytes(damaged), tmp_path)
        except UserError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("data", [b"", b"no pickle at all", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04"])
def test_other_files_are_refused(data, tmp_path):
    assert_refused(data, tmp_path, "Cannot read")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "absent.pkl", tmp_path):
        with pytest.raises(UserError, match=f"Cannot read {path}"):
            read_pickle(path)
