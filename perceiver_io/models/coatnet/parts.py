"""What both kinds of block are made of: norms, convolutions, pooling, shortcuts."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models import fast
from perceiver_io.models.batch_norm import batch_norm
from perceiver_io.models.coatnet.settings import CoAtNetBlocks, Norm, Pooling
from perceiver_io.models.layers import gelu, layer_norm
from perceiver_io.models.settings import AttentionForm
from perceiver_io.models.weights import BIAS_INIT, WEIGHT_INIT, get_layer_norm

# Symmetric, as in PyTorch; the result has half the size, rounded up, with a stride of 2.
_PADDING = ((1, 1), (1, 1))


def norm(
    kind: Norm, x: Float[Array, "*B C"], is_training: bool, *, name: str, epsilon: float = 1e-5
) -> Float[Array, "*B C"]:
    """Batch norm, computed in float32, or layer norm over the channels."""
    if kind == "layer":
        return layer_norm(get_layer_norm(name, x.shape[-1]), x, epsilon)
    return batch_norm(name, epsilon)(x.astype(jnp.float32), is_training).astype(x.dtype)


def activate(name: str, x: Array, settings: CoAtNetBlocks) -> Array:
    """The nonlinearity of this name."""
    functions = {
        "gelu": functools.partial(gelu, exact=settings.exact_gelu),
        "silu": jax.nn.silu,
        "relu": jax.nn.relu,
    }
    return functions[name](x)


def conv_1x1(
    x: Float[Array, "B H W C"], width: int, *, name: str, stride: int = 1, bias: bool = False
) -> Float[Array, "B h w D"]:
    """A 1x1 convolution, that is, a linear layer at each place that the stride keeps."""
    with hk.name_scope(name):
        weight = hk.get_parameter("w", [x.shape[-1], width], x.dtype, WEIGHT_INIT)
        product = fast.pointwise_product(x[:, ::stride, ::stride], weight)
        return product + hk.get_parameter("b", [width], x.dtype, BIAS_INIT) if bias else product


def conv_3x3(
    x: Float[Array, "B H W C"], width: int, *, name: str, stride: int = 1
) -> Float[Array, "B h w D"]:
    """A 3x3 convolution without a bias."""
    return hk.Conv2D(width, 3, stride, padding=_PADDING, with_bias=False, name=name)(x)


def depthwise_conv(
    x: Float[Array, "B H W C"], *, name: str, stride: int, form: AttentionForm
) -> Float[Array, "B h w C"]:
    """A depthwise 3x3 convolution without a bias."""
    init = hk.initializers.VarianceScaling(1.0, "fan_in", "truncated_normal", fan_in_axes=(0, 1, 2))
    with hk.name_scope(name):
        weight = hk.get_parameter("w", [3, 3, 1, x.shape[-1]], x.dtype, init)
    return fast.depthwise_conv(x, weight, stride=stride, form=form)


def pool(kind: Pooling, x: Float[Array, "B H W C"], stride: int) -> Float[Array, "B h w C"]:
    """Maxima of 3x3, or averages of 2x2 places, at half the resolution; `x` if the stride is 1."""
    if stride == 1:
        return x
    if kind == "average":
        return hk.avg_pool(x, (2, 2, 1), (2, 2, 1), "SAME")
    edges = ((0, 0), *_PADDING, (0, 0))
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), edges)


def shortcut(
    pooling: Pooling, x: Float[Array, "B H W C"], width: int, stride: int, *, bias: bool
) -> Float[Array, "B h w D"]:
    """The residual connection, Proj(Pool(x)); projected only to another width."""
    x = pool(pooling, x, stride)
    return x if x.shape[-1] == width else conv_1x1(x, width, bias=bias, name="shortcut")


def squeeze_and_excite(
    x: Float[Array, "B H W C"], width: int, settings: CoAtNetBlocks
) -> Float[Array, "B H W C"]:
    """Multiplies each channel by a number in (0, 1) that depends on all averages (1709.01507)."""
    linear = functools.partial(hk.Linear, w_init=WEIGHT_INIT, b_init=BIAS_INIT)
    squeezed = linear(width, name="squeeze")(x.mean((1, 2)))
    squeezed = activate(settings.squeeze_activation, squeezed, settings)
    excited = linear(x.shape[-1], name="excite")(squeezed)
    return x * jax.nn.sigmoid(excited)[:, None, None]
