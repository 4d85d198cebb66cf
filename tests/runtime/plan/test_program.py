"""Reading of compiled programs."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from perceiver_io.runtime.plan import program
from perceiver_io.runtime.plan.program import Collective

# As for GPUs: a loop that runs seven times, library calls, communication that is started and ended.
GPU = (Path(__file__).parent / "gpu.hlo").read_text()

# As for TPUs: the loop's limit is in its condition; one array of each kernel stays within the chip,
# and a part of an all-gather is written in each of the fusions that it runs beside.
TPU = (Path(__file__).parent / "tpu.hlo").read_text()


def test_kernels_of_a_gpu():
    kernels = {kernel.source: kernel for kernel in program.kernels(program.parse(GPU))}
    assert set(kernels) == {"jit(f)/dot", "jit(f)/store", "jit(f)/read"}
    assert {kernel.times for kernel in kernels.values()} == {7}
    one, weight, index = 128 * 512 * 2, 512 * 512 * 2, 4
    product = kernels["jit(f)/dot"]
    # Without the workspace of the library.
    assert (product.bytes, product.flops) == (2 * one + weight, 2 * 128 * 512 * 512)
    assert product.is_half
    # One of seven parts is read and written.
    assert kernels["jit(f)/store"].bytes == 2 * one + index
    assert kernels["jit(f)/read"].bytes == 2 * one + index


def test_collectives_of_a_gpu():
    size = 512 * 512 * 2
    assert program.collectives(program.parse(GPU)) == [
        Collective("all-gather", 1, size),
        Collective("all-reduce", 1, size),
    ]


def test_kernels_and_collectives_of_a_tpu():
    computations = program.parse(TPU)
    copy = program.kernels(computations)[0]
    assert (copy.times, copy.cycles) == (10, 7402)
    assert copy.bytes == 512 * 512 * 2  # It is read from within the chip.
    assert program.collectives(computations) == [Collective("all-gather", 1, 2048 * 512 * 2)]


def test_a_fused_reduce_scatter():
    whole, part = "f32[64,128]{1,0}", "f32[8,128]{1,0}"
    text = f"""
%all-reduce-scatter.1 (p: f32[64,128]) -> f32[8,128] {{
  %p = {whole} parameter(0)
  %sum = {whole} all-reduce(%p), channel_id=1, to_apply=%add
  %i = u32[] constant(0)
  ROOT %own = {part} dynamic-slice(%sum, %i, %i), dynamic_slice_sizes={{8,128}}
}}

ENTRY %main (a: f32[64,128]) -> f32[8,128] {{
  %a = {whole} parameter(0)
  %other = {whole} all-reduce(%a), channel_id=1, to_apply=%add
  ROOT %f = {part} fusion(%a), kind=kCustom, calls=%all-reduce-scatter.1
}}
"""
    found = program.collectives(program.parse(text))
    size = 64 * 128 * 4
    assert found == [Collective("all-reduce", 1, size), Collective("reduce-scatter", 1, size)]


@pytest.mark.parametrize("shape, size", [("f32[]", 4), ("(u8[3,5], pred[2])", 17), ("token[]", 0)])
def test_size_of_a_shape(shape, size):
    assert program.size(shape) == size


def test_products_in_a_loop_of_a_program_that_was_just_compiled():
    def function(w, x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, None, length=5)[0]

    shapes = jax.ShapeDtypeStruct((64, 64), jnp.float32), jax.ShapeDtypeStruct((8, 64), jnp.float32)
    text = jax.jit(function).lower(*shapes).compile().as_text()
    kernels = program.kernels(program.parse(text))
    assert sum(kernel.times * kernel.flops for kernel in kernels) == 5 * 2 * 8 * 64 * 64
    assert not all(kernel.is_half for kernel in kernels)
