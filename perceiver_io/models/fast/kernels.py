"""Fused attention on NVIDIA GPUs: kernels that keep the logits in on-chip memory."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.gpu import attention as pallas
from jaxtyping import Array, Bool, Float

from perceiver_io.models.fast.whole import Arrays, aligned

Kernel = Literal["cudnn", "pallas", "none"]


def takes(
    kernel: Kernel, arrays: Arrays, *, key_mask: Bool[Array, "#B M"] | None, drops: bool
) -> bool:
    """Whether the kernel supports this attention; none supports masks or dropout."""
    if kernel == "none" or drops or key_mask is not None:
        return False
    if arrays.bias is not None and not (kernel == "cudnn" and _is_shared(arrays)):
        return False
    widest = max(arrays.keys.shape[-1], arrays.values.shape[-1])
    few, many = sorted(x.shape[1] for x in (arrays.queries, arrays.keys))
    if kernel == "cudnn":
        half = arrays.queries.dtype == jnp.bfloat16
        # Its backward pass requires an even number of queries and of keys.
        return half and few % 2 == many % 2 == 0 and widest <= _widest_cudnn_head()
    # Block sizes must divide the numbers of queries and keys; the backward pass requires equally
    # many blocks of both.
    divide = few % 64 == many % 64 == 0 and many % few == 0 and many <= 8 * few
    return widest <= 256 and divide


def _is_shared(arrays: Arrays) -> bool:
    """Whether the bias is the same for all examples, with a number for each head, query and key.

    Of others, not every version of cuDNN has a gradient.
    """
    (_, num_queries, heads, _), num_keys = arrays.queries.shape, arrays.keys.shape[1]
    return arrays.bias.shape == (1, heads, num_queries, num_keys)


def _widest_cudnn_head() -> int:
    """The widest head that cuDNN supports on this process's GPUs; 0 if there are none.

    Programs compiled here for other machines do not use cuDNN, whose version decides on support.
    """
    try:
        gpu = jax.devices("cuda")[0]
    except RuntimeError:
        return 0
    generation = int(gpu.compute_capability.split(".")[0])
    return 256 if generation >= 9 else 128 if generation == 8 else 0


def fused_attention(
    kernel: Kernel, arrays: Arrays, *, scale: float, interpret: bool = False
) -> Float[Array, "B O H V"]:
    """As `attention.attention`, for arrays that the kernel supports.

    Heads of keys and values are zero-padded to a common size, a multiple of 8. For cuDNN, the
    bias is rounded to half precision, as is its gradient.
    """
    batch = max(map(len, arrays[:3]))
    widest = max(x.shape[-1] for x in arrays[:3])
    queries, keys, values = (
        aligned(jnp.broadcast_to(x, (batch, *x.shape[1:])), widest) for x in arrays[:3]
    )
    if kernel == "cudnn":
        bias = None if arrays.bias is None else arrays.bias.astype(queries.dtype)
        attended = jax.nn.dot_product_attention(
            queries, keys, values, bias, scale=scale, implementation="cudnn"
        )
    else:
        blocks = _blocks(queries.shape[1], keys.shape[1], keys.shape[-1])
        attended = pallas.mha(
            queries, keys, values, None, scale, False, blocks, interpret=interpret
        )
    return attended[..., : arrays.values.shape[-1]]


def _blocks(num_queries: int, num_keys: int, size: int) -> pallas.BlockSizes:
    """Block sizes that fit into on-chip memory, with equally many blocks of queries and keys."""
    few, many = sorted((num_queries, num_keys))
    count = few // (32 if many <= 4 * few else 16)
    block = 128 if size <= 128 else 64
    return pallas.BlockSizes(
        block_q=block if num_queries % block == 0 else 64,
        block_k=block if num_keys % block == 0 else 64,
        block_q_dkv=32,
        block_kv_dkv=num_keys // count,
        block_q_dq=num_queries // count,
        block_kv_dq=32,
    )
