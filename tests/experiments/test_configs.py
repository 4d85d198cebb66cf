"""Every model and task of the configs builds at full size; every part takes a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.losses import batch_loss
from perceiver_io.models.architectures import build
from perceiver_io.runtime import configuration, setup
from perceiver_io.training.optimizers import build_optimizer, build_schedule
from perceiver_io.training.state import initial_state, names
from perceiver_io.training.step import TrainStep
from tests.helpers import experiments, oracles

EXACT_PARAMETERS = {
    "fourier": 48_440_627,
    "learned": 62_255_848,
    "conv": 48_646_522,
    # The three without their decoder of 6,304,768. The paper gives the second as 55.9M, truncated
    # rather than rounded, and the third as 42.1M, the number of the first.
    "perceiver_fourier": 42_135_859,
    "perceiver_learned": 55_951_080,
    "perceiver_conv": 42_341_754,
    # The published 25,557,032 of ResNet-50, and 258 more channels of its 7x7 convolution.
    "resnet_50": 25_557_032 + 258 * 7 * 7 * 64,
    # The published 86,567,656 of ViT-B/16 without the class token's position; wider patches.
    "vit_b_16": 86_567_656 - 768 + 258 * 16 * 16 * 768,
}
# The published model, and one with the 27.9M that the paper gives.
FLOW_PARAMETERS = {"patches": 41_057_134, "conv_light": 27_970_910}
LANGUAGE_PARAMETERS = {
    "bytes": 201_108_230,  # as published
    "bytes_plus_plus": 425_607_430,
    "sentencepiece": 223_155_456,
    "bert_sentencepiece": 110_057_216,
    "bert_bytes": 20_098_310,
}
# In millions, as printed in the papers.
PAPER_PARAMETERS = {
    "bytes": 201,
    "bytes_plus_plus": 425,
    "sentencepiece": 223,
    "bert_sentencepiece": 110,
    "bert_bytes": 20,
    "fourier": 48.4,
    "learned": 62.3,
    "conv": 48.6,
    "config_b_fourier": 212,
    "config_b_conv": 212,
    "perceiver_fourier": 42.1,
    "perceiver_1_cross_attend": 42.1,
    "perceiver_8_cross_attends": 44.9,
    "perceiver_8_at_start": 44.9,
    "perceiver_8_unshared": 326.2,
    "perceiver_4_only": 12.7,
    "perceiver_8_only": 23.8,
    "perceiver_12_only": 34.9,
    "permuted": 44.9,
}


def slow_if(condition):
    return [pytest.mark.slow] if condition else []


def parametrized(cases):
    ids = [f"{name}:{preset}" if preset else name for name, preset in cases]
    return pytest.mark.parametrize("name,preset", cases, ids=ids)


every_experiment = parametrized(experiments.all_experiments())


def abstract_batch(dataset, batch_size):
    spec = dataset.batch_spec(batch_size)
    return {name: jax.ShapeDtypeStruct(*entry) for name, entry in spec.items()}


DISTINCT = experiments.distinct_experiments()
# Tracing many different cross-attends takes seconds.
DEAR = {"perceiver_8_unshared", "perceiver_8_conv", "perceiver_12_only"}


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
@pytest.mark.parametrize(
    "name,preset",
    [
        pytest.param(*case, id=":".join(filter(None, case)), marks=slow_if(case[1] in DEAR))
        for case in experiments.all_experiments()
        if case in DISTINCT or case[1] in PAPER_PARAMETERS
        # The sizes of CoAtNet are in tests/models/coatnet; other autoencoders have fewer latents.
        if (case[0] != "coatnet" or case[1] == "0") and case[1] not in ("176x", "352x")
    ],
)
def test_builds_at_full_size(name, preset, tmp_path):
    config = experiments.give_files(experiments.load(name, preset), tmp_path)
    task, dataset = experiments.task_and_dataset(config)
    batch = abstract_batch(dataset, 2)
    model = setup.build_model(config.model, dataset)

    def evaluate(key, batch):
        inputs = task.model_inputs(batch)
        params, state = model.init(key, **inputs)
        outputs, _ = model.apply(params, state, key, **inputs, is_training=False)
        return params, outputs, batch_loss(task, outputs, batch)

    params, outputs, loss = jax.eval_shape(evaluate, jax.random.key(0), batch)
    # What a model chooses is integers.
    dtypes = {x.dtype for x in jax.tree.leaves((params, outputs, loss))} - {np.dtype("int32")}
    assert dtypes == {np.dtype("float32")}
    assert loss.shape == ()
    if name == "imagenet":
        assert outputs.shape == (2, config.task.num_classes)
        check_parameters(preset, experiments.num_parameters(params))
    if name == "optical_flow":
        assert outputs.shape == (2, *config.model.image_size, 2)
        count = experiments.num_parameters(params)
        assert count == FLOW_PARAMETERS.get(preset, count)


@pytest.mark.parametrize("preset", LANGUAGE_PARAMETERS)
def test_parameters_of_language_models(preset):
    params, _ = build(experiments.load("masked_lm", preset).model).shapes()
    count = experiments.num_parameters(params)
    assert count == LANGUAGE_PARAMETERS[preset] and int(count / 1e6) == PAPER_PARAMETERS[preset]


def test_the_published_autoencoder_has_the_published_parameters():
    params, _ = build(experiments.load("kinetics", "88x").model).shapes()
    assert experiments.num_parameters(params) == 19_858_855


@pytest.mark.parametrize("name", ["masked_lm", "kinetics"])
def test_bundled_models_fit_into_8_mb_in_half_precision(name):
    params, _ = build(experiments.load(name, "small").model).shapes()
    assert 2 * experiments.num_parameters(params) < 8e6


@every_experiment
def test_peak_rate_scales_with_the_batch_size_unless_it_is_set(name, preset):
    def peak(*overrides):
        config = experiments.load(name, preset)
        return configuration.overridden(config, overrides).schedule.peak

    config = experiments.load(name, preset)
    usual, batch_size = config.schedule.peak, config.training.batch_size
    assert usual == float(f"{usual:.3g}"), "the rate of the recipe to the bit"
    half = f"--config.training.batch_size={batch_size // 2}"
    assert peak(half) == usual / 2
    assert peak("--config.schedule.peak=0.5", half) == 0.5
    assert peak(half, "--config.schedule.peak=0.5") == 0.5


def check_parameters(preset, count):
    if preset in EXACT_PARAMETERS:
        assert count == EXACT_PARAMETERS[preset]
    if preset in PAPER_PARAMETERS:
        printed = PAPER_PARAMETERS[preset]
        digits = len(str(printed).partition(".")[2])
        assert round(count / 1e6, digits) == printed


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
@parametrized(experiments.covering_experiments())
def test_takes_a_shrunk_training_step(name, preset, tmp_path):
    config = experiments.give_files(experiments.load(name, preset), tmp_path)
    config = configuration.overridden(experiments.shrink(config), [])
    config.schedule.warmup_steps = 0  # A warm-up starts with a rate of 0.
    task, dataset = experiments.task_and_dataset(config)
    batch = jax.tree.map(jnp.asarray, experiments.random_batch(dataset, 4))
    model, schedule = setup.build_model(config.model, dataset), build_schedule(config.schedule)
    optimizer = build_optimizer(config.optimizer, schedule, model.roles())
    variables = oracles.random_params_and_state(model.init, **task.model_inputs(batch))
    training = config.training
    ema = training.ema_decay is not None
    step = TrainStep(
        model, task, optimizer, schedule, config.seed, training.accumulate, training.ema_decay
    )

    @jax.jit
    def take(variables, batch):
        state = initial_state(*variables, optimizer, ema=ema)
        gradients = step.gradients(state, batch)
        return state, gradients, *step.update(state, gradients)

    state, gradients, new, metrics = take(variables, batch)
    assert all(np.isfinite(value) for value in metrics.values())
    assert metrics["learning_rate"] == np.float32(config.schedule.peak)
    assert jax.tree.structure(new) == jax.tree.structure(state) and new.step == 1
    without = check_gradients(gradients.params)
    for part in ("params", "ema_params") if ema else ("params",):
        before, after = (names(jax.device_get(getattr(x, part))) for x in (state, new))
        same = {name for name in before if (before[name] == after[name]).all()}
        assert same <= without


def check_gradients(gradients):
    largest = {
        (module, name): float(np.abs(x).max())
        for module, leaves in gradients.items()
        for name, x in leaves.items()
    }
    assert all(map(np.isfinite, largest.values()))
    threshold = 1e-6 * max(largest.values())
    without = {leaf for leaf, size in largest.items() if size < threshold}
    # The bias of the keys adds the same number to all logits of a query, which softmax ignores.
    key_biases = {leaf for leaf in largest if leaf[0].endswith("/key") and leaf[1] == "b"}
    # The norm after an MBConv's first convolution takes away what the offset before it adds.
    offsets = {
        leaf
        for leaf in largest
        if leaf[1] == "offset" and (leaf[0].removesuffix("norm") + "expand", "w") in largest
    }
    assert without == key_biases | offsets
    return {"/".join(leaf) for leaf in without}
