"""Commands to units: metrics against NumPy, figures."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.data.starcraft.sources import bundled_game
from perceiver_io.errors import UserError
from perceiver_io.tasks.unit_commands.task import UnitCommands

TASK = UnitCommands(4)
# Of the last example, everything is unknown; the one before is padding.
BATCH = {
    "units": np.zeros((5, 6, 40), np.float32),
    "unit_mask": np.ones((5, 6), bool),
    "selectable": np.ones((5, 6), bool),
    "action": np.array([1, 2, 3, 0, -2]),
    "selected": np.array([[0, 3, -1], [2, -1, -1], [1, 2, 3], [0, -1, -1], [-2, -1, -1]]),
    "target": np.array([4, -1, 2, 0, -2]),
    "valid": np.array([True, True, True, False, True]),
}
CHOSEN = {
    "action": np.array([1, 0, 3, 0, 3]),
    "selected": np.array([[3, 0, -1], [0, 1, -1], [2, -1, -1], [0, -1, -1], [0, -1, -1]]),
    "target": np.array([1, 0, 2, 0, 0]),
}


def test_metrics():
    found = TASK.metrics({"chosen": CHOSEN}, BATCH)
    means = {name: float(total / count) for name, (total, count) in found.items()}
    sets = [({0, 3}, {0, 3}), ({0, 1}, {2}), ({2}, {1, 2, 3})]
    expected = {
        "action_accuracy": 2 / 3,
        "target_accuracy": 1 / 2,
        "exact_match": 1 / 3,
        "iou": np.mean([len(a & b) / len(a | b) for a, b in sets]),
        "f1": np.mean([2 * len(a & b) / (len(a) + len(b)) for a, b in sets]),
        "action_unknown": 1 / 4,
        "selected_unknown": 1 / 4,
        "target_unknown": 1 / 4,
    }
    assert means == pytest.approx(expected)


def test_weights_are_those_of_alphastar():
    assert TASK.loss_weights == {"loss_action": 40, "loss_selected": 320, "loss_target": 30}


def test_the_number_of_action_types_must_fit():
    with pytest.raises(UserError, match="10 classes"):
        TASK.check_dataset(bundled_game())


def test_figure_of_commands():
    dataset = bundled_game(slots=336, max_selected=40)
    batch = next(iter(dataset.load("test", batch_size=8, training=False, seed=0, shard=(0, 1))))
    batch["valid"][4:] = False
    chosen = {name: batch[name].copy() for name in ("action", "selected", "target")}
    chosen["selected"][1] = -1
    chosen["action"] = np.maximum(chosen["action"], 0)
    figure = UnitCommands(10).figure({"chosen": chosen}, batch, dataset)
    FigureCanvasAgg(figure).draw()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 4
    name = dataset.class_names[batch["action"][0]]
    assert titles[0] == f"{name}; player: {name}"
    rings, crosses = figure.axes[0].collections[-2:]
    assert len(rings.get_offsets()) == len(crosses.get_offsets()) == 2
