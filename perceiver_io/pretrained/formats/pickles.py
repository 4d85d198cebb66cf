"""Checkpoints of Haiku models as the papers' authors publish them: pickles of nested dicts."""

import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_io.pretrained.formats.unpickler import Name, StandIn, as_dict, load_pickle, refusing

_EXPECTED = (
    "Nothing in it was executed. It should be a pickle of nested dicts of NumPy or JAX arrays, as "
    "published for Haiku models: take another file, or download this one again."
)

# NumPy's codes of the kinds of numbers that arrays may have, and the size of one in bytes.
_ITEM_SIZES = {
    **{"b1": 1, "i1": 1, "i2": 2, "i4": 4, "i8": 8, "u1": 1, "u2": 2, "u4": 4, "u8": 8},
    **{"f2": 2, "f4": 4, "f8": 8, "c8": 8, "c16": 16, "bfloat16": 2},
}

# NumPy's own limit, and more than any array that fits into a file has along one axis.
_MAX_AXES = 64
_MAX_SIZE = 2**48


def read_pickle(path: str | Path) -> Any:
    """What a pickle of a Haiku checkpoint holds, without running anything it asks for.

    Haiku's mappings and ordered dicts come out as dicts, JAX arrays as NumPy arrays: contiguous, in
    the machine's byte order, half precision as float32. They may be read-only and share memory.

    Raises UserError, naming the file, if it is missing, truncated, no pickle, or asks for anything
    but arrays, numbers and text in dicts, lists and tuples.
    """
    path = Path(path)
    with refusing(path, _EXPECTED), path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("it is empty")
        # Mapped, since a file that claims gigabytes would have an ordinary file make room for them.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return load_pickle(data, _TABLE)


def decode(data: bytes | bytearray, kind: str, byte_order: str) -> np.ndarray:
    """Numbers from their bytes: one axis, in the machine's byte order, half precision as float32.

    Args:
        data: as many bytes as whole numbers need, else ValueError.
        kind: NumPy's code without the byte order, such as `f4`, or `bfloat16`.
        byte_order: `<` or `>`; for single bytes also `|`.
    """
    if kind == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        bits = np.frombuffer(data, f"{byte_order}u2").astype(np.uint32) << 16
        return bits.view(np.float32)
    array = np.frombuffer(data, f"{byte_order}{kind}")
    native = np.dtype(np.float32) if kind == "f2" else array.dtype.newbyteorder("=")
    return array.astype(native, copy=False)


class _Dtype(StandIn):
    """Stands for `numpy.dtype(code, align, copy)`, of numbers only."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        # That of bfloat16 is made from its class, all others from a code.
        self.kind = code.name.removeprefix("ml_dtypes.") if type(code) is Name else code
        # Text first: to look up a deeply nested tuple, for one, overflows the C stack.
        if type(self.kind) is not str or self.kind not in _ITEM_SIZES:
            shown = self.kind[:20] if type(self.kind) is str else type(self.kind).__name__
            raise ValueError(f"it has arrays of the type {shown!r}, not of numbers")
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
    """Stands for an array that NumPy makes empty, and then fills with `__setstate__`."""

    def __init__(self) -> None:
        self._parts: tuple | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.set_parts(data, dtype, shape, "F" if fortran else "C", None)

    def set_parts(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any) -> None:
        """As NumPy's `_frombuffer` takes them: with order `K`, `axes` transpose the result."""
        if type(shape) is not tuple or len(shape) > _MAX_AXES:
            raise ValueError("it has an array without a shape")
        if any(type(size) is not int or not 0 <= size < _MAX_SIZE for size in shape):
            raise ValueError("it has an array whose shape is not made of sizes")
        _check_numbers(data, dtype, math.prod(shape))
        self._parts = data, dtype, shape, order, axes

    def value(self) -> np.ndarray:
        if self._parts is None:
            raise ValueError("it holds an array without its numbers")
        data, dtype, shape, order, axes = self._parts
        array = decode(_as_bytes(data), dtype.kind, dtype.byte_order)
        if order == "K":
            return np.asarray(array.reshape(shape).transpose(axes), order="C")
        return np.asarray(array.reshape(shape, order=order), order="C")


def _check_numbers(data: Any, dtype: Any, count: int) -> None:
    if type(dtype) is not _Dtype or type(data) not in (bytes, bytearray, str):
        raise ValueError("it has an array that is not of numbers")
    if len(data) != count * dtype.item_size:
        raise ValueError(f"an array of {count} numbers comes with {len(data)} bytes")


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
    """JAX pickles an array as the parts of NumPy's, and whether its type is a weak one."""
    if type(function) is not Name or function.function is not _reconstruct:
        raise ValueError("it has a JAX array that is made from no NumPy array")
    array = _reconstruct(*arguments)
    array.__setstate__(state)
    return array


def _encoded(text: Any, encoding: Any) -> str:
    """Bytes as protocols 0 to 2 write them. They stay text until an array is made from them."""
    if type(text) is not str or encoding != "latin1":
        raise ValueError("it has bytes in an unknown encoding")
    return text


def _no_bytes() -> bytes:
    """How protocols 0 to 2 write bytes of length 0."""
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
    # The older of both is what NumPy 1 writes.
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
