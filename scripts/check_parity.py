"""Checks that this project computes the same as the published implementations.

    python -m scripts.check_parity [--deepmind=DIR] [--huggingface=DIR] [--trees=FILE.json]

`--deepmind` checks every NAME.params.pkl in the folder, with its sizes in NAME.config.json and
arrays `in_*` and `out_*` in NAME.io.npz. `--huggingface` checks every sub-folder with config.json,
model.safetensors and io.npz. Each model is built in the size of its case, loaded and run in
float32; for every output, the largest absolute difference is printed, also relative to the output's
largest magnitude. `--trees` checks names and shapes of the parameters of full-size models, which
this project's builders must reproduce exactly.

Exits with status 1 if a relative difference is above 1e-4 or a tree differs.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.perceiver.positions import subsampled_coordinates
from perceiver_io.pretrained import deepmind
from perceiver_io.pretrained.mapping import frame_pair
from perceiver_io.pretrained.published import Weights, from_tree, load, to_tree
from perceiver_io.runtime import program

DEEPMIND = flags.DEFINE_string("deepmind", None, "Folder of cases of the original family.")
HUGGINGFACE = flags.DEFINE_string("huggingface", None, "Folder of cases of Hugging Face.")
TREES = flags.DEFINE_string("trees", None, "JSON file of published parameter trees.")

LIMIT = 1e-4
Arrays = Mapping[str, np.ndarray]


class Difference(NamedTuple):
    """The largest difference of one output, absolute and relative to the largest magnitude."""

    output: str
    absolute: float
    relative: float


def main() -> None:
    """Runs the checks given by the flags."""
    if not (DEEPMIND.value or HUGGINGFACE.value or TREES.value):
        raise UserError("Nothing to check: give --deepmind, --huggingface or --trees.")
    jax.config.update("jax_default_matmul_precision", "highest")
    good = True
    for folder, cases, check in (
        (DEEPMIND.value, deepmind_cases, check_deepmind),
        (HUGGINGFACE.value, huggingface_cases, check_huggingface),
    ):
        for case in cases(Path(folder)) if folder else ():
            for found in check(case):
                good &= found.relative <= LIMIT
                print(f"{str(case):60} {found.output:8} {found.absolute:.1e} {found.relative:.1e}")
    if TREES.value:
        trees = json.loads(_existing(Path(TREES.value)).read_text())
        for name, tree in trees.items():
            same = same_tree(name, tree)
            good &= same
            count = f"{tree['num_params']:,} parameters"
            print(f"{name:60} {count:24} {'the same tree' if same else 'ANOTHER TREE'}")
    sys.exit(not good)


def deepmind_cases(folder: Path) -> list[Path]:
    """The pickles of a folder. Raises UserError if there are none."""
    return _found(sorted(folder.glob("*.params.pkl")), folder, "NAME.params.pkl")


def huggingface_cases(folder: Path) -> list[Path]:
    """The sub-folders of a folder that have a config.json. Raises UserError if none does."""
    configs = sorted(folder.glob("*/config.json"))
    return _found([config.parent for config in configs], folder, "NAME/config.json")


def check_deepmind(pickle: Path) -> Iterator[Difference]:
    """Differences of one case of the original family."""
    stem = pickle.name.removesuffix(".params.pkl")
    sizes = json.loads(_existing(pickle.parent / f"{stem}.config.json").read_text())
    io = np.load(_existing(pickle.parent / f"{stem}.io.npz"))
    weights = load(pickle, **settings(sizes))
    if "in_ids" in io:
        mask = io["in_mask"].astype(bool)
        # Queries at padding attend to nothing in the original.
        outputs = run(weights, io["in_ids"], input_mask=mask, query_mask=mask)
    elif "in_audio" in io:
        outputs = run_autoencoder(weights, io["in_images"], io["in_audio"], io)
    else:
        outputs = run(weights, io["in_images"] if "in_images" in io else io["in_frames"])
    return differences(outputs, io)


def settings(sizes: dict[str, Any]) -> dict[str, Any]:
    """The settings for `load` that a checkpoint does not state, from the sizes of a case."""
    names = {
        "heads": "num_heads",
        "blocks": "num_blocks",
        "frames": "num_frames",
        "spf": "samples_per_frame",
    }
    found = {names[key]: value for key, value in sizes.items() if key in names}
    for key, name in (("size", "image_size"), ("maxres", "resolution")):
        if key in sizes:
            found[name] = tuple(np.broadcast_to(sizes[key], 2).tolist())
    return found


def check_huggingface(folder: Path) -> Iterator[Difference]:
    """Differences of one case of Hugging Face, whose images are channels-first."""
    io = np.load(_existing(folder / "io.npz"))
    weights = load(folder)
    builder = weights.model["name"]
    if builder in ("perceiver_io_masked_lm", "perceiver_io_text_classifier"):
        outputs = run(weights, io["in_inputs"], input_mask=io["in_attention_mask"].astype(bool))
    elif builder == "perceiver_io_flow":
        # Its inputs are already neighbourhoods, and its flow is in units of 20 pixels.
        patches = jnp.moveaxis(io["in_inputs"], 2, -1)
        outputs = run(_of_neighbourhoods(weights), patches) / 20
    elif builder == "perceiver_io_autoencoder":
        outputs = run_autoencoder(weights, jnp.moveaxis(io["in_image"], 2, -1), io["in_audio"], io)
    else:
        outputs = run(weights, jnp.moveaxis(io["in_inputs"], 1, -1))
    return differences(outputs, io)


def run(weights: Weights, inputs: Any, **keywords: Any) -> Any:
    """The model's outputs."""
    model = build(weights.model)

    @jax.jit
    def apply(params, state, inputs, keywords):
        return model.apply(params, state, None, inputs=inputs, is_training=False, **keywords)[0]

    return apply(weights.params, weights.model_state, inputs, keywords)


def run_autoencoder(weights: Weights, images: Any, audio: Any, io: Arrays) -> dict[str, Any]:
    """Outputs at the points of a case."""
    audio_section = weights.model["audio"]
    patches = audio_section["num_samples"] // audio_section["samples_per_patch"]
    shape = tuple(weights.model["image"]["shape"])
    query = {
        "image": subsampled_coordinates(jnp.asarray(io["in_image_points"])[None], shape),
        "audio": subsampled_coordinates(jnp.asarray(io["in_audio_points"])[None], (patches,)),
        "label": None,
    }
    return run(weights, {"image": images, "audio": audio}, query=query)


def differences(outputs: Any, io: Arrays) -> Iterator[Difference]:
    """Differences of outputs, an array or arrays by name, from the `out_*` of a case."""
    expected = {name.removeprefix("out_"): io[name] for name in io if name.startswith("out_")}
    if not isinstance(outputs, Mapping):
        outputs = {name: outputs for name in expected}
    for name, wanted in expected.items():
        found = np.asarray(outputs[name], np.float64).reshape(wanted.shape)
        absolute = float(np.abs(found - wanted).max())
        largest = float(np.abs(wanted).max())
        yield Difference(name, absolute, absolute / largest if largest else absolute)


def same_tree(name: str, tree: dict[str, Any]) -> bool:
    """Whether our model with a published tree's sizes has the same modules, names and shapes.

    `from_tree` fails unless our builder creates exactly the given arrays; converted back to the
    published names, they must match the published tree.
    """
    published = {part: zeros(tree[part]) for part in ("params", "state")}
    whole = published if deepmind.KINDS[name].with_state else published["params"]
    back = to_tree(from_tree(whole, name), name)
    count = sum(x.size for x in jax.tree.leaves(published["params"]))
    return (
        jax.tree.map(np.shape, back) == jax.tree.map(np.shape, whole)
        and count == (tree["num_params"])
    )


def zeros(shapes: Mapping[str, Mapping[str, list[int]]]) -> dict[str, dict[str, np.ndarray]]:
    """A tree of zeros of these shapes, which take no memory."""
    return {
        module: {name: np.broadcast_to(np.float32(0), shape) for name, shape in arrays.items()}
        for module, arrays in shapes.items()
    }


def _of_neighbourhoods(weights: Weights) -> Weights:
    """A flow model whose inputs are neighbourhoods of pixels instead of pixels."""
    size = weights.model["neighbourhood"]
    layer = weights.params["frame_pairs/conv"]
    linear = frame_pair(size).to_theirs(np.asarray(layer["w"]))
    params = weights.params | {"frame_pairs/conv": layer | {"w": jnp.asarray(linear[None, None])}}
    return weights._replace(model=weights.model | {"neighbourhood": 1}, params=params)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise UserError(f"{path} is missing: a case needs a model, its sizes and an io.npz.")
    return path


def _found(cases: list[Path], folder: Path, pattern: str) -> list[Path]:
    if not cases:
        raise UserError(f"{folder} has no cases: nothing in it matches {pattern}.")
    return cases


if __name__ == "__main__":
    program.run(main)
