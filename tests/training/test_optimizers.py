"""Schedules against NumPy, weight decay by role, LAMB layer by layer."""

import collections

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import ARCHITECTURES, build
from perceiver_io.training.optimizers import (
    build_optimizer,
    build_schedule,
    decay_mask,
    scale_by_layer_trust_ratio,
)
from perceiver_io.training.state import names
from tests.helpers.architectures import small

STEPS = np.arange(60)


def warm_up(rates, peak, warmup):
    return np.where(warmup > STEPS, peak * STEPS / max(warmup, 1), rates)


def cosine(start, stop, peak, end):
    progress = np.clip((STEPS - start) / (stop - start), 0, 1)
    return end + (peak - end) * 0.5 * (1 + np.cos(np.pi * progress))


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (dict(name="constant"), lambda w: np.full(60, 2.0)),
        (dict(name="cosine", total_steps=50), lambda w: cosine(w, 50, 2.0, 0.0)),
        (dict(name="cosine", total_steps=50, end=0.5), lambda w: cosine(w, 50, 2.0, 0.5)),
        (
            dict(name="flat_then_cosine", flat_steps=30, total_steps=50),
            lambda w: cosine(30, 50, 2.0, 0.0),
        ),
        (
            dict(name="linear", total_steps=50, end=0.5),
            lambda w: np.interp(STEPS, [w, 50], [2.0, 0.5]),
        ),
        (
            dict(name="steps", boundaries=(20, 40), factor=0.1),
            lambda w: 2.0 * 0.1 ** ((STEPS >= 20).astype(int) + (STEPS >= 40)),
        ),
    ],
)
def test_schedules(section, expected, warmup):
    schedule = build_schedule({**section, "peak": 2.0, "warmup_steps": warmup})
    rates = np.array([schedule(step) for step in STEPS])
    np.testing.assert_allclose(rates, warm_up(expected(warmup), 2.0, warmup), rtol=1e-5, atol=1e-7)


# The former rule, by name patterns: the role of each parameter that is not a plain weight.
ROLES = {
    "bias_or_norm": ("/b", "/scale", "/offset"),
    "position": (
        "encoder/latents",
        "positions/embeddings",
        "query_positions/embeddings",
        "queries/embeddings",
        "label_query/embeddings",
        "audio_query_padding/embeddings",
        "image_query_padding/embeddings",
        "label_query_padding/embeddings",
        "attention/table",
        "class_token",
        "pointer/end",
    ),
}
# Numbers of weights, of biases and norms, and of positions in each model.
COUNTS = {
    "perceiver_io_classifier": (20, 37, 2),
    "perceiver_classifier": (19, 35, 1),
    "perceiver_io_masked_lm": (19, 35, 3),
    "perceiver_io_text_classifier": (20, 35, 3),
    "perceiver_io_sentence_classifier": (21, 36, 3),
    "perceiver_io_multitask": (22, 36, 3),
    "perceiver_io_tagger": (20, 35, 3),
    "bert_masked_lm": (7, 13, 1),
    "perceiver_io_flow": (20, 36, 1),
    "perceiver_io_flow_separate": (20, 36, 1),
    "perceiver_io_flow_conv": (20, 37, 1),
    "perceiver_io_flow_matched": (23, 43, 1),
    "perceiver_io_autoencoder": (28, 38, 5),
    "perceiver_io_clip_tagger": (23, 35, 2),
    "perceiver_clip_tagger": (17, 23, 1),
    "convnet_classifier": (3, 5, 0),
    "resnet_classifier": (10, 19, 0),
    "vit_classifier": (8, 14, 2),
    "transformer_classifier": (8, 12, 0),
    "coatnet_classifier": (27, 45, 2),
    "perceiver_io_commander": (34, 49, 2),
    "transformer_commander": (22, 25, 1),
}


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_decayed_parameters_of_every_architecture(architecture):
    section, _ = small(architecture)
    model = build(section)
    params = model.shapes()[0]
    masks = [names(decay_mask(params, model.roles(), positions=x)) for x in (True, False)]
    roles = {name: "weight" for name in masks[0]}
    roles |= {
        name: role for name in roles for role, endings in ROLES.items() if name.endswith(endings)
    }
    assert masks[0] == {name: role != "bias_or_norm" for name, role in roles.items()}
    assert masks[1] == {name: role == "weight" for name, role in roles.items()}
    count = collections.Counter(roles.values())
    assert tuple(count[x] for x in ("weight", "bias_or_norm", "position")) == COUNTS[architecture]


@pytest.mark.parametrize("decay_positions", [True, False])
def test_weight_decay_leaves_biases_and_positions_alone(decay_positions):
    params = {"linear": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}, "encoder": {"latents": 1.0}}
    section = dict(name="sgd", weight_decay=0.1, clip_norm=None, decay_positions=decay_positions)
    roles = {"linear/b": "bias_or_norm", "encoder/latents": "position"}
    optimizer = build_optimizer(section, optax.constant_schedule(1.0), roles)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["linear"]["w"], -0.1)
    np.testing.assert_array_equal(updates["linear"]["b"], 0)
    np.testing.assert_allclose(updates["encoder"]["latents"], -0.1 if decay_positions else 0)


def _network(depth, stacked):
    def layer(x):
        return x + hk.Linear(5, name="linear", w_init=hk.initializers.RandomNormal())(x)

    def forward(x):
        if stacked:
            return hk.experimental.layer_stack(depth)(layer)(x)
        for i in range(depth):
            x = x + hk.Linear(5, name=f"linear_{i}")(x)
        return x

    return hk.without_apply_rng(hk.transform(forward))


@pytest.mark.slow
def test_lamb_treats_scanned_layers_as_separate_layers():
    """Ten steps on the same function give equal parameters, stacked or not."""
    depth = 3
    x = jax.random.normal(jax.random.key(1), (4, 5))
    scanned, looped = _network(depth, True), _network(depth, False)
    params = scanned.init(jax.random.key(0), x)
    (stack,) = params.values()
    assert stack["w"].shape == (depth, 5, 5)
    # Layers of very different magnitudes have very different trust ratios.
    stack = {"w": stack["w"] * jnp.array([1.0, 5.0, 0.2])[:, None, None], "b": stack["b"] + 0.1}
    params = dict.fromkeys(params, stack)
    unstacked = {
        f"linear_{i}": {name: value[i] for name, value in stack.items()} for i in range(depth)
    }
    results = []
    for network, start in ((scanned, params), (looped, unstacked)):
        section = dict(name="lamb", weight_decay=0.1, clip_norm=1.0, decay_positions=True)
        roles = {f"{module}/b": "bias_or_norm" for module in start}
        optimizer = build_optimizer(section, optax.constant_schedule(0.01), roles)

        @jax.jit
        def step(current, state, network=network, optimizer=optimizer):
            gradient = jax.grad(lambda params: jnp.mean(network.apply(params, x) ** 2))(current)
            updates, state = optimizer.update(gradient, state, current)
            return optax.apply_updates(current, updates), state

        current, state = start, optimizer.init(start)
        for _ in range(10):
            current, state = step(current, state)
        results.append(current)
    (stack,) = results[0].values()
    for i in range(depth):
        for name in ("w", "b"):
            np.testing.assert_allclose(
                stack[name][i], results[1][f"linear_{i}"][name], rtol=1e-4, atol=1e-6
            )


def test_trust_ratio_of_nested_stacks():
    rng = np.random.default_rng(0)
    param = rng.normal(size=(2, 3, 4)).astype(np.float32)
    update = rng.normal(size=(2, 3, 4)).astype(np.float32)
    transform = scale_by_layer_trust_ratio()
    name = "__layer_stack_no_per_layer/__layer_stack_no_per_layer/linear"
    scaled, _ = transform.update({name: {"b": update}}, transform.init(None), {name: {"b": param}})
    ratio = np.linalg.norm(param, axis=-1) / np.linalg.norm(update, axis=-1)
    np.testing.assert_allclose(scaled[name]["b"], update * ratio[..., None], rtol=1e-5)


@pytest.mark.parametrize("name", ["lamb", "adamw", "sgd"])
def test_clipping(name):
    """Beyond the limit, a longer gradient gives the same step."""
    section = dict(name=name, weight_decay=0.0, clip_norm=1.0, decay_positions=True)
    optimizer = build_optimizer(section, optax.constant_schedule(0.1), {})
    params = {"linear": {"w": jnp.ones((3,))}}
    gradient = {"linear": {"w": jnp.array([3.0, -4.0, 0.0])}}
    steps = []
    for scale in (1.0, 100.0):
        longer = jax.tree.map(lambda g, s=scale: s * g, gradient)
        steps.append(optimizer.update(longer, optimizer.init(params), params))
    np.testing.assert_allclose(
        steps[0][0]["linear"]["w"], steps[1][0]["linear"]["w"], rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (dict(name="lam"), r"config.optimizer.name is 'lam'.*did you mean 'lamb'"),
        (
            dict(name="adamw", weight_decay=0.1, clip_norm=None, decay_position=True),
            "config.optimizer.decay_position is not a setting.*did you mean 'decay_positions'",
        ),
        (dict(name="sgd", clip_norm=None), "config.optimizer lacks weight_decay"),
    ],
)
def test_wrong_sections(section, message):
    with pytest.raises(UserError, match=message):
        build_optimizer(section, optax.constant_schedule(1.0), {})
