"""This project's side of the comparison with timm, with a small model of timm's."""

import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from perceiver_io.models.architectures import build
from perceiver_io.pretrained.published import load
from scripts._own_side import difference
from scripts.side_process import GRADIENT, Side, processors

COATNET = pathlib.Path(__file__).parents[1] / "goldens" / "timm" / "coatnet_0_224"


@pytest.mark.slow
def test_steps_leave_the_weights_and_tell_their_gradient(tmp_path, for_cpu):
    folder = tmp_path / "coatnet"
    shutil.copytree(COATNET, folder)
    shutil.copytree(COATNET, folder / GRADIENT)  # the weights instead of their gradient
    images = np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype(np.float32)
    np.save(folder / "inputs.npy", images)
    np.save(folder / "targets.npy", [1, 3])
    np.save(folder / "optimizer.npy", [1e-12, 0.05])
    with Side([sys.executable, "-m", "scripts._coatnet_side", str(folder)], processors(1)) as side:
        assert side.facts["flops"]["as written"] > 0
        for command in ("run", "run", "save"):
            side.ask(command)
    section, params, state, *_ = load(folder)
    model = build(section)

    def loss(params):
        logits, _ = model.apply(params, state, None, inputs=images, is_training=True)
        return -jax.nn.log_softmax(logits)[np.arange(2), [1, 3]].mean()

    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    expected = [value, difference(params, gradient)]
    np.testing.assert_allclose(np.load(folder / "here.npy"), expected, rtol=1e-4)
