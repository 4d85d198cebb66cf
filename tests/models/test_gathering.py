"""Sharded parameters are sent, not activations."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io import axes
from perceiver_io.axes import shard_spec
from perceiver_io.models.architectures import build
from perceiver_io.models.gathering import gathered
from perceiver_io.runtime.plan import program
from perceiver_io.training.parallel import Mesh
from tests.helpers.architectures import small
from tests.helpers.strategies import shardings


def compiled(section, inputs, num_shards):
    """The program of a gradient with sharded parameters, and the number of parameters."""
    model = build(section)
    mesh = Mesh(fsdp=num_shards)
    state = mesh.template(model.shapes())

    def gradient(params, model_state, inputs):
        def loss(params):
            rng = jax.random.key(0)
            outputs, _ = model.apply(params, model_state, rng, inputs=inputs, is_training=True)
            return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(outputs))

        return jax.grad(loss)(params)

    with jax.sharding.use_abstract_mesh(mesh._mesh.abstract_mesh):
        step = jax.jit(gradient, out_shardings=shardings(state[0]))
        found = step.lower(*state, mesh.batch_template(inputs)).compile()
    return found, sum(x.size for x in jax.tree.leaves(state[0]))


def repeated(inputs, batch):
    return jax.tree.map(lambda x: np.repeat(x[:1], batch, axis=0), inputs)


@pytest.mark.parametrize("name", ["perceiver_io_masked_lm", "perceiver_io_flow"])
def test_what_is_sent_does_not_grow_with_the_batch(name, monkeypatch):
    monkeypatch.setattr(axes, "_MIN_SHARDED_SIZE", 1)
    section, inputs = small(name)

    def sent(batch):
        found, count = compiled(section, repeated(inputs, batch), 4)
        entries = program.collectives(program.parse(found.as_text()))
        return sum(x.times * x.bytes for x in entries), 4 * count

    few, params = sent(8)
    many, _ = sent(64)
    assert params < few == pytest.approx(many, rel=0.01)
    # Forward and backward pass bring them together, and gradients are added up.
    assert many < 4 * params


@pytest.mark.parametrize("remat", ["none", "products", "all"])
def test_one_layer_at_a_time_is_whole(remat, monkeypatch):
    """Of 16 layers, no device ever holds all weights of a kind."""
    monkeypatch.setattr(axes, "_MIN_SHARDED_SIZE", 1)
    section, inputs = small("perceiver_io_masked_lm")
    section = copy.deepcopy(section)
    stack = section["encoder"]["latent_stack"]
    stack.update(num_layers=16, remat=remat)
    width = section["encoder"]["latent_dim"]
    text = compiled(section, repeated(inputs, 4), 4)[0].as_text()
    assert f"f32[16,{width // 4},{width}]" in text
    assert f"f32[16,{width},{width}]" not in text


def test_of_which_axis_there_are_shards():
    assert shard_spec((64, 32, 48), 8) == ("fsdp",)
    assert shard_spec((64, 32, 48), 8, num_stacked=1) == (None, None, "fsdp")
    assert shard_spec((64, 30, 45), 8, num_stacked=1) == ()
    assert shard_spec((8, 127), 8) == ()  # small


def test_the_gradient_is_a_sum_of_which_each_device_has_a_shard():
    mesh = Mesh(fsdp=4)
    weight, x = np.ones((32, 32), np.float32), np.ones((4, 32), np.float32)
    x[1:] = 2.0**-9

    def gradient(weight, x):
        return jax.grad(lambda w: jnp.sum(x @ gathered(w, jnp.float32)))(weight)

    with jax.sharding.use_abstract_mesh(mesh._mesh.abstract_mesh):
        placed = mesh.place({"x": x})["x"]
        sharded = jax.device_put(weight, mesh._sharding(*shard_spec(weight.shape, 4)))
        found = jax.jit(gradient)(sharded, placed)
    assert found.sharding.is_equivalent_to(sharded.sharding, 2)
    np.testing.assert_array_equal(found, np.full((32, 32), 1 + 3 * 2.0**-9))
