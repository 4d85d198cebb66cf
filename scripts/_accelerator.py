"""Measures and prints the table of `scripts.benchmark --cases=accelerator`."""

import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from perceiver_io.training.speed import digits
from scripts.accelerator_cases import ITEMS, arguments, case, model_flops
from scripts.side_process import free_memory

# Side of the matrices whose product measures the device's peak rate.
MATRIX_SIZES = {"full": 8192, "tiny": 256}
PRODUCTS = 10
WARM_UP = 2


class Measured(NamedTuple):
    """Median seconds of a step, bytes of temporary memory, seconds to compile."""

    seconds: float
    temporary: int
    compile_seconds: float


class DoesNotFitError(Exception):
    """A program needs more memory than is available on the device."""


def print_table(forms: Sequence[str], scale: str, repeats: int) -> None:
    """Prints a row for each case and form; shares are relative to the bfloat16 product rate."""
    size = MATRIX_SIZES[scale]
    rates = {dtype: product_rate(dtype, size) for dtype in (jnp.bfloat16, jnp.float32)}
    half, single = rates.values()
    print(
        f"\n{jax.devices()[0].device_kind}, jax {jax.__version__}; products of matrices of side "
        f"{size}: {digits(half / 1e12)} TFLOP/s in bfloat16, {digits(single / 1e12)} in float32\n"
        f"{'':24}{'step':>12}{'TFLOP/s':>10}{'share':>7}{'temporary':>13}{'compile':>10}"
    )
    for name in ITEMS:
        flops = model_flops(name, scale)
        for form in forms:
            try:
                columns = _columns(measure(name, form, scale, repeats), flops, half)
            except DoesNotFitError as error:
                columns = f"    {error}"
            print(f"{name:16}{form:8}{columns}", flush=True)


def measure(name: str, form: str, scale: str, repeats: int) -> Measured:
    """Compiles and runs a case. Raises DoesNotFitError if there is not enough memory."""
    try:
        function, shapes, donate = case(name, form, scale)
        start = time.perf_counter()
        compiled = jax.jit(function, donate_argnums=donate).lower(*shapes).compile()
        compile_seconds = time.perf_counter() - start
        _check_memory(compiled)
        state, batch = arguments(name, scale)
        times = []
        for _ in range(WARM_UP + repeats):
            start = time.perf_counter()
            result = jax.block_until_ready(compiled(state, batch))
            times.append(time.perf_counter() - start)
            if donate:
                state = result[0]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise DoesNotFitError("does not fit: the device ran out of memory") from error
    temporary = compiled.memory_analysis().temp_size_in_bytes
    return Measured(statistics.median(times[WARM_UP:]), temporary, compile_seconds)


def product_rate(dtype: DTypeLike, size: int) -> float:
    """FLOP/s of the product of two square matrices, best of several runs."""
    x, w = (jax.random.normal(jax.random.key(i), (size, size), dtype) for i in range(2))
    w /= size**0.5  # keeps the variance of the product at 1

    @jax.jit
    def products(x, w):
        return jax.lax.fori_loop(0, PRODUCTS, lambda _, x: x @ w, x)

    times = []
    for _ in range(WARM_UP + 5):
        start = time.perf_counter()
        products(x, w).block_until_ready()
        times.append(time.perf_counter() - start)
    return PRODUCTS * 2 * size**3 / min(times)


def _check_memory(compiled: Any) -> None:
    """Raises DoesNotFitError if a program's arrays do not fit into the free memory."""
    sizes = compiled.memory_analysis()
    needed = (
        sizes.argument_size_in_bytes
        + sizes.output_size_in_bytes
        - sizes.alias_size_in_bytes
        + sizes.temp_size_in_bytes
    )
    stats = jax.devices()[0].memory_stats()
    free = free_memory() if stats is None else stats["bytes_limit"] - stats["bytes_in_use"]
    if needed > free:
        raise DoesNotFitError(
            f"does not fit: needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free"
        )


def _columns(measured: Measured, flops: int, product: float) -> str:
    rate = flops / measured.seconds
    return (
        f"{measured.seconds * 1e3:9.2f} ms{digits(rate / 1e12):>10}{rate / product:7.1%}"
        f"{measured.temporary / 2**30:9.2f} GiB{measured.compile_seconds:8.1f} s"
    )
