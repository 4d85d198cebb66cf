"""Loads published weights of any family as a model section and its arrays."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from perceiver_io.config.construct import SettingError, listing
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build
from perceiver_io.pretrained import (
    deepmind,
    huggingface,
    huggingface_export,
    huggingface_links,
    portable,
    preparation,
    timm,
)
from perceiver_io.pretrained.formats.pickles import read_pickle
from perceiver_io.pretrained.formats.safetensors_files import read_folder, write_folder
from perceiver_io.pretrained.mapping import (
    Arrays,
    Link,
    Tree,
    check_shapes,
    flat,
    nested,
    renamed,
    restored,
)
from perceiver_io.pretrained.sections import check_settings


class Weights(NamedTuple):
    """A model with its trained arrays.

    model: the config section for `perceiver_io.models.architectures.build`.
    params: the parameters.
    model_state: the state, that is, batch-norm statistics.
    preparation: how inputs are prepared, in the form of a dataset's `for_prediction`.
    class_names: the names of the classes, if known.
    """

    model: dict[str, Any]
    params: Tree
    model_state: Tree
    preparation: Mapping[str, Any]
    class_names: tuple[str, ...] | None = None


def load(path: str | Path, **settings: Any) -> Weights:
    """Loads published weights: a folder of Hugging Face or timm, or an original pickle.

    Arrays are NumPy's; those of safetensors files in float32 may still be on disk, mapped into
    memory. Sizes are read from the file. `settings` are model settings that an original checkpoint
    does not contain, if they differ from the published models': `num_heads`, `num_blocks`,
    `image_size`, ..., see the functions `_..._section` in `deepmind.py`.

    Raises UserError for a file of neither kind, and for arrays that are missing, unexpected or of a
    wrong shape, listed by name.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"There are no weights at {path}: give a published file or folder.")
    if path.is_dir():
        if settings:
            raise UserError(
                f"{path} is a folder, whose config.json has all settings: do not give "
                f"{listing(settings)}."
            )
        return load_folder(path)
    if path.suffix in (".safetensors", ".bin", ".json"):
        raise UserError(
            f"{path} is one file of a Hugging Face checkpoint: give the folder that holds it "
            "together with its config.json."
        )
    return load_deepmind(path, **settings)


def load_deepmind(path: Path, **settings: Any) -> Weights:
    """Loads a pickle of a Haiku parameter tree, as published by the papers' authors."""
    return from_tree(read_pickle(path), str(path), **settings)


def from_tree(tree: Any, where: str, **settings: Any) -> Weights:
    """Weights from the tree {module: {name: array}} of an original checkpoint.

    `where` names its origin in error messages.
    """
    published = deepmind.split_tree(tree, where)
    kind = deepmind.KINDS[deepmind.recognise(set(published), where)]
    links = kind.links(deepmind.count_layers(published))
    arrays = renamed(links, published, where)
    check_settings(kind.section, settings)
    with _sizes_explained(where):
        section = kind.section(arrays, **settings)
    return _weights(section, arrays, links, where)


def to_tree(weights: Weights, kind: str) -> dict[str, Any]:
    """The inverse of `from_tree`; `kind` is one of `deepmind.KINDS`."""
    arrays = flat(weights.params, "params") | flat(weights.model_state, "model_state")
    published = deepmind.KINDS[kind]
    links = published.links(weights.model["encoder"]["latent_stack"]["num_layers"])
    return deepmind.merge_tree(restored(links, arrays), published)


def load_folder(path: Path) -> Weights:
    """Loads a folder with `config.json` and weights: Hugging Face's, timm's, or a portable one."""
    stated, published = read_folder(path)
    if portable.is_portable(stated):
        return _load_portable(stated, published, str(path))
    if timm.is_timm(stated):
        return _load_timm(stated, published, str(path))
    config = huggingface.complete(stated)
    published = huggingface_links.with_step_count(published)
    name = huggingface.architecture(config, str(path))
    links = huggingface_links.LINKS[name](huggingface_links.count_layers(published))
    arrays = renamed(links, published, str(path))
    with _sizes_explained(str(path)):
        section = huggingface.SECTIONS[name](arrays, config)
    weights = _weights(section, arrays, links, str(path))
    names = _class_names(
        huggingface.class_names(config), section, f"id2label of {path}/config.json"
    )
    return weights._replace(class_names=names, preparation=preparation.read(path, section))


def _load_timm(config: dict[str, Any], published: Arrays, where: str) -> Weights:
    with _sizes_explained(where):
        published = timm.separated(published)
        section, links = timm.section(config, published, where), timm.links(published)
        prepared = preparation.of_timm(config, f"{where}/config.json")
    weights = _weights(section, renamed(links, published, where), links, where)
    return weights._replace(preparation=prepared)


def _load_portable(config: dict[str, Any], arrays: Arrays, where: str) -> Weights:
    section = portable.section(config, where)
    weights = _weights(section, arrays, portable.links(arrays), where)
    kept = portable.preparation(config, where)
    names = _class_names(kept["class_names"], section, f"class_names of {where}/config.json")
    return weights._replace(preparation=kept, class_names=names)


def _class_names(
    names: tuple[str, ...] | None, section: Mapping[str, Any], where: str
) -> tuple[str, ...] | None:
    """The names of a model's classes; None if it has none. Raises UserError for another number."""
    count = section.get("num_classes") or section.get("label", {}).get("num_classes")
    if names is not None and count is not None and len(names) != count:
        raise UserError(
            f"{where} has {len(names)} names, but the model has {count} classes: correct it, or "
            "leave it out to number the classes."
        )
    return names if count else None


def save_huggingface(path: str | Path, weights: Weights) -> None:
    """Writes a model in the format of `transformers`, from which `load` restores the same weights.

    The folder includes the file of its image processor or its tokenizer. transformers crops whole
    pixels and puts special tokens around texts; the preparation that `load` returns does the same.

    Args:
        path: a folder that does not exist yet or is empty.
        weights: a model of one of the architectures in `huggingface.SECTIONS`.

    Raises UserError if transformers has no such model, naming the settings that differ.
    """
    arrays = _arrays(weights)
    config = huggingface_export.to_config(weights.model, arrays, weights.class_names)
    (name,) = config["architectures"]
    links = huggingface_links.LINKS[name](config["num_self_attends_per_block"])
    where = "The model to write"
    check_shapes(links, arrays, shapes(build(weights.model)), where)
    more = preparation.files(weights.model, weights.preparation)
    write_folder(path, config, restored(links, arrays), more)


def why_not_for_huggingface(section: Mapping[str, Any]) -> str | None:
    """Why `save_huggingface` cannot write a model, told before it is trained; None if it can.

    Args:
        section: the config section of the model.
    """
    try:
        huggingface_export.to_config(dict(section), shapes(build(section)), None)
    except UserError as error:
        return str(error)
    return None


def save_portable(path: str | Path, weights: Weights, dtype: DTypeLike = np.float32) -> None:
    """Writes a model of any architecture so that `load` reads it.

    Args:
        path: a folder that does not exist yet or is empty.
        weights: the model.
        dtype: of floats in the file.
    """
    kept = {**weights.preparation, "class_names": weights.class_names}
    portable.write(path, weights.model, _arrays(weights), kept, dtype)


def _arrays(weights: Weights) -> Arrays:
    """Parameters and state, by flat name."""
    arrays = flat(weights.params, "params") | flat(weights.model_state, "model_state")
    return {name: np.asarray(value) for name, value in arrays.items()}


def shapes(model: Architecture) -> Arrays:
    """Shapes of a model's parameters and state, by flat name."""
    params, state = model.shapes()
    return flat(params, "params") | flat(state, "model_state")


@contextlib.contextmanager
def _sizes_explained(where: str) -> Iterator[None]:
    """A context for code that reads sizes off arrays, which fails for damaged files."""
    try:
        yield
    except SettingError as error:
        raise UserError(
            f"The model in {where} cannot be built: {error.problem}. Download it again, or check "
            "the settings that were given."
        ) from error
    except UserError:
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"The sizes of the model in {where} cannot be determined ({error}): an array or a "
            "setting differs in form from the published files. Download it again, or check the "
            "settings that were given."
        ) from error


def _weights(section: dict[str, Any], arrays: Arrays, links: list[Link], where: str) -> Weights:
    with _sizes_explained(where):
        wanted = shapes(build(section))
    check_shapes(links, arrays, wanted, where)
    for name, array in arrays.items():
        if not name.endswith("/counter") and not np.issubdtype(array.dtype, np.floating):
            raise UserError(f"{where} has {name} of type {array.dtype} in place of floats.")
    return Weights(
        section,
        nested(arrays, "params"),
        nested(arrays, "model_state"),
        preparation.default(section),
    )
