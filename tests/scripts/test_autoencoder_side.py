"""What the benchmark of autoencoders measures."""

import jax
import pytest

from perceiver_io.runtime import configuration, setup
from scripts import _autoencoder_side as side
from tests.helpers import experiments


@pytest.mark.slow
def test_a_step_and_the_decoding_of_some_frames():
    config = experiments.shrink(experiments.load("kinetics", "small"))
    config = configuration.overridden(config, [])
    task, dataset = experiments.task_and_dataset(config)
    parts = setup.Parts(task, dataset, setup.build_model(config.model, dataset), None)
    step, *arguments = side.training(config, parts, 2)
    state, metrics = jax.eval_shape(step, *arguments)
    assert metrics.keys() > {"loss", "loss_image", "loss_audio", "loss_label"}
    decode, *arguments = side.decoding(config, parts, 1)
    (name, decoded), *others = jax.eval_shape(decode, *arguments).items()
    assert (name, decoded.shape, others) == ("image", (1, 8 * 8, 3), [])
