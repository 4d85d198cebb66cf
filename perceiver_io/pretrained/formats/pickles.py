"""Checkpoints of Haiku models as published by the papers' authors: pickles of nested dicts."""

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_io.pretrained.formats.unpickler import Name, StandIn, as_dict, load_pickle, refusing

_EXPECTED = (
    "Nothing in it was executed. It should be a pickle of nested dicts of NumPy or JAX arrays, as "
    "published for Haiku models: use another file, or download this one again."
)

# NumPy's codes of the admitted element types, with their sizes in bytes.
_ITEM_SIZES = {
    **{"b1": 1, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8},
    **{"f2": 2, "f4": 4, "f8": 8, "c8": 8, "c16": 16, "bfloat16": 2},
}

# NumPy's own limit on axes; and a length of an axis that no array in a file can exceed.
_MAX_AXES = 64
_MAX_SIZE = 2**48


def read_pickle(path: str | Path) -> Any:
    """Reads the pickle of a Haiku checkpoint, without executing anything that it asks for.

    Haiku's mappings and ordered dicts become dicts; JAX arrays become NumPy arrays, contiguous, in
    native byte order, half precision as float32. They may be read-only and share memory.

    Raises UserError, naming the file, if it is missing, truncated, not a pickle, or asks for
    anything but arrays, numbers and text in dicts, lists and tuples.
    """
    path = Path(path)
    with refusing(path, _EXPECTED), path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        # Memory-mapped: with an ordinary file object, a pickle that claims to hold gigabytes would
        # make the unpickler allocate them.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return load_pickle(data, _TABLE)


def decode(data: bytes | bytearray, kind: str, byte_order: str) -> np.ndarray:
    """Decodes bytes to a one-dimensional array in native byte order, half precision as float32.

    Args:
        data: the bytes of a whole number of elements; else ValueError.
        kind: NumPy's type code without the byte order, such as `f4`, or `bfloat16`.
        byte_order: `<` or `>`; for single-byte types also `|`.
    """
    if kind == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        bits = np.frombuffer(data, f"{byte_order}u2").astype(np.uint32) << 16
        return bits.view(np.float32)
    array = np.frombuffer(data, f"{byte_order}{kind}")
    native = np.dtype(np.float32) if kind == "f2" else array.dtype.newbyteorder("=")
    return array.astype(native, copy=False)


class _Dtype(StandIn):
    """Stands for `numpy.dtype(code, align, copy)`; numeric types only."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        # The dtype of bfloat16 is created from its class, all others from a code.
        self.kind = code.name.removeprefix("ml_dtypes.") if type(code) is Name else code
        # The type is checked first, since hashing a deeply nested tuple overflows the C stack.
        if type(self.kind) is not str or self.kind not in _ITEM_SIZES:
            shown = self.kind[:20] if type(self.kind) is str else type(self.kind).__name__
            raise ValueError(f"it has arrays of the non-numeric type {shown!r}")
        self.item_size = _ITEM_SIZES[self.kind]
        self.byte_order = "|"

    def __setstate__(self, state: Any) -> None:
        _, byte_order, *rest = state
        if byte_order not in ("<", ">", "|") or any(part is not None for part in rest[:3]):
            raise ValueError("it has arrays of an unknown byte order, or of several fields")
        if byte_order == "|" and self.item_size > 1:
            raise ValueError("it has arrays without a byte order")
        self.byte_order = byte_order


class _Array(StandIn):
    """Stands for an array that NumPy creates empty and then fills with `__setstate__`."""

    def __init__(self) -> None:
        self._parts: tuple | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.set_parts(data, dtype, shape, "F" if fortran else "C", None)

    def set_parts(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any) -> None:
        """Takes arguments as NumPy's `_frombuffer`; with order `K`, `axes` transpose the result."""
        if type(shape) is not tuple or len(shape) > _MAX_AXES:
            raise ValueError("it has an array without a shape")
        if any(type(size) is not int or not 0 <= size < _MAX_SIZE for size in shape):
            raise ValueError("it has an array with invalid sizes in its shape")
        _check_numbers(data, dtype, math.prod(shape))
        self._parts = data, dtype, shape, order, axes

    def value(self) -> np.ndarray:
        if self._parts is None:
            raise ValueError("it has an array without data")
        data, dtype, shape, order, axes = self._parts
        array = decode(_as_bytes(data), dtype.kind, dtype.byte_order)
        if order == "K":
            return np.asarray(array.reshape(shape).transpose(axes), order="C")
        return np.asarray(array.reshape(shape, order=order), order="C")


def _check_numbers(data: Any, dtype: Any, count: int) -> None:
    if type(dtype) is not _Dtype or type(data) not in (bytes, bytearray, str):
        raise ValueError("it has an array that is not numeric")
    if len(data) != count * dtype.item_size:
        raise ValueError(f"it has an array of {count} numbers with {len(data)} bytes of data")


def _as_bytes(data: bytes | bytearray | str) -> bytes | bytearray:
    return data.encode("latin1") if isinstance(data, str) else data


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if type(kind) is not Name or kind.name != "numpy.ndarray":
        raise ValueError("it has an array of an unknown class")
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> _Array:
    array = _Array()
    array.set_parts(data, dtype, shape, order, axes)
    return array


def _scalar(dtype: Any, data: Any) -> np.generic:
    _check_numbers(data, dtype, 1)
    return decode(_as_bytes(data), dtype.kind, dtype.byte_order)[0]


def _jax_array(function: Any, arguments: Any, state: Any, about: Any) -> _Array:
    """JAX pickles an array as the parts of a NumPy array, and whether it is weakly typed."""
    if type(function) is not Name or function.function is not _reconstruct:
        raise ValueError("it has a JAX array that is not made from a NumPy array")
    array = _reconstruct(*arguments)
    array.__setstate__(state)
    return array


def _encoded(text: Any, encoding: Any) -> str:
    """Bytes as written by protocols 0 to 2. They remain text until an array is made from them."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("it has bytes in an unknown encoding")
    return text


def _no_bytes() -> bytes:
    """Bytes of length 0 as written by protocols 0 to 2."""
    return b""


_TABLE = {
    "collections.OrderedDict": as_dict,
    **dict.fromkeys(
        (
            "haiku._src.data_structures.FlatMap",
            "haiku._src.data_structures.FlatMapping",
            "haiku._src.data_structures.frozendict",
            "haiku._src.data_structures.to_immutable_dict",
        ),
        as_dict,
    ),
    **dict.fromkeys(
        (
            "jax._src.array._reconstruct_array",
            "jax._src.device_array.reconstruct_device_array",
            "jax.interpreters.xla.reconstruct_device_array",
        ),
        _jax_array,
    ),
    "numpy.ndarray": None,
    "ml_dtypes.bfloat16": None,
    "numpy.dtype": _Dtype,
    # The first of each pair is written by NumPy 1, the second by NumPy 2.
    **dict.fromkeys(
        ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), _reconstruct
    ),
    **dict.fromkeys(("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"), _scalar),
    **dict.fromkeys(
        ("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer"), _from_buffer
    ),
    "_codecs.encode": _encoded,
    "__builtin__.bytes": _no_bytes,
}
