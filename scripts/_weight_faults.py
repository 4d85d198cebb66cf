"""Hostile and damaged weights of every format.

They have to be refused, or else to be harmless: what they name is never called, and whatever answer
they give consists of numbers.
"""

import functools
import json
import math
import os
import pickle
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy

import perceiver_io
from perceiver_io.models.architectures import build
from perceiver_io.pretrained.formats.safetensors_files import read_folder
from perceiver_io.pretrained.mapping import Arrays
from perceiver_io.pretrained.preparation import default
from perceiver_io.pretrained.published import Weights, save_huggingface, save_portable, to_tree
from perceiver_io.runtime import setup
from scripts._checkpoint_faults import WAYS
from scripts._fault_cases import Case, WrongError

Edit = Callable[[Path], None]
"""Changes a sound folder of weights."""

_PICKLE = "params.pkl"
_SAFETENSORS = "model.safetensors"
_TORCH = "pytorch_model.bin"
_ATTEND = dict(num_heads=1, use_query_residual=True)
# A model that both published families have.
_SECTION = dict(
    name="perceiver_io_classifier",
    num_classes=3,
    inputs=dict(name="learned_pixels", image_size=(8, 8), channels=256),
    encoder=dict(
        num_latents=4,
        latent_dim=8,
        num_blocks=2,
        cross_attend=_ATTEND,
        latent_stack=dict(num_layers=1, num_heads=2),
    ),
    decoder=dict(cross_attend=_ATTEND),
)
# What the pickles of the original family do not state.
_UNSTATED = dict(num_heads=2, num_blocks=2)
_IMAGE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)

_NUM_FLIPS = 4
_SIZES = {
    "huggingface": ("num_blocks", "num_self_attention_heads", "image_size"),
    "torch": ("num_blocks",),
    "portable": ("model/num_classes", "model/encoder/latent_dim", "model/encoder/num_blocks"),
}
_NO_SIZES = (0, -1, 10**9, 10**30, math.nan, math.inf, 1.5, "4", None, True, [4], {})
_NO_JSON = {
    "no JSON": b"{",
    "no object": b"[]",
    "deep JSON": b"[" * 100_000,
    "a long number": b'{"num_blocks": ' + b"9" * 100_000 + b"}",
    "no text": b"\xff\xfe\x00",
}
_NO_PICKLES = {
    "INST": b"(Vtrue\niposix\nsystem\n.",
    "OBJ": b"(cnumpy\nndarray\nI0\no.",
    "NEWOBJ": b"cbuiltins\nlist\n)\x81.",
    "EXT1": b"\x82\x01.",
    "PERSID": b"Pabc\n.",
    "a state": b"cnumpy\ndtype\n}b.",
    "globals": b"cnumpy._core.multiarray\n_reconstruct.__globals__\n.",
    "a high memo index": b"I7\nr\xff\xff\xff\xff.",
    "deep lists": b"]" * 200_000 + b"a" * 199_999 + b".",
    "deep keys": b"})" + b"\x85" * 19_999 + b"Ns.",
    "a list in itself": b"]q\x00h\x00a.",
    "a long frame": b"\x80\x04\x95" + (2**62).to_bytes(8, "little") + b"N.",
    "a long text": b"\x80\x04\x8d" + (2**62).to_bytes(8, "little") + b"abc.",
    "long": b"N" * 1_000_001 + b".",
    "no stack": b"R.",
    "a number": b"I7\n.",
}
_NO_TENSORS: dict[str, dict[str, Any]] = {
    "data beyond the end": dict(data_offsets=[0, 10**12]),
    "data before the start": dict(data_offsets=[-4, 0]),
    "data backwards": dict(data_offsets=[8, 0]),
    "no data": dict(data_offsets=[0, 0]),
    "a large shape": dict(shape=[2**40]),
    "an overflowing shape": dict(shape=[2**32, 2**32]),
    "a negative shape": dict(shape=[-1]),
    "many axes": dict(shape=[1] * 10_000),
    "an unknown type": dict(dtype="X"),
    "8-bit floats": dict(dtype="F8_E4M3"),
    "no type": dict(dtype=None),
}
_NO_SHARDS = (
    "../model.safetensors",
    "/dev/zero",
    "..",
    "",
    "absent.safetensors",
    "a\0.safetensors",
)


def weight_cases(folder: Path) -> Iterator[Case]:
    """All hostile and damaged weights; `folder` is for them and for the traces that they leave."""
    model = build(_SECTION)
    params, state = jax.jit(functools.partial(setup.initialise, model, 0))()
    weights = Weights(_SECTION, params, state, default(_SECTION))
    trace = folder / "trace"
    original, huggingface, torch, portable = (
        folder / name for name in ("original", "huggingface", "torch", "portable")
    )
    original.mkdir()
    (original / _PICKLE).write_bytes(pickle.dumps(_plain(to_tree(weights, "imagenet_learned"))))
    save_huggingface(huggingface, weights)
    save_portable(portable, weights)
    shutil.copytree(huggingface, torch, ignore=shutil.ignore_patterns(_SAFETENSORS))
    _, arrays = read_folder(huggingface)
    _write_torch(torch / _TORCH, _state_dict(arrays), arrays)
    hostile = {
        original: _pickles(trace),
        huggingface: _headers() | _shards() | _values() | _configs(huggingface),
        torch: _archives(trace, arrays) | _configs(torch),
        portable: _values() | _configs(portable),
    }
    for sound, edits in hostile.items():
        for name, edit in (edits | _damages(sound)).items():
            yield Case(sound.name, name, functools.partial(_answer, sound, edit, trace))


def calls(trace: Path) -> dict[str, Any]:
    """Objects whose pickles call something that leaves a trace."""
    path = str(trace)
    return {
        "os.system": _Call(os.system, f"touch {path}"),
        "subprocess.call": _Call(subprocess.call, ["touch", path]),
        "eval": _Call(eval, f"open({path!r}, 'w')"),
        "exec": _Call(exec, f"open({path!r}, 'w')"),
        "open": _Call(open, path, "w"),
        "os.mkdir": _Call(os.mkdir, path),
        "partial": _Call(functools.partial(os.mkdir, path)),
        "shutil": _Call(shutil.copyfile, __file__, path),
        "zipfile": _Call(zipfile.ZipFile, path, "w"),
        "numpy.memmap": _Call(np.memmap, path, "u1", "w+", 0, (1,)),
        "pickle.loads": _Call(pickle.loads, pickle.dumps(_Call(os.mkdir, path))),
    }


class _Call:
    """Pickles as a call of a function."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def _answer(sound: Path, edit: Edit, trace: Path) -> str:
    """Loads an edited copy of weights and classifies an image."""
    copy = Path(shutil.copytree(sound, sound.with_name("edited")))
    try:
        edit(copy)
        is_original = sound.name == "original"
        path, settings = (copy / _PICKLE, _UNSTATED) if is_original else (copy, {})
        found = perceiver_io.load(path, **settings).predict([_IMAGE], top_k=3)
        if not np.isfinite(found.probabilities).all():
            raise WrongError(f"answers {found.probabilities}")
        return "answered"
    finally:
        shutil.rmtree(copy)
        if trace.exists():
            raise WrongError("code was executed")


def _damages(sound: Path) -> dict[str, Edit]:
    """Each file, damaged in all ways, and with single bits flipped at random."""
    rng, edits = np.random.default_rng(0), {}
    for path in sorted(sound.iterdir()):
        for way in WAYS:
            edits[f"{path.name} {way.__name__}"] = _in(path.name, way)
        for bit in rng.integers(0, 8 * path.stat().st_size, _NUM_FLIPS):
            edits[f"{path.name} bit {bit}"] = _in(path.name, functools.partial(_flip, bit=int(bit)))
    return edits


def _pickles(trace: Path) -> dict[str, Edit]:
    """Calls in all kinds of pickles, and misuse of other opcodes."""
    called = {
        f"{name}, protocol {protocol}": pickle.dumps({"module": {"w": call}}, protocol)
        for name, call in calls(trace).items()
        for protocol in (0, 2, 5)
    }
    return {name: _content(_PICKLE, data) for name, data in (called | _NO_PICKLES).items()}


def _archives(trace: Path, arrays: Arrays) -> dict[str, Edit]:
    """The same within files of PyTorch, and damaged archives."""
    called = {name: pickle.dumps({"w": call}, 2) for name, call in calls(trace).items()}
    edits: dict[str, Edit] = {
        name: _in(_TORCH, functools.partial(_write_torch, pickled=data, arrays=arrays))
        for name, data in (called | _NO_PICKLES).items()
    }
    sound = functools.partial(_write_torch, pickled=_state_dict(arrays), arrays=arrays)
    zeros = {name: np.zeros_like(array) for name, array in arrays.items()}
    return edits | {
        "compressed": _in(_TORCH, functools.partial(sound, compression=zipfile.ZIP_DEFLATED)),
        "a bomb": _in(
            _TORCH,
            functools.partial(
                sound, arrays={"bomb": np.zeros(10**8, "u1")}, compression=zipfile.ZIP_DEFLATED
            ),
        ),
        "no storages": _in(_TORCH, functools.partial(sound, arrays={})),
        "zeros": _in(_TORCH, functools.partial(sound, arrays=zeros)),
        "NaN": _in(
            _TORCH,
            functools.partial(sound, arrays={name: x + np.nan for name, x in arrays.items()}),
        ),
        "the old format": _content(
            _TORCH, b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
        ),
    }


def _headers() -> dict[str, Edit]:
    """Headers of safetensors that lie."""
    edits: dict[str, Edit] = {
        name: _in(_SAFETENSORS, functools.partial(_edit_header, change=change))
        for name, change in _NO_TENSORS.items()
    }
    for length in (0, 10**9, 2**63 - 1, 2**64 - 1):
        data = length.to_bytes(8, "little") + b"{}"
        edits[f"a header of {length}"] = _content(_SAFETENSORS, data)
    for name, text in _NO_JSON.items():
        edits[f"header: {name}"] = _content(_SAFETENSORS, len(text).to_bytes(8, "little") + text)
    return edits


def _shards() -> dict[str, Edit]:
    """Indices of shards that lead elsewhere."""

    def edit(folder: Path, shard: str) -> None:
        (folder / _SAFETENSORS).unlink()
        index = {"weight_map": {"perceiver.embeddings.latents": shard}}
        (folder / f"{_SAFETENSORS}.index.json").write_text(json.dumps(index))

    return {f"shard {shard!r}": functools.partial(edit, shard=shard) for shard in _NO_SHARDS}


def _values() -> dict[str, Edit]:
    """Arrays of other values, shapes and types."""
    changes: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "NaN": lambda x: x + np.nan,
        "one NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 0, np.nan, x),
        "infinite": lambda x: x + np.inf,
        "large": lambda x: np.full_like(x, 3e38),
        "0": np.zeros_like,
        "transposed": np.transpose,
        "with another axis": lambda x: x[None],
        "empty": lambda x: x[:0],
        "integers": lambda x: x.astype(np.int32),
        "booleans": lambda x: x > 0,
    }

    def edit(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
        _, arrays = read_folder(folder)
        changed = {name: np.ascontiguousarray(change(x)) for name, x in arrays.items()}
        safetensors.numpy.save_file(changed, folder / _SAFETENSORS)

    return {f"arrays: {name}": functools.partial(edit, change=x) for name, x in changes.items()}


def _configs(sound: Path) -> dict[str, Edit]:
    """Sizes that are none, names that the model does not have, and files that are no JSON."""
    edits: dict[str, Edit] = {}
    for name in _SIZES[sound.name]:
        for value in _NO_SIZES:
            edits[f"{name}={value}"] = _json("config.json", name, value)
    for file in (path.name for path in sound.glob("*.json")):
        for name, text in _NO_JSON.items():
            edits[f"{file}: {name}"] = _content(file, text)
    wrong = {
        "config.json": {
            "architectures": (["os.system"], "PerceiverForMaskedLM", [], None),
            "id2label": ({"0": "a"}, ["a", "b", "c"], {"x": 1, "y": 2, "z": 3}),
            "preparation": ({}, [], None),
            "model/name": ("os.system", "convnet_classifier", None),
            "model/inputs/name": ("os.system", "fourier_pixels", 3),
            "preparation/mean": ((math.nan,) * 3, (0.5,), "text", None),
            "preparation/std": ((0.0,) * 3, (math.inf,) * 3, (-1.0,) * 3),
            "preparation/resample": ("os.system", 3, None),
            "preparation/evaluation_crop": (0, math.nan, 10**9, None),
            "preparation/image_shape": ((10**9, 10**9, 3), (0, 0, 3), (8, 8, 1), None),
            "preparation/normalization": ((math.nan,) * 3, ((0.5,) * 3, (0.0,) * 3), 3),
            "preparation/class_names": (("a",), "abc", 3),
        },
        "preprocessor_config.json": {
            "image_mean": ([math.nan] * 3, [0.5], "text", None),
            "image_std": ([0.0] * 3, [math.inf] * 3, [-1.0] * 3),
            "size": ({"height": 10**9, "width": 10**9}, {"height": 0, "width": 0}, 8, None),
            "crop_size": ({"height": -8, "width": -8}, {}, "text"),
            "resample": (99, "bicubic", None),
        },
    }
    for file, entries in wrong.items():
        content = json.loads((sound / file).read_text()) if (sound / file).exists() else {}
        for name, values in entries.items():
            if name.partition("/")[0] in content:
                for number, value in enumerate(values, 1):
                    edits[f"{file}: {name}, {number}"] = _json(file, name, value)
    return edits


def _in(name: str, change: Edit) -> Edit:
    """Changes one file of a folder."""
    return lambda folder: change(folder / name)


def _content(name: str, data: bytes) -> Edit:
    """Replaces the content of a file."""
    return lambda folder: (folder / name).write_bytes(data)


def _json(file: str, name: str, value: Any) -> Edit:
    """Sets an entry `a/b/c` in a JSON file."""

    def edit(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        *sections, last = name.split("/")
        functools.reduce(dict.__getitem__, sections, content)[last] = value
        (folder / file).write_text(json.dumps(content))

    return edit


def _flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def _edit_header(path: Path, change: dict[str, Any]) -> None:
    """Changes what the header of a safetensors file says of the first tensor."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    first = next(name for name in header if name != "__metadata__")
    header[first] |= change
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def _state_dict(arrays: Arrays) -> bytes:
    """What torch.save pickles of float32 tensors, each of which has a storage of its name."""
    pickled = "ccollections\nOrderedDict\n)R"
    for name, array in arrays.items():
        storage = f"(Vstorage\nctorch\nFloatStorage\nV{name}\nVcpu\nI{array.size}\ntQ"
        strides = [stride // array.itemsize for stride in array.strides]
        shape, steps = ("(" + "".join(f"I{x}\n" for x in xs) + "t" for xs in (array.shape, strides))
        tensor = f"({storage}I0\n{shape}{steps}I00\nccollections\nOrderedDict\n)RtR"
        pickled += f"V{name}\nctorch._utils\n_rebuild_tensor_v2\n{tensor}s"
    return f"{pickled}.".encode()


def _write_torch(
    path: Path, pickled: bytes, arrays: Arrays, compression: int = zipfile.ZIP_STORED
) -> None:
    """Writes the archive of torch.save."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, array in arrays.items():
            archive.writestr(f"archive/data/{name}", array.tobytes())


def _plain(tree: Mapping[str, Any]) -> dict[str, Any]:
    """With NumPy's arrays, as published."""
    return jax.tree.map(np.asarray, tree)
