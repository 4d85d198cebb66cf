"""Times the exact rewritings that make the models fast, against their plain forms.

    python -m scripts.benchmark [--cases=encoder,decoder,stack,config,accelerator] [--repeats=5]
        [--config=configs/imagenet.py:fourier] [--config.any.key=VALUE]
        [--forms=default,plain] [--accelerator_scale=full]

Each case alternates between both sides in this process and prints their time, the temporary memory
of the compiled programs, and ratios. Cases:

encoder: ImageNet's cross-attention, 512 latents over 50,176 pixels with 3 features and 258 position
    channels each, forward and gradient: plain, in chunks, with folded projections, both.
decoder: the flow decoder, 182,528 queries with 64 features and 258 position channels over 2048
    latents of width 512: the same.
stack: gradient of 24 self-attention layers over 512 latents of width 512: scanned and
    rematerialised against a Python loop, including compile time.
config: forward and training gradient of a whole config at its batch size.
accelerator: for a GPU or TPU, not among the default cases. Training steps at published sizes, in
    bfloat16 with parameters in float32, including the optimizer (LAMB), with random batches on the
    device: the masked language model of 2048 bytes, batches of 32 and 128; ImageNet with Fourier
    positions, a batch of 32; optical flow of 368 x 496 pixels, a batch of 2, and its forward pass
    for one pair. TFLOP/s are model FLOPs, without rematerialisation: the forward pass in the
    textbook form, times three for training steps. The share is relative to the rate of large matrix
    products in bfloat16 on the same device. The forms: `default`, as configured; `plain`, with
    textbook attention; and, only if requested, `stored`, in addition with all queries at once and
    without rematerialisation. Cases that do not fit in memory are skipped. JAX takes 75% of a GPU's
    memory; XLA_PYTHON_CLIENT_MEM_FRACTION=.95 gives it more.
"""

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss
from perceiver_io.models.architectures import in_textbook_form
from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.decoder import Decoder
from perceiver_io.models.perceiver.encoder import LatentStack
from perceiver_io.models.perceiver.outputs import PositionProjection
from perceiver_io.models.perceiver.positions import FourierPositions, grid_of
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import (
    AttentionForm,
    CrossAttendSettings,
    DecoderSettings,
    LatentStackSettings,
    SelfAttendSettings,
)
from perceiver_io.models.transformer import SelfAttend
from perceiver_io.runtime import configuration, program, setup
from scripts import _accelerator, accelerator_cases

CASE_NAMES = flags.DEFINE_list("cases", ["encoder", "decoder", "stack", "config"], "Cases to run.")
REPEATS = flags.DEFINE_integer("repeats", 5, "Timed runs of each side; the median is shown.")
FORMS_SHOWN = flags.DEFINE_list("forms", ["default", "plain"], "For `accelerator`.")
SCALE = flags.DEFINE_enum(
    "accelerator_scale",
    "full",
    accelerator_cases.SCALES,
    "For `accelerator`: `tiny` is for trying it on a CPU, with small sizes in float32.",
)
CONFIG = flags.DEFINE_string("config", "configs/imagenet.py:fourier", "For the case `config`.")

TEXTBOOK = AttentionForm("textbook")
FORMS = {
    "textbook": TEXTBOOK,
    "in chunks": AttentionForm(fold_projections=False),
    "in chunks and folded": AttentionForm(),
}


class Program(NamedTuple):
    """A function of parameters and arguments."""

    params: Any
    apply: Callable


class Measured(NamedTuple):
    """Seconds to compile, median seconds to run, bytes of temporary memory."""

    compile_time: float
    time: float
    memory: int


def main() -> None:
    """Runs the chosen cases."""
    program.start_jax()
    jax.config.update("jax_compilation_cache_dir", None)  # since compile times are measured
    for name in CASE_NAMES.value:
        if name not in CASES:
            raise UserError(f"There is no case {name!r}; choose from {', '.join(CASES)}.")
        CASES[name]()


def encoder_case() -> None:
    """ImageNet's encoder cross-attention."""

    settings = CrossAttendSettings(num_heads=1, use_query_residual=True)

    def block(form):
        def apply(pixels, queries):
            inputs = _on_grid(pixels, (224, 224))
            return CrossAttend(settings, form)(Tokens(queries), inputs, is_training=False)

        return apply

    arguments = (_normal(1, 224 * 224, 3), _normal(1, 512, 1024))
    programs = {name: _program(block(form), arguments) for name, form in FORMS.items()}
    _compare("encoder cross-attention, forward", programs, arguments)
    _compare("encoder cross-attention, gradient", _gradients(programs), arguments)


def decoder_case() -> None:
    """The flow decoder, at once and in chunks of queries."""

    block = CrossAttendSettings(num_heads=1, use_query_residual=False)

    def decode(form):
        pieces = None if form == TEXTBOOK else 4096

        def apply(features, latents):
            decoder = Decoder(DecoderSettings(block, pieces), form)
            queries = _on_grid(features, (368, 496))
            return decoder(queries, latents, PositionProjection(2), is_training=False)

        return apply

    arguments = (_normal(1, 368 * 496, 64), _normal(1, 2048, 512))
    programs = {name: _program(decode(form), arguments) for name, form in FORMS.items()}
    _compare("flow decoder, forward", programs, arguments)


def stack_case() -> None:
    """24 latent layers, looped and scanned."""

    def looped(x):
        for _ in range(24):
            x = SelfAttend(SelfAttendSettings(num_heads=16), TEXTBOOK)(x, is_training=False)
        return x

    def stack(remat):
        settings = LatentStackSettings(num_heads=16, num_layers=24, remat=remat)
        return lambda x: LatentStack(settings, AttentionForm())(x, False)

    arguments = (_normal(1, 512, 512),)
    programs = {
        "looped": _program(looped, arguments),
        "scanned": _program(stack("none"), arguments),
        "scanned, products kept": _program(stack("products"), arguments),
        "scanned, rematerialised": _program(stack("all"), arguments),
    }
    _compare("24 latent layers, gradient", _gradients(programs), arguments)


def config_case() -> None:
    """A complete model: forward pass and gradient of the loss on a batch of noise."""
    config = configuration.load(CONFIG.value, program.overrides())
    task = setup.build_task(config)
    dataset = setup.build_dataset(config, task)
    spec = dataset.batch_spec(config.training.batch_size)
    rng = np.random.default_rng(0)
    # Pixels are integers up to 255; weights and flags are drawn from [0, 1).
    batch = {
        name: rng.random(shape).astype(dtype)
        if dtype != np.uint8
        else rng.integers(256, size=shape, dtype=np.uint8)
        for name, (shape, dtype) in spec.items()
    }
    inputs = task.model_inputs(batch)
    configured = setup.build_model(config.model, dataset)
    plain = setup.build_model(in_textbook_form(config.model), dataset)
    variables = jax.jit(configured.init)(jax.random.key(0), **inputs)

    def forward(model):
        def apply(variables, inputs):
            return model.apply(*variables, jax.random.key(0), **inputs, is_training=False)[0]

        return Program(variables, apply)

    def gradient(model):
        params, state = variables

        def loss(params, inputs):
            outputs, _ = model.apply(params, state, jax.random.key(0), **inputs, is_training=True)
            return batch_loss(task, outputs, batch)

        return Program(params, jax.grad(loss))

    title = f"{CONFIG.value}, batch {config.training.batch_size}"
    for name, make in (("forward", forward), ("gradient", gradient)):
        programs = {"plain": make(plain), "as configured": make(configured)}
        _compare(f"{title}, {name}", programs, (inputs,))


def accelerator_case() -> None:
    """Training steps at published sizes."""
    _accelerator.print_table(FORMS_SHOWN.value, SCALE.value, REPEATS.value)


CASES: dict[str, Callable[[], None]] = {
    "encoder": encoder_case,
    "decoder": decoder_case,
    "stack": stack_case,
    "config": config_case,
    "accelerator": accelerator_case,
}


def _on_grid(features: jax.Array, shape: tuple[int, ...]) -> Tokens:
    """Features with the published models' Fourier positions on a grid."""
    return Tokens(features, grid_of(FourierPositions(64, shape), shape))


def _program(function: Callable, arguments: Sequence[Any]) -> Program:
    """A Haiku function with random parameters."""
    transformed = hk.transform(function)

    def apply(params, *arguments):
        return transformed.apply(params, None, *arguments)

    return Program(jax.jit(transformed.init)(jax.random.key(0), *arguments), apply)


def _gradients(programs: dict[str, Program]) -> dict[str, Program]:
    """The gradient of the mean square of each result with respect to the parameters."""

    def gradient(apply):
        return jax.grad(lambda *args: jnp.square(apply(*args)).mean())

    return {name: Program(p.params, gradient(p.apply)) for name, p in programs.items()}


def _compare(title: str, programs: dict[str, Program], arguments: Sequence[Any]) -> None:
    """Prints a row for each program, with the ratios of the first program to it."""
    compiled, compile_times = {}, {}
    for name, timed in programs.items():
        start = time.perf_counter()
        compiled[name] = jax.jit(timed.apply).lower(timed.params, *arguments).compile()
        compile_times[name] = time.perf_counter() - start
    times = {name: [] for name in programs}
    for repeat in range(REPEATS.value + 1):  # the first round warms up
        for name, timed in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(compiled[name](timed.params, *arguments))
            if repeat:
                times[name].append(time.perf_counter() - start)
    sides = {
        name: Measured(
            compile_times[name],
            statistics.median(times[name]),
            compiled[name].memory_analysis().temp_size_in_bytes,
        )
        for name in programs
    }
    _print_table(title, sides)


def _print_table(title: str, sides: dict[str, Measured]) -> None:
    print(f"\n{title}\n{'':26}{'compile':>18}{'time':>22}{'temporary memory':>24}")
    first = next(iter(sides.values()))
    for name, side in sides.items():
        print(
            f"{name:26}"
            f"{side.compile_time:8.2f} s {first.compile_time / side.compile_time:7.1f}x"
            f"{side.time * 1e3:12.1f} ms {first.time / side.time:6.1f}x"
            f"{side.memory / 2**20:14.1f} MiB {first.memory / side.memory:6.1f}x",
            flush=True,
        )


def _normal(*shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(sum(shape)), shape)


if __name__ == "__main__":
    program.run(main)
