"""Weighted mixtures: several sources as one.

    config.data.name = "mixture"
    config.data.parts = dict(
        real=dict(weight=1.0, name="sintel", root=ROOT, rendering="final"),
        drawn=dict(weight=3.0, name="procedural_flow", ...),
    )

and the settings of the preparation, which all parts share, beside them. A part has its weight, the
name of a dataset, and the settings of that dataset's source.
"""

from collections.abc import Callable, Mapping
from typing import Any

from perceiver_io.config.construct import construct, lookup
from perceiver_io.data.pipeline.dataset import Composed, Preparation
from perceiver_io.data.pipeline.sources import MixedExamples, Source
from perceiver_io.errors import UserError


class Mixture(Source):
    """Several sources as one, with the splits that all of them have.

    In training each part has the share of its weight over all weights, in any stretch as exactly as
    whole examples can, since the parts take turns in a fixed pattern; each is shuffled, and begins
    again, by itself. Evaluation goes through one part after the other.

    Args:
        parts: the sources by any names of their own, for errors.
        weights: of each part.

    Raises UserError for a weight that is not positive, and for parts whose classes differ.
    """

    def __init__(self, parts: Mapping[str, Source], weights: Mapping[str, float]) -> None:
        for name, weight in weights.items():
            if not weight > 0:
                raise UserError(
                    f"config.data.parts.{name}.weight={weight} must be above 0: leave the part out."
                )
        self._parts, self._weights = dict(parts), dict(weights)
        first, *others = parts.values()
        self.splits = tuple(s for s in first.splits if all(s in o.splits for o in others))
        self.unlabelled_splits = tuple(
            split
            for split in self.splits
            if any(split in part.unlabelled_splits for part in parts.values())
        )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Those of every part. Raises UserError where they differ."""
        names = {name: part.class_names for name, part in self._parts.items()}
        first, *others = names.values()
        if any(other != first for other in others):
            raise UserError(f"The parts of config.data.parts have different classes: {names}.")
        return first

    def __call__(self, split: str) -> "MixedExamples":
        """The split of every part. Raises UserError on one without examples."""
        parts = {name: part(split) for name, part in self._parts.items()}
        for name, examples in parts.items():
            if len(examples) == 0:
                raise UserError(
                    f"The split {split!r} of config.data.parts.{name} has no examples: leave the "
                    "part out."
                )
        return MixedExamples(tuple(parts.values()), tuple(self._weights.values()))


def mixture_of(
    datasets: Mapping[str, str | Composed], preparation: Callable[..., Preparation]
) -> Composed:
    """What makes mixtures of some datasets.

    Args:
        datasets: what the `name` of a part chooses from.
        preparation: of all parts; theirs, too, when each is alone.
    """

    def mixture(parts: Mapping[str, Any]) -> Mixture:
        sources, weights = {}, {}
        for key, section in parts.items():
            where = f"config.data.parts.{key}"
            settings = dict(section)
            if "weight" not in settings:
                raise UserError(f"{where} lacks weight: its share of the mixture over all weights.")
            weights[key] = settings.pop("weight")
            dataset = lookup(datasets, settings, where)
            if dataset.preparation is not preparation:
                raise UserError(f"{where}: {settings['name']} is prepared in a way of its own.")
            sources[key] = construct(dataset.source, settings, where)
        if not sources:
            raise UserError("config.data.parts has no part: give at least one dataset.")
        return Mixture(sources, weights)

    return Composed(mixture, preparation)
