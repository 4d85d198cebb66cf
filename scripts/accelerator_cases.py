"""The workloads of `scripts.benchmark --cases=accelerator`, ready to compile.

    function, shapes, donate = case("language_128", form="default")
    jax.jit(function, donate_argnums=donate).lower(*shapes).compile()

Nothing is run for this, so that cases can be compiled for devices that are not present. Computation
is in bfloat16, with parameters, softmax, norms and loss in float32; the tiny cases use float32,
since CPUs lack some bfloat16 products.
"""

import dataclasses
import functools
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from configs import imagenet, optical_flow
from perceiver_io.config.construct import listing
from perceiver_io.data.pipeline.dataset import Spec
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build, in_textbook_form
from perceiver_io.runtime import configuration, setup
from perceiver_io.tasks.task import Batch
from perceiver_io.training.state import TrainState
from perceiver_io.training.step import TrainStep
from scripts.forms import plain_model

# How each form changes a model section.
FORMS: dict[str, Callable] = {
    "default": lambda section: section,
    "plain": in_textbook_form,
    "stored": plain_model,
}
SCALES = ("full", "tiny")


class Case(NamedTuple):
    """A function, the shapes of its arguments, and which of them are donated."""

    function: Callable
    shapes: tuple[Any, Any]
    donate: tuple[int, ...]


class Item(NamedTuple):
    """A case's experiment, batch size, and whether it is a training step or a forward pass."""

    experiment: str
    batch_size: int
    trains: bool = True


ITEMS = {
    "language_32": Item("language", 32),
    "language_128": Item("language", 128),
    "imagenet_32": Item("imagenet", 32),
    "flow_2": Item("flow", 2),
    "flow_forward_1": Item("flow", 1, trains=False),
}


def case(name: str, form: str = "default", scale: str = "full") -> Case:
    """A training step `(state, batch) -> (state, metrics)`, or `(state, batch) -> outputs`.

    Args:
        name: one of `ITEMS`.
        form: "default", as configured; "plain", with textbook attention; or "stored", in addition
            with all queries at once and without rematerialisation.
        scale: "full", or "tiny" for small sizes and a batch of 2, for tests.

    Raises UserError if there is no such name, form or scale.
    """
    for given, known in ((name, ITEMS), (form, FORMS), (scale, SCALES)):
        if given not in known:
            raise UserError(f"There is no {given!r}; choose from {listing(known)}.")
    config, parts, step, initialise = _experiment(ITEMS[name].experiment, scale)
    model = setup.build_model(FORMS[form](config.model.to_dict()), parts.dataset)
    step = dataclasses.replace(step, model=model)

    def train(state, batch):
        return step.update(state, step.gradients(state, batch))

    def apply(state, batch):
        inputs = step.task.model_inputs(batch)
        variables = state.params, state.model_state
        return step.model.apply(*variables, None, **inputs, is_training=False)[0]

    shapes = jax.eval_shape(initialise), setup.batch_shapes(parts.dataset, _batch_size(name, scale))
    return Case(train, shapes, donate=(0,)) if ITEMS[name].trains else Case(apply, shapes, ())


def arguments(name: str, scale: str) -> tuple[TrainState, dict[str, Array]]:
    """The initial state and a random batch, created on the device."""
    _, parts, _, initialise = _experiment(ITEMS[name].experiment, scale)

    @functools.partial(jax.jit, donate_argnums=0)
    def moved(state):
        # Multiplying by layers initialised to zero would be faster on chips that save power.
        return state._replace(params=jax.tree.map(lambda x: x + 0.01, state.params))

    @jax.jit
    def batch():
        shapes = setup.batch_shapes(parts.dataset, _batch_size(name, scale))
        return {key: _random(shape) for key, shape in shapes.items()}

    return moved(jax.jit(initialise)()), batch()


def model_flops(name: str, scale: str) -> int:
    """Model FLOPs of a case; by convention, training takes three times the forward pass."""
    config, parts, _, initialise = _experiment(ITEMS[name].experiment, scale)
    state = jax.eval_shape(initialise)
    if ITEMS[name].trains:
        flops = setup.training_flops(config, parts, state)
    else:
        flops = setup.forward_flops(in_textbook_form(config.model), parts, state)
    return flops * _batch_size(name, scale)


class _Experiment(NamedTuple):
    """A config, the objects of its sections, the training step and its state initialiser."""

    config: ConfigDict
    parts: setup.Parts
    step: TrainStep
    initialise: Callable[[], TrainState]


@functools.cache
def _experiment(name: str, scale: str) -> _Experiment:
    config = _CONFIGS[name]()
    if scale == "full":
        config.model.compute_dtype = "bfloat16"
    else:
        config.model.update_from_flattened_dict(_TINY | _TINY_INPUTS[name])
    config = configuration.overridden(config)
    if name == "language":
        language = MaskedBytes(config.model.vocab_size, config.model.max_length)
        parts = setup.Parts(language, language, build(config.model), None)
    else:
        parts = setup.build_parts(config)
    return _Experiment(config, parts, *setup.training_step(config, parts))


@dataclasses.dataclass(frozen=True)
class MaskedBytes:
    """The task and dataset interface that `TrainStep` needs, for masked language modelling.

    Batches hold `inputs` and `targets` [B, M] (token ids), and the `weights` [B, M] of positions in
    the loss.
    """

    vocab_size: int
    length: int

    def batch_spec(self, batch_size: int) -> Spec:
        """Shape and dtype of each array of a batch."""
        shape = (batch_size, self.length)
        return {
            "inputs": (shape, np.dtype(np.int32)),
            "targets": (shape, np.dtype(np.int32)),
            "weights": (shape, np.dtype(np.float32)),
        }

    def augmented(self, batch: Batch) -> Batch:
        """The batch itself."""
        return batch

    def model_inputs(self, batch: Batch) -> dict[str, Array]:
        """The ids, as the model's `inputs`."""
        return {"inputs": batch["inputs"]}

    normalization: ClassVar = None
    loss_weights: ClassVar = MappingProxyType({"loss": 1.0})

    def loss_masks(self, batch: Batch) -> dict[str, Array]:
        """The weights of the positions."""
        return {"loss": batch["weights"]}

    def losses(self, outputs: Float[Array, "B M V"], batch: Batch) -> dict[str, Array]:
        """The cross-entropy at each position."""
        return {"loss": optax.softmax_cross_entropy_with_integer_labels(outputs, batch["targets"])}


def _language() -> ConfigDict:
    """The published masked language model with 201M parameters, trained with LAMB."""
    block = dict(num_heads=8, qk_dim=256, v_dim=1280)
    model = dict(
        name="perceiver_io_masked_lm",
        vocab_size=262,
        max_length=2048,
        embedding_dim=768,
        encoder=dict(
            num_latents=256,
            latent_dim=1280,
            num_blocks=1,
            cross_attend=dict(block, use_query_residual=True),
            latent_stack=dict(block, num_layers=26, remat="products"),
        ),
        decoder=dict(cross_attend=dict(block, use_query_residual=False, v_dim=768)),
    )
    config = imagenet.get_config()
    del config.data, config.task
    config.model = model
    return config


_CONFIGS = {
    "language": _language,
    "imagenet": lambda: imagenet.get_config("fourier"),
    "flow": lambda: optical_flow.get_config("patches"),
}

_TINY = {
    "encoder.num_latents": 8,
    "encoder.latent_dim": 16,
    "encoder.latent_stack.num_layers": 2,
}
_TINY_INPUTS = {
    "language": {"max_length": 32, "embedding_dim": 16},
    "imagenet": {"inputs.image_size": (16, 16)},
    "flow": {"image_size": (16, 24)},
}


def _batch_size(name: str, scale: str) -> int:
    return ITEMS[name].batch_size if scale == "full" else 2


def _random(shape: jax.ShapeDtypeStruct) -> Array:
    """Floats from 0 to 1, integers from 0 to 255, or booleans that are all True."""
    rng = jax.random.key(0)
    if shape.dtype == bool:
        return jnp.ones(shape.shape, bool)
    if jnp.issubdtype(shape.dtype, jnp.integer):
        return jax.random.randint(rng, shape.shape, 0, 256).astype(shape.dtype)
    return jax.random.uniform(rng, shape.shape, shape.dtype)
