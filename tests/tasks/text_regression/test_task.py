"""Text regression against NumPy and SciPy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from perceiver_io.data.text.text_file import scored_text_file
from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss
from perceiver_io.tasks.text_regression.task import TextRegression, correlations

TASK = TextRegression()


def test_loss_is_the_mean_square_of_scaled_scores():
    batch = dict(label=np.float32([0, 1, -2]), valid=np.array([True, False, True]))
    outputs = jnp.array([[1.0], [9], [1]])
    assert batch_loss(TASK, outputs, batch) == (1 + 9) / 2
    with pytest.raises(UserError, match="The model has 2 outputs, but a score is one"):
        batch_loss(TASK, jnp.zeros((3, 2)), batch)


def test_report_in_the_units_of_the_scores(tmp_path):
    (tmp_path / "t.csv").write_text("text,label\na,1\nb,2\n")
    dataset = scored_text_file(
        train=str(tmp_path / "t.csv"), max_length=8, score_mean=2.5, score_std=1.5
    )
    rng = np.random.default_rng(0)
    label = rng.normal(size=50).astype(np.float32)
    prediction = (label + rng.normal(size=50)).astype(np.float32)
    metrics, figures = TASK.report(dict(label=label, prediction=prediction), dataset)
    assert tuple(metrics) == TASK.reported(dataset) and set(figures) == {"scores"}
    assert metrics["pearson"] == pytest.approx(np.corrcoef(label, prediction)[0, 1], rel=1e-5)
    ranks = [scipy.stats.rankdata(x) for x in (label, prediction)]
    assert metrics["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    error = 1.5 * np.sqrt(np.mean((label - prediction) ** 2))
    assert metrics["root_mean_square_error"] == pytest.approx(error, rel=1e-5)


def test_a_constant_has_no_correlation():
    same, other = np.ones(5), np.arange(5.0)
    expected = {"pearson": 0.0, "spearman": 0.0}
    assert correlations(same, other) == correlations(other, same) == expected
