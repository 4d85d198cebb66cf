"""This project's side of the comparison with transformers, with small published weights."""

import pathlib
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained.published import load
from scripts import _own_side
from scripts._agreement import check_gradients
from scripts.side_process import GRADIENT, Side, processors

pytestmark = pytest.mark.usefixtures("for_cpu")

MASKED_LM = pathlib.Path(__file__).parents[1] / "goldens" / "huggingface" / "masked_lm"
IDS, TARGETS = np.random.default_rng(0).integers(6, 262, (2, 1, 20)).astype(np.int32)


@pytest.mark.slow
def test_loss_and_gradient():
    section, params, state, *_ = load(MASKED_LM)
    compute = jax.jit(_own_side.loss_and_gradient(section))
    loss, gradient = compute(params, state, IDS, TARGETS)
    logits = np.asarray(jax.jit(_own_side.forward(section))(params, state, IDS), np.float64)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert loss == pytest.approx(-np.log(p[0, np.arange(20), TARGETS[0]]).mean(), rel=1e-5)
    # The directional derivative along the gradient is its squared norm.
    norm = np.sqrt(sum(jnp.square(x).sum() for x in jax.tree.leaves(gradient)))
    step = 1e-2 / norm
    ends = [
        compute(jax.tree.map(lambda w, g, s=s: w + s * g, params, gradient), state, IDS, TARGETS)[0]
        for s in (step / norm, -step / norm)
    ]
    assert ends[0] - ends[1] == pytest.approx(2 * step * norm, rel=2e-2)


@pytest.mark.slow
def test_the_side_returns_loss_and_gradient_difference(tmp_path):
    folder = tmp_path / "language"
    shutil.copytree(MASKED_LM, folder)
    np.save(folder / "inputs.npy", IDS)
    np.save(folder / "targets.npy", TARGETS)
    shutil.copytree(MASKED_LM, folder / GRADIENT)  # the weights instead of their gradient
    with Side([sys.executable, "-m", "scripts._own_side", str(folder)], processors(1)) as side:
        facts = side.facts
        assert side.ask("run")["seconds"] > 0
        side.ask("save")
    section, params, state, *_ = load(MASKED_LM)
    loss, gradient = jax.jit(_own_side.loss_and_gradient(section))(params, state, IDS, TARGETS)
    expected = [loss, _own_side.difference(params, gradient)]
    np.testing.assert_allclose(np.load(folder / "here.npy"), expected, rtol=1e-4)
    assert facts["gradient_bytes"] == sum(x.nbytes for x in jax.tree.leaves(gradient))
    assert facts["flops"]["as written"] > 0


def test_difference_is_relative_to_the_norm_of_all_arrays():
    theirs = {"a": jnp.array([3.0]), "b": jnp.array([0.0, 4.0])}
    ours = {"a": jnp.array([3.0]), "b": jnp.array([0.5, 4.0])}
    assert _own_side.difference(theirs, ours) == pytest.approx(0.1)


@pytest.mark.parametrize("ours", [[2.001, 0.0], [2.0, 0.01], [np.nan, 0.0], [2.0, np.nan]])
def test_gradients_that_differ_are_an_error(ours):
    check_gradients(np.float32(2), np.array([2.0001, 0.0005]))
    with pytest.raises(UserError, match="compare different functions"):
        check_gradients(np.float32(2), np.array(ours))
