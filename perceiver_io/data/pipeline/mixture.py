"""Weighted mixtures: several sources as one.

    config.data.name = "mixture"
    config.data.parts = dict(
        real=dict(weight=1.0, name="sintel", root=ROOT, rendering="final"),
        drawn=dict(weight=3.0, name="procedural_flow", ...),
    )

The other settings are those of the preparation, which all parts share. A part has a weight, the
name of a dataset, and the settings of that dataset's source.
"""

from collections.abc import Callable, Mapping
from typing import Any

from perceiver_io.config.annotations import Positive
from perceiver_io.config.construct import check, construct, entries, lookup
from perceiver_io.data.pipeline.dataset import Composed, Preparation
from perceiver_io.data.pipeline.sources import LeftOut, MixedExamples, Source, merged
from perceiver_io.errors import UserError


class Mixture(Source):
    """Several sources as one, with the splits they have in common.

    In training, parts are interleaved in a fixed pattern in proportion to their weights, so that
    any run of examples has these proportions as nearly as whole numbers allow. Each part is
    shuffled and repeated independently. Evaluation goes through one part after the other.

    Args:
        parts: the sources, by names that appear in error messages.
        weights: of each part.
        where: config path of the parts, for error messages.

    Raises UserError for parts whose classes differ.
    """

    def __init__(
        self, parts: Mapping[str, Source], weights: Mapping[str, float], where: str
    ) -> None:
        self._parts, self._weights, self._where = dict(parts), dict(weights), where
        first, *others = parts.values()
        self.splits = tuple(s for s in first.splits if all(s in o.splits for o in others))
        self.unlabelled_splits = tuple(
            split
            for split in self.splits
            if any(split in part.unlabelled_splits for part in parts.values())
        )

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes, the same in every part. Raises UserError where they differ."""
        names = {name: part.class_names for name, part in self._parts.items()}
        first, *others = names.values()
        if any(other != first for other in others):
            raise UserError(f"The parts of {self._where} have different classes: {names}.")
        return first

    @property
    def left_out(self) -> LeftOut:
        """The files left out by all parts."""
        return merged(*(part.left_out for part in self._parts.values()))

    def __call__(self, split: str) -> "MixedExamples":
        """The split of all parts together. Raises UserError if it is empty in one of them."""
        parts = {name: part(split) for name, part in self._parts.items()}
        for name, examples in parts.items():
            if len(examples) == 0:
                raise UserError(
                    f"The split {split!r} of {self._where}.{name} has no examples: leave "
                    "the part out."
                )
        return MixedExamples(tuple(parts.values()), tuple(self._weights.values()))


def mixture_of(
    datasets: Mapping[str, str | Composed], preparation: Callable[..., Preparation]
) -> Composed:
    """A builder of mixtures of the given datasets.

    Args:
        datasets: those that the `name` of a part can choose.
        preparation: of the mixture; must be that of each of the datasets.
    """

    def mixture(parts: Mapping[str, Any]) -> Mixture:
        return mixed(parts, "config.data.parts")

    def mixed(parts: Mapping[str, Any], where: str) -> Mixture:
        sources, weights = {}, {}
        for name, section in entries(parts, where).items():
            path = f"{where}.{name}"
            settings = entries(section, path)
            weight = {"weight": settings.pop("weight")} if "weight" in settings else {}
            weights[name] = construct(part, weight, path)
            dataset = lookup(datasets, settings, path)
            if dataset.preparation is not preparation:
                raise UserError(
                    f"{path}: {settings['name']} is prepared differently from the other parts."
                )
            if dataset.source is mixture:
                check(mixture, settings, path)
                sources[name] = mixed(settings["parts"], f"{path}.parts")
            else:
                sources[name] = construct(dataset.source, settings, path)
        if not sources:
            raise UserError(f"{where} is empty: give at least one dataset.")
        return Mixture(sources, weights, where)

    return Composed(mixture, preparation)


def part(weight: Positive) -> float:
    """The settings of a part besides those of its dataset: its relative weight."""
    return weight
