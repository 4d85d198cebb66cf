"""Behaviour cloning of commands to units: action type, selected units, target unit."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from matplotlib.figure import Figure

from perceiver_io.config.annotations import NonNegative, Width
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.starcraft import DATASETS
from perceiver_io.data.starcraft.commands import UNKNOWN
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.class_figures import shown_rows
from perceiver_io.tasks.classes import check_classes_of_data, check_classes_of_model
from perceiver_io.tasks.task import Batch, Task
from perceiver_io.tasks.unit_commands import figures

_INPUTS = ("units", "unit_mask", "selectable")
_LABELS = ("action", "selected", "target")
_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class UnitCommands(Task):
    """Predicts what a player commands: one of `num_actions` types, the units, and a target unit.

    Batches are as `CommandPreparation` describes them. The loss has three terms, each a
    cross-entropy given the parts of the command before it: of the action type, of the picks of
    units (each pick is an element, and the end of the selection is one more), and of the target.
    What is unknown has no loss.

    Attributes:
        num_actions: number of action types.
        action_weight, selected_weight, target_weight: of the terms; those of AlphaStar Unplugged
            (2308.03526).
    """

    num_actions: Width
    action_weight: NonNegative = 40.0
    selected_weight: NonNegative = 320.0
    target_weight: NonNegative = 30.0

    datasets: ClassVar[Mapping[str, str]] = DATASETS

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Those of the three terms."""
        return {
            "loss_action": self.action_weight,
            "loss_selected": self.selected_weight,
            "loss_target": self.target_weight,
        }

    def check_dataset(self, dataset: Dataset) -> None:
        """Raises UserError if the dataset has another number of action types."""
        check_classes_of_data(dataset, self.num_actions)

    def model_inputs(self, batch: Batch) -> dict[str, Any]:
        """The units as `inputs`, and the command as `query`."""
        return {
            "inputs": {name: batch[name] for name in _INPUTS},
            "query": {name: batch[name] for name in ("action", "selected")},
        }

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B ..."]]:
        """What is known of the valid examples."""
        valid = jnp.asarray(batch["valid"])
        _, is_pick = pick_targets(batch["selected"], batch["units"].shape[1])
        return {
            "loss_action": valid & (batch["action"] >= 0),
            "loss_selected": valid[:, None] & is_pick,
            "loss_target": valid & (batch["target"] >= 0),
        }

    def losses(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Float[Array, "B ..."]]:
        """Cross-entropy in nats."""
        check_classes_of_model(outputs["action"], self.num_actions)
        picks, _ = pick_targets(batch["selected"], batch["units"].shape[1])
        return {
            "loss_action": _cross_entropy(outputs["action"], batch["action"]),
            "loss_selected": _cross_entropy(outputs["selected"], picks),
            "loss_target": _cross_entropy(outputs["target"], batch["target"]),
        }

    def metrics(
        self, outputs: Mapping[str, Any], batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """How well the commands of the model's own agree with the player's.

        `action_accuracy`; of the selected units as sets `exact_match`, `iou` (intersection over
        union) and `f1`; and `target_accuracy` where the player's target is a unit. Also the shares
        of examples in which one of them is unknown: `action_unknown`, `selected_unknown`,
        `target_unknown`.
        """
        chosen, valid = outputs["chosen"], jnp.asarray(batch["valid"])
        selected = batch["selected"]
        known = {
            "action": batch["action"] >= 0,
            "selected": selected[:, 0] >= 0,
            "target": batch["target"] >= 0,
        }
        sets = [as_set(x, batch["units"].shape[1]) for x in (chosen["selected"], selected)]
        is_unknown = {
            "action": batch["action"] == UNKNOWN,
            "selected": selected[:, 0] == UNKNOWN,
            "target": batch["target"] == UNKNOWN,
        }
        return (
            {
                f"{name}_accuracy": sum_and_count(chosen[name] == batch[name], valid & known[name])
                for name in ("action", "target")
            }
            | {
                name: sum_and_count(value, valid & known["selected"])
                for name, value in set_agreement(*sets).items()
            }
            | {f"{name}_unknown": sum_and_count(x, valid) for name, x in is_unknown.items()}
        )

    def figure(self, outputs: Mapping[str, Any], batch: Batch, dataset: Dataset) -> Figure | None:
        """Maps of up to six valid examples, with the player's command and the model's."""
        rows = shown_rows(batch["valid"])[:: max(1, int(batch["valid"].sum()) // _SHOWN)][:_SHOWN]
        return figures.commands(
            [
                figures.Shown(
                    batch["units"][row][batch["unit_mask"][row]],
                    _command(outputs["chosen"], row, dataset),
                    _command(batch, row, dataset),
                    "",
                )
                for row in map(int, rows)
            ]
        )


def pick_targets(
    selected: Int[Array | np.ndarray, "B P"], num_units: int
) -> tuple[Int[Array, "B P"], Bool[Array, "B P"]]:
    """What is to be picked in each step, and whether there is anything to pick.

    After the last unit comes the end, `num_units`, unless the selection is as long as it can be.
    """
    count = (selected >= 0).sum(1, keepdims=True)
    step = jnp.arange(selected.shape[1])
    targets = jnp.where(step == count, num_units, jnp.maximum(selected, 0))
    return targets, (step <= count) & (count > 0)


def as_set(selected: Int[Array | np.ndarray, "B P"], num_units: int) -> Bool[Array, "B U"]:
    """Whether each unit is selected."""
    return jax.nn.one_hot(selected, num_units, dtype=bool).any(1)


def set_agreement(
    found: Bool[Array | np.ndarray, "B U"], true: Bool[Array | np.ndarray, "B U"]
) -> dict[str, Float[Array | np.ndarray, " B"]]:
    """`exact_match`, `iou` and `f1` of sets of which the second is not empty."""
    both = (found & true).sum(1)
    sizes = found.sum(1) + true.sum(1)
    return {
        "exact_match": (found == true).all(1).astype(jnp.float32),
        "iou": both / jnp.maximum(sizes - both, 1),
        "f1": 2 * both / jnp.maximum(sizes, 1),
    }


def _cross_entropy(
    logits: Float[Array, "B *P X"], targets: Int[Array | np.ndarray, "B *P"]
) -> Float[Array, "B *P"]:
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))


def _command(labels: Mapping[str, Any], row: int, dataset: Dataset) -> figures.DrawnCommand:
    """A command in the form of labels, to be drawn."""
    action, selected, target = (labels[name][row] for name in _LABELS)
    name = dataset.class_names[action] if action >= 0 else "unknown"
    is_at_unit = target >= 0 and (action < 0 or name.endswith("at a unit"))
    return figures.DrawnCommand(name, selected[selected >= 0], int(target) if is_at_unit else None)
