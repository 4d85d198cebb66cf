"""Where `config.init_from` takes trained weights from: a run, or published files."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from perceiver_io.config import files
from perceiver_io.pretrained import weights as published
from perceiver_io.runtime import weights
from perceiver_io.training.warm_start import Grid, Source, array_source, checkpoint_source

_LEARNED_POSITIONS = "params/positions/embeddings"


def open_source(path: str) -> tuple[Source, Mapping[str, Any]]:
    """Trained arrays, and the section `config.model` of their model.

    Args:
        path: a run folder, RUN/checkpoints/STEP, bundled:NAME, or what
            `perceiver_io.pretrained.weights.load` reads. Of original checkpoints only those of the
            published sizes.

    Raises UserError if there is nothing of the kind.
    """
    path = str(weights.locate(path))
    run = weights.find_run(path)
    if run is not None:
        return checkpoint_source(path), files.read_run(run).model
    loaded = published.load(path)
    return array_source(f"file {path}", loaded.params, loaded.model_state), loaded.model


def position_grids(
    source: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, tuple[Grid, Grid]]:
    """The grids of learned positions there and here, by name, where both models have such."""
    grids = [_image_inputs(section).get("image_size") for section in (source, model)]
    return {} if None in grids else {_LEARNED_POSITIONS: tuple(map(tuple, grids))}


def differing_settings(source: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """Settings of both models that no array shows, such as the number of heads, and that differ."""
    ours = dict(_hidden_settings(model))
    return [
        f"{name} {value} there and {ours[name]} here"
        for name, value in _hidden_settings(source)
        if name in ours and ours[name] != value
    ]


def _hidden_settings(section: Mapping[str, Any], path: str = "model") -> Iterator[tuple[str, Any]]:
    """Settings without arrays, by their place; those left out of a section have their default."""
    for key, value in section.items():
        if isinstance(value, Mapping | ConfigDict):
            yield from _hidden_settings(value, f"{path}.{key}")
        elif key in ("num_blocks", "num_heads", "use_query_residual", "resolution"):
            yield f"{path}.{key}", value
    if "num_heads" in section:
        yield f"{path}.exact_gelu", section.get("exact_gelu", False)
    if section.get("name") == "conv_features":
        yield f"{path}.pytorch_padding", section.get("pytorch_padding", False)


def _image_inputs(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section of a model's image inputs, permuted or not; empty if it has none."""
    inputs = model.get("inputs", {})
    return inputs.get("inputs", inputs)
