"""The comparison of layouts: its table and figure; its presets have about as many parameters."""

import jax
import pytest

from perceiver_io.models.architectures import build
from perceiver_io.runtime import configuration
from scripts._layout_comparison import (
    CLOTHES,
    LAYOUTS,
    STUDIES,
    TRANSFERRED_TO,
    Score,
    as_table,
    draw,
)


def scores(**by_study):
    return {study: by_study.get(study, {}) for study in STUDIES}


def test_table_has_mean_and_deviation_of_losses_and_accuracies():
    found = scores(**{CLOTHES: {"c_c_t_t": [Score(0.4, 0.8), Score(0.6, 0.9)]}})
    found[TRANSFERRED_TO]["c_c_t_t"] = [Score(0.25, 0.7)]
    row = as_table(found, dict.fromkeys(LAYOUTS, 1234)).splitlines()[4]
    assert row == "| C-C-T-T | 1,234 | 0.500 ± 0.141 | 85.0 ± 7.1 |  |  | 0.250 | 70.0 |"


def test_figure_shows_the_means_at_the_layouts_places():
    found = scores(**{CLOTHES: {"c_c_c_c": [Score(0.4, 0.8)], "vit_rel": [Score(0.6, 0.5)]}})
    found[TRANSFERRED_TO]["c_c_t_t"] = [Score(0.2, 0.6), Score(0.2, 0.8)]
    clothes, photos = draw(found).axes
    assert clothes.containers[0].lines[0].get_xydata().tolist() == [[0, 0.8], [4, 0.5]]
    (_, transferred) = photos.containers
    assert transferred.lines[0].get_ydata() == pytest.approx([0.7])


def test_layouts_have_the_same_number_of_parameters_within_10_percent():
    counts = [
        sum(x.size for x in jax.tree.leaves(build(model_of(layout)).shapes()[0]))
        for layout in LAYOUTS
    ]
    assert max(counts) < 1.1 * min(counts)


def model_of(layout):
    return configuration.load(f"configs/layouts.py:{layout}", ()).model
