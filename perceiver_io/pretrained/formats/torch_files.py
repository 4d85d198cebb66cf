"""Weights saved by PyTorch, `pytorch_model.bin`, read without PyTorch."""

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.pickles import decode
from perceiver_io.pretrained.formats.unpickler import Name, as_dict, load_pickle, refusing

_EXPECTED = (
    "Nothing in it was executed. It should be a state dict written by torch.save, with all tensors "
    "by name: use the model.safetensors of the same model, or download this file again."
)
_MAX_AXES = 64
# PyTorch's first format was a sequence of pickles, the first of which is this number.
_OLD_FORMAT = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"

# The element type of each type of storage; see `decode`.
_STORAGES = {
    "torch.FloatStorage": "f4",
    "torch.DoubleStorage": "f8",
    "torch.HalfStorage": "f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "i8",
    "torch.IntStorage": "i4",
    "torch.ShortStorage": "i2",
    "torch.CharStorage": "i1",
    "torch.ByteStorage": "u1",
    "torch.BoolStorage": "b1",
    "torch.ComplexFloatStorage": "c8",
    "torch.ComplexDoubleStorage": "c16",
}


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the tensors of a file of PyTorch 1.6 or newer, without executing anything in it.

    Half precision becomes float32. Tensors are read-only views of their storages, as in PyTorch, so
    they may share memory and need not be contiguous.

    Raises UserError, naming the file, if it is missing, truncated, of PyTorch's older format, or
    contains anything but tensors by name.
    """
    path = Path(path)
    with refusing(path, _EXPECTED), path.open("rb") as file:
        if file.read(len(_OLD_FORMAT)) == _OLD_FORMAT:
            raise UserError(
                f"Cannot read {path}: it is in the format that PyTorch wrote before version 1.6. "
                "Use the model.safetensors of the same model, or save the file again in the new "
                "format: torch.save(torch.load(path, weights_only=True), path)."
            )
        with _opened(file) as archive:
            return _Archive(archive, path.stat().st_size).state_dict()


def _opened(file: Any) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError("it is truncated, or was not written by torch.save") from error


class _Archive:
    """The zip archive: a pickle of the tensors, and one entry per storage."""

    def __init__(self, archive: zipfile.ZipFile, file_size: int) -> None:
        entries = archive.infolist()
        # PyTorch does not compress. So whatever entries claim, none is larger than the file, nor
        # are all of them together, unless they overlap.
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("it is compressed, which torch.save does not do")
        if sum(entry.file_size for entry in entries) > file_size:
            raise ValueError("its entries claim more bytes than the file has")
        pickles = [name for name in archive.namelist() if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise ValueError("it is a zip file without the one entry data.pkl of torch.save")
        self._archive = archive
        self._names = set(archive.namelist())
        self._folder = pickles[0].removesuffix("data.pkl")
        self._byte_order = self._read_byte_order()
        self._storages: dict[str, tuple[str, np.ndarray]] = {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """All tensors by name. Raises ValueError if the pickle contains anything else."""
        tensors = load_pickle(io.BytesIO(self._read("data.pkl")), _TABLE, self._storage)
        if type(tensors) is not dict:
            raise ValueError("it is not a dict of tensors")
        for name, tensor in tensors.items():
            if type(name) is not str or type(tensor) is not np.ndarray:
                raise ValueError(f"its entry {str(name)[:100]!r} is not a tensor")
        return tensors

    def _read(self, name: str) -> bytes:
        if self._folder + name not in self._names:
            raise ValueError(f"it lacks the entry {name[:100]!r}")
        try:
            return self._archive.read(self._folder + name)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise ValueError(f"its entry {name[:100]!r} is damaged") from error

    def _read_byte_order(self) -> str:
        # PyTorch before 2.1 writes no such entry, and was hardly ever used on big-endian machines.
        if self._folder + "byteorder" not in self._names:
            return "<"
        name = self._read("byteorder")
        if name not in (b"little", b"big"):
            raise ValueError(f"its byte order is {name[:20]!r}, neither little nor big")
        return "<" if name == b"little" else ">"

    def _storage(self, persistent_id: Any) -> np.ndarray:
        """All numbers of a storage; called by the unpickler."""
        tag, kind, key, _, count = persistent_id
        if tag != "storage" or type(kind) is not Name or kind.name not in _STORAGES:
            raise ValueError("it refers to something that is not a tensor's storage")
        if type(key) is not str or type(count) is not int:
            raise ValueError("it has a storage without a name or a size")
        if key not in self._storages:
            numbers = decode(self._read(f"data/{key}"), _STORAGES[kind.name], self._byte_order)
            numbers.flags.writeable = False
            self._storages[key] = kind.name, numbers
        known_kind, numbers = self._storages[key]
        if known_kind != kind.name or len(numbers) != count:
            raise ValueError(
                f"storage {key[:100]!r} has {len(numbers)} numbers as {known_kind}, not {count} as "
                f"{kind.name}"
            )
        return numbers


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> np.ndarray:
    """Stands for `_rebuild_tensor_v2`: a view of a storage that stays within its bounds."""
    if type(storage) is not np.ndarray or storage.ndim != 1:
        raise ValueError("it has a tensor without a storage")
    if type(shape) is not tuple or type(strides) is not tuple or len(shape) > _MAX_AXES:
        raise ValueError("it has a tensor without a shape and strides")
    if any(type(number) is not int or number < 0 for number in (offset, *shape, *strides)):
        raise ValueError("it has a tensor with an invalid offset, shape or strides")
    steps = [(size - 1) * stride for size, stride in zip(shape, strides, strict=True)]
    count = math.prod(shape)
    # A view with more numbers than its storage repeats some, and might be arbitrarily large.
    if count and (offset + sum(steps) >= len(storage) or count > len(storage)):
        raise ValueError(
            f"it has a tensor of {count} numbers that exceeds its storage of {len(storage)}, or "
            "repeats numbers in it (save a contiguous copy instead)"
        )
    if not count:
        return storage[:0].reshape(shape)
    return np.lib.stride_tricks.as_strided(
        storage[offset:], shape, [stride * storage.itemsize for stride in strides], writeable=False
    )


def _parameter(tensor: Any, *_: Any) -> np.ndarray:
    if type(tensor) is not np.ndarray:
        raise ValueError("it has a parameter that is not a tensor")
    return tensor


_TABLE = {
    "collections.OrderedDict": as_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **dict.fromkeys(_STORAGES),
}
