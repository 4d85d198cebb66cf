"""Commands without a model, the baselines of `compare_entity_encoders`."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from perceiver_io.config.unit_features import COLUMN
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.starcraft.commands import Moment, UnitInput
from perceiver_io.tasks.unit_commands.task import as_set, set_agreement

# From the units in the slots, and which of them can be selected, to which ones are selected.
Selector = Callable[[np.ndarray, np.ndarray], np.ndarray]


def on_split(dataset: Dataset, split: str) -> dict[str, dict[str, float]]:
    """Metrics of each baseline on a split; what is frequent is so in the training split.

    The selection in the observation is seen even if it is hidden from models.
    """
    train, examples = dataset.examples("train"), dataset.examples(split)
    frequent = most_frequent_type(train)
    selections = {
        "what is selected": lambda units, selectable: units[:, COLUMN["selected"]] == 1,
        "all of the most frequent type": lambda units, selectable: of_type(units, frequent),
        "one of the most frequent type": lambda units, selectable: first(
            of_type(units, frequent) & selectable
        ),
    }
    found = {name: agreement(dataset, examples, select) for name, select in selections.items()}
    action = Counter(moment.action for moment in train).most_common(1)[0][0]
    known = [moment.action for moment in examples if moment.action >= 0]
    accuracy = float(np.mean([other == action for other in known]))
    return found | {"the most frequent action type": {"action_accuracy": accuracy}}


def most_frequent_type(moments: Sequence[Moment]) -> int:
    """The type of which most units are selected."""
    count: Counter[int] = Counter()
    for moment in moments:
        is_selected = np.isin(moment.observation.tags, moment.command.selected)
        count.update(map(int, moment.observation.units[is_selected, COLUMN["type"]]))
    return count.most_common(1)[0][0]


def of_type(units: np.ndarray, kind: int) -> np.ndarray:
    """Whether each unit is of a type."""
    return units[:, COLUMN["type"]] == kind


def first(mask: np.ndarray) -> np.ndarray:
    """The first True alone."""
    return mask & (np.cumsum(mask) == 1)


def agreement(dataset: Dataset, examples: Sequence[Moment], select: Selector) -> dict[str, float]:
    """How well the selections of a baseline agree with the players', see `UnitCommands`."""
    preparation: Any = dataset.preparation
    see = UnitInput(preparation.slots, ())
    found, true = [], []
    for moment in examples:
        seen = see(moment.observation)
        selected = preparation.evaluation_example(moment, np.random.default_rng(0))["selected"]
        if selected[0] >= 0:
            true.append(np.asarray(as_set(selected[None], preparation.slots))[0])
            found.append(select(seen["units"], seen["selectable"]) & seen["selectable"])
    means = set_agreement(np.stack(found), np.stack(true))
    return {name: float(np.mean(values)) for name, values in means.items()}
