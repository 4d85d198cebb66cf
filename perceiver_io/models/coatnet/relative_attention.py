"""Attention with a bias for each relative position, and the transformer block around it."""

import dataclasses
import functools

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.errors import UserError
from perceiver_io.models.attention import split_heads
from perceiver_io.models.coatnet.parts import norm, pool, shortcut
from perceiver_io.models.coatnet.relative_bias import Grid, get_offsets, relative_bias
from perceiver_io.models.coatnet.settings import CoAtNetBlocks
from perceiver_io.models.layers import linear, mlp, stochastic_depth
from perceiver_io.models.settings import AttentionForm
from perceiver_io.models.transformer import multi_head_attention
from perceiver_io.models.weights import (
    MLP,
    SCALE_INIT,
    Attention,
    get_linear,
)

_LAYER_SCALE = dataclasses.replace(SCALE_INIT, init=hk.initializers.Constant(1e-6))


class RelativeTransformer(hk.Module):
    """x <- Proj(Pool(x)) + Attention(Pool(Norm(x))); x <- x + MLP(Norm(x)) (appendix A.1).

    Args:
        width: channels of the output.
        stride: 2 halves the resolution.
        grid: height and width, for images of the size that the model is built for, of the result.
        settings: of all blocks.
        form: how attention is computed.
    """

    def __init__(
        self,
        width: int,
        stride: int,
        grid: Grid,
        settings: CoAtNetBlocks,
        form: AttentionForm,
        name: str = "transformer",
    ):
        super().__init__(name=name)
        self._width, self._stride, self._grid = width, stride, grid
        self._settings, self._form = settings, form

    def __call__(
        self, x: Float[Array, "B H W C"], drop_rate: Float[Array, ""], is_training: bool
    ) -> Float[Array, "B h w D"]:
        """The block applied to `x`; `drop_rate` is that of stochastic depth."""
        settings = self._settings

        def normalised(x, name):
            epsilon = settings.attention_norm_epsilon
            return norm(settings.attention_norm, x, is_training, name=name, epsilon=epsilon)

        def finished(branch, name):
            if settings.layer_scale:
                branch *= hk.get_parameter(name, [self._width], init=_LAYER_SCALE)
            rng = hk.next_rng_key() if is_training and settings.stochastic_depth else None
            return stochastic_depth(branch, drop_rate, rng)

        residual = shortcut(
            settings.pooling, x, self._width, self._stride, bias=settings.shortcut_bias
        )
        x = pool(settings.pooling, normalised(x, "norm"), self._stride)
        x = residual + finished(self._attention(x), "attention_scale")
        hidden = max(round(settings.expansion * self._width), 1)
        with hk.name_scope("mlp"):
            weights = MLP(
                get_linear("hidden", self._width, hidden), get_linear("output", hidden, self._width)
            )
        perceived = mlp(weights, normalised(x, "norm_mlp"), exact_gelu=settings.exact_gelu)
        return x + finished(perceived, "mlp_scale")

    @hk.name_like("__call__")
    def _attention(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W D"]:
        settings = self._settings
        batch, *grid, channels = x.shape
        inner = self._width if settings.widen_at == "input" else channels
        num_heads, rest = divmod(inner, settings.head_size)
        if rest:
            raise UserError(
                f"{self.module_name}: attention of width {inner} does not divide into heads of "
                f"head_size={settings.head_size}: choose a divisor of that."
            )
        with hk.name_scope("attention"):
            weights = Attention(
                query=get_linear("query", channels, inner),
                key=get_linear("key", channels, inner),
                value=get_linear("value", channels, inner),
                output=get_linear("output", inner, self._width),
            )
            offsets = get_offsets(settings, self._grid, tuple(grid), num_heads)
        attended = relative_attention(
            weights,
            x.reshape(batch, -1, channels),
            None if offsets is None else relative_bias(offsets),
            num_heads=num_heads,
            after_softmax=settings.bias_after_softmax,
            form=self._form,
        )
        return attended.reshape(batch, *grid, -1)


def relative_attention(
    weights: Attention,
    x: Float[Array, "B N C"],
    bias: Float[Array, "1 H N N"] | None,
    *,
    num_heads: int,
    after_softmax: bool,
    form: AttentionForm = AttentionForm(),
) -> Float[Array, "B N D"]:
    """y_i = sum_j softmax_j(x_i . x_j + w_(i - j)) x_j (section 2.1).

    With `after_softmax`, the bias w is added to the weights instead, as in a depthwise convolution
    that spans the image: y_i = sum_j (softmax_j(x_i . x_j) + w_(i - j)) x_j.
    """
    attend = functools.partial(multi_head_attention, num_heads=num_heads, form=form)
    if bias is None or not after_softmax:
        return attend(weights, x, x, bias=bias)
    values = split_heads(linear(weights.value, x), num_heads)
    convolved = jnp.einsum("hom,bmhv->bohv", bias[0].astype(x.dtype), values)
    convolved = convolved.reshape(*x.shape[:2], -1)
    return attend(weights, x, x) + convolved @ weights.output.weight
