"""Model folders in the layout of Hugging Face: config.json, and weights in one or more files."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.torch_files import read_torch
from perceiver_io.pretrained.formats.unpickler import refusing

_CONFIG = "config.json"
_SAFETENSORS = "model.safetensors"
_TORCH = "pytorch_model.bin"
_EXPECTED = "Download the folder of the model again."
# NumPy's element types, by the format's names, all of them little-endian.
_DTYPES = {
    **{"BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4"},
    **{"U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"},
    "BF16": ml_dtypes.bfloat16,
}
_HALF_PRECISION = (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))


def read_folder(path: str | Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Reads the config and the weights of a model in the layout of Hugging Face.

    The weights are read from the first of these that exists: `model.safetensors`, the shards listed
    in `model.safetensors.index.json`, `pytorch_model.bin`, the shards listed in
    `pytorch_model.bin.index.json`. Half precision becomes float32. Arrays may share memory and
    be read-only; those of safetensors files in full precision are read when they are used.

    Returns:
        The contents of `config.json`, and all arrays by name.

    Raises UserError if the folder, its config or its weights are missing, incomplete or corrupt.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(
            f"There is no folder {folder}: give the folder with the model's config.json."
        )
    config = read_json(folder / _CONFIG)
    readers = {_SAFETENSORS: _read_safetensors, _TORCH: read_torch}
    for name, reader in readers.items():
        index = folder / f"{name}.index.json"
        if (folder / name).exists():
            return config, reader(folder / name)
        if index.exists():
            return config, _read_shards(index, reader, suffix=Path(name).suffix)
    raise UserError(
        f"The folder {folder} has no weights: neither {_SAFETENSORS} nor {_TORCH}, nor the "
        "index.json of either. Download all files of the model into it."
    )


def write_folder(
    path: str | Path,
    config: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    more: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    max_shard_bytes: float = 5e9,
) -> None:
    """Writes a model in the layout of Hugging Face, for `read_folder` and other readers.

    The folder appears only when it is complete.

    Args:
        path: a folder that does not exist yet, or is empty.
        config: the contents of `config.json`, serialisable as JSON.
        arrays: numeric arrays by name.
        more: contents of further JSON files, by file name.
        max_shard_bytes: maximum bytes of arrays per file; further arrays go into further files.

    Raises UserError if the folder has files in it, or cannot be written.
    """
    folder = Path(os.path.abspath(path))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{folder} exists and is not an empty folder: choose another, or remove it."
        )
    temporary = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        for name, content in {_CONFIG: config, **more}.items():
            _write_json(temporary / name, content)
        _write_arrays(temporary, arrays, max_shard_bytes)
        temporary.replace(folder)
    except (OSError, safetensors.SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"Cannot write the folder {folder}: {reason}. Choose another, or free some space there."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError if the file is missing or holds none."""
    with refusing(path, _EXPECTED):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    with refusing(path, _EXPECTED):
        try:
            with safetensors.safe_open(path, framework="np"):
                arrays = _mapped(path)
        except (safetensors.SafetensorError, KeyError) as error:
            raise ValueError(str(error)) from error
        return {
            name: array.astype(np.float32) if array.dtype in _HALF_PRECISION else array
            for name, array in arrays.items()
        }


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that the library accepts, read from the disk when they are used.

    Raises KeyError for element types that NumPy does not have.
    """
    data = np.asarray(np.memmap(path, np.uint8, "r"))
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header = json.loads(data[8:start].tobytes())
    header.pop("__metadata__", None)

    def array(dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
        first, last = (start + offset for offset in data_offsets)
        return data[first:last].view(_DTYPES[dtype]).reshape(shape)

    return {name: array(**entry) for name, entry in header.items()}


def _read_shards(index: Path, reader: Any, suffix: str) -> dict[str, np.ndarray]:
    weight_map: Any = read_json(index).get("weight_map")
    _check_weight_map(weight_map, index, suffix)
    arrays = {}
    for shard in sorted(set(weight_map.values())):
        wanted = {name for name, file in weight_map.items() if file == shard}
        found = reader(index.parent / shard)
        if wanted != set(found):
            raise UserError(
                f"{index.parent / shard} does not have the tensors that {index} lists: missing are "
                f"{listing(sorted(wanted - set(found))[:3])}, unexpected "
                f"{listing(sorted(set(found) - wanted)[:3])}. {_EXPECTED}"
            )
        arrays.update(found)
    return arrays


def _check_weight_map(weight_map: Any, index: Path, suffix: str) -> None:
    """Raises UserError unless it maps each tensor to the name of a file next to the index."""
    if not isinstance(weight_map, dict) or not weight_map:
        raise UserError(f"{index} has no weight_map from tensors to files. {_EXPECTED}")
    for shard in weight_map.values():
        # Any path, even a relative one, could be made to lead outside the folder.
        is_plain = isinstance(shard, str) and not set(shard) & set("/\\:\0")
        if not is_plain or not shard.endswith(suffix):
            raise UserError(
                f"{index} refers to {str(shard)[:100]!r}, which is not the plain name of a file "
                f"*{suffix} in the same folder. {_EXPECTED}"
            )


def _write_arrays(folder: Path, arrays: Mapping[str, np.ndarray], max_shard_bytes: float) -> None:
    # The library writes memory as is, so that transposed arrays would be written wrongly.
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    shards = list(_cut(arrays, max_shard_bytes))
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        total_size = sum(array.nbytes for array in arrays.values())
        index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
        _write_json(folder / f"{_SAFETENSORS}.index.json", index)
    else:
        names = [_SAFETENSORS]
    for name, shard in zip(names, shards, strict=True):
        # Other readers require this metadata.
        safetensors.numpy.save_file(shard, folder / name, metadata={"format": "pt"})
        # The library creates files that only their owner can read.
        shutil.copymode(folder / _CONFIG, folder / name)


def _cut(arrays: Mapping[str, np.ndarray], max_bytes: float) -> Iterator[dict[str, np.ndarray]]:
    """Groups consecutive arrays into shards of at most `max_bytes`, or of one larger array."""
    shard: dict[str, np.ndarray] = {}
    size = 0
    for name, array in arrays.items():
        if shard and size + array.nbytes > max_bytes:
            yield shard
            shard, size = {}, 0
        shard[name] = array
        size += array.nbytes
    yield shard
