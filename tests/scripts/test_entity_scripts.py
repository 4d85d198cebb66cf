"""Baselines, costs, tables and figures of the entity encoders."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.config.unit_features import COLUMN
from perceiver_io.data.starcraft.sources import bundled_game
from scripts import _command_baselines, _entity_comparison, _entity_costs
from tests.helpers import experiments


def test_baselines_on_the_bundled_game():
    dataset = bundled_game(slots=336, max_selected=40, hidden=("selected",))
    found = _command_baselines.on_split(dataset, "test")
    assert all(0 <= x <= 1 for metrics in found.values() for x in metrics.values())
    moments = dataset.source("test")
    iou = []
    for moment in moments:
        observed = moment.observation
        own = observed.units[:, COLUMN["in_cargo"]] == 0
        before = set(observed.tags[own & (observed.units[:, COLUMN["selected"]] == 1)])
        true = set(moment.command.selected) & set(observed.tags[own])
        iou.append(len(before & true) / len(before | true))
    assert found["what is selected"]["iou"] == np.float32(np.mean(iou)) or np.isclose(
        found["what is selected"]["iou"], np.mean(iou)
    )
    known = [moment.action for moment in moments if moment.action >= 0]
    move = dataset.class_names.index("1 at a point")
    accuracy = found["the most frequent action type"]["action_accuracy"]
    assert accuracy == np.mean([action == move for action in known])


def test_flops_of_the_transformer_at_512_units():
    """By hand: four projections, the MLP and attention in each layer, and the head of units."""
    section = experiments.load("starcraft", "transformer").model.to_dict()
    parameters, flops = _entity_costs.parameters_and_flops(section, 512)
    layer = 4 * 256 * 256 + 2 * 256 * 1024 + 2 * 512 * 256
    assert flops == 2 * (512 * (3 * layer + 256 * 256) + 256 * 256)
    weights = 4 * 256 * 256 + 2 * 256 * 1024
    biases = 4 * 256 + 1024 + 256 + 4 * 256
    assert parameters == 3 * (weights + biases) + 2 * (256 * 256 + 256)


def test_tables_and_figures():
    cost = _entity_costs.Cost(0.5, 2**20, 1.0, 2**21)
    costs = {name: {128: cost, 512: cost} for name in _entity_costs.COLORS}
    table = _entity_costs.as_table(costs)
    assert "| 128 | Perceiver IO | 500.0 ms | 1 MiB | 1,000.0 ms | 2 MiB |" in table
    FigureCanvasAgg(_entity_costs.draw(costs, "a machine")).draw()
    scores = {
        "Perceiver IO": [{"iou": 0.5, "f1": 0.6}, {"iou": 0.7, "f1": 0.6}],
        "baseline": [{"iou": 0.25}],
    }
    rows = _entity_comparison.as_table(scores).splitlines()
    assert rows[2] == "| Perceiver IO |  |  | 60.0 ± 14.1 | 60.0 ± 0.0 |  |"
    assert rows[3] == "| baseline |  |  | 25.0 |  |  |"
    FigureCanvasAgg(_entity_comparison.draw(scores)).draw()
