"""Where `config.init_from` takes trained weights from: a run, or published files."""

from collections.abc import Mapping
from typing import Any

from experiments import configuration, weights
from perceiver_io.pretrained import weights as published
from perceiver_io.training.warm_start import Grid, Source, array_source, checkpoint_source

_LEARNED_POSITIONS = "params/positions/embeddings"


def open_source(path: str) -> tuple[Source, Mapping[str, Any]]:
    """Trained arrays, and the section `config.model` of their model.

    Args:
        path: a run folder, RUN/checkpoints/STEP, or what `perceiver_io.pretrained.weights.load`
            reads. Of original checkpoints only those of the published sizes.

    Raises UserError if there is nothing of the kind.
    """
    run = weights.find_run(path)
    if run is not None:
        return checkpoint_source(path), configuration.read_run(run).model
    loaded = published.load(path)
    return array_source(f"file {path}", loaded.params, loaded.model_state), loaded.model


def position_grids(
    source: Mapping[str, Any], model: Mapping[str, Any]
) -> dict[str, tuple[Grid, Grid]]:
    """The grids of learned positions there and here, by name, where both models have such."""
    grids = [section.get("inputs", {}).get("image_size") for section in (source, model)]
    return {} if None in grids else {_LEARNED_POSITIONS: tuple(map(tuple, grids))}
