"""Cross-attends whose longer side is split over devices, compared with one device."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.models import fast, sequence
from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.tokens import GridPositions, Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings
from perceiver_io.runtime.plan import program
from perceiver_io.training.parallel import Mesh
from tests.helpers import oracles
from tests.helpers.oracles import normal
from tests.helpers.strategies import mesh_of_one_device

pytestmark = pytest.mark.usefixtures("for_cpu")


def compiled_gradients(mesh, form, num_heads, queries, inputs, by_inputs=True):
    """A function (params, {}, (queries, inputs)) -> (gradients, {}, outputs), and its params."""
    settings = CrossAttendSettings(num_heads=num_heads, qk_dim=8, v_dim=8)

    def run(queries, inputs):
        block = CrossAttend(settings, form)
        return block(queries, sequence.split_inputs(inputs), is_training=True)

    init, apply = hk.transform(run)

    def step(params, _, tokens):
        queries, inputs = tokens

        def outputs(params, queries, features):
            return apply(params, None, queries, inputs._replace(features=features))

        def of_params(params):
            return outputs(params, queries, inputs.features)

        chosen = (outputs, params, queries, inputs.features) if by_inputs else (of_params, params)
        value, gradients = oracles.values_and_gradients(*chosen)
        return gradients, {}, value

    return mesh.compile_evaluation(step), oracles.random_params(init, queries, inputs)


def grid(batch, rows, columns):
    positions = GridPositions(normal(1, rows, 6, seed=2), normal(1, 1, columns, 6, seed=3))
    return Tokens(normal(batch, rows * columns, 3, seed=4), positions)


def masked(count):
    """The first device's inputs are all masked for the first example; all for the second one."""
    mask = np.ones((2, count), bool)
    mask[0, : count // 4 + 1] = mask[1] = False
    return Tokens(normal(2, count, 6, seed=5), mask=jnp.asarray(mask))


FEW = Tokens(normal(2, 5, 8))
SHARED = Tokens(normal(1, 5, 8))
CASES = {
    "rows of a grid": (AttentionForm(key_chunk_size=3), 1, SHARED, grid(2, 8, 3)),
    "a grid that cannot be cut": (AttentionForm(key_chunk_size=4), 1, FEW, grid(2, 3, 8)),
    "masks and heads": (AttentionForm(key_chunk_size=4), 2, FEW, masked(24)),
    "masks without folding": (AttentionForm(fold_projections=False), 1, FEW, masked(24)),
    "padding": (AttentionForm(), 1, SHARED, Tokens(normal(2, 22, 6))),
    "queries": (AttentionForm(), 2, Tokens(normal(2, 24, 8)), FEW),
    "textbook": (AttentionForm("textbook"), 2, FEW, masked(24)),
}


@pytest.mark.parametrize("case", CASES)
def test_four_devices_equal_one(case):
    form, num_heads, queries, inputs = CASES[case]

    def outcome(mesh):
        compiled, params = compiled_gradients(mesh, form, num_heads, queries, inputs)
        return compiled(params, {}, (queries, inputs))

    oracles.assert_close(
        outcome(Mesh(jax.devices()[:4], sequence=4)), outcome(mesh_of_one_device()), 1e-4
    )


@pytest.mark.parametrize("target", ["cpu", "other"])
def test_each_device_needs_memory_for_its_own_inputs_only(target, monkeypatch):
    """On CPUs, with explicit sums; on accelerators, as the compiler splits the softmax."""
    monkeypatch.setattr(fast, "_by_platform", lambda function, *rest: function(target, *rest))
    inputs = Tokens(normal(1, 2**14, 30))
    memory = []
    for mesh in (mesh_of_one_device(), Mesh(jax.devices()[:4], sequence=4)):
        form = AttentionForm(fold_projections=False)
        step, params = compiled_gradients(mesh, form, 1, SHARED, inputs, by_inputs=False)
        placed = params, {}, (SHARED, mesh.place(inputs))
        compiled = step.lower(*placed).compile()
        memory.append(compiled.memory_analysis().temp_size_in_bytes)
    # Partial maxima and sums are sent, and the gradients of weights and queries; no inputs.
    sent = [x.bytes for x in program.collectives(program.parse(compiled.as_text()))]
    assert sent and max(sent) < inputs.features.nbytes / 100
    assert memory[1] < 0.3 * memory[0]
