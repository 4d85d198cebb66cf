"""Multi-head attention, and the transformer layer around it."""

import functools

import haiku as hk
import jax
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from perceiver_io.models import fast
from perceiver_io.models.attention import attention, split_heads
from perceiver_io.models.layers import dropout, layer_norm, linear, mlp, stochastic_depth
from perceiver_io.models.settings import AttentionForm, SelfAttendSettings
from perceiver_io.models.weights import Attention, get_attention, get_layer_norm, get_mlp
from perceiver_io.models.weights import SelfAttend as SelfAttendWeights


def multi_head_attention(
    weights: Attention,
    queries: Float[Array, "#B O C"],
    inputs: Float[Array, "#B M D"],
    *,
    num_heads: int,
    bias: Float[Array, "#B #H #O #M"] | None = None,
    key_mask: Bool[Array, "#B M"] | None = None,
    query_mask: Bool[Array, "#B O"] | None = None,
    dropout_rate: float = 0.0,
    rng: PRNGKeyArray | None = None,
    form: AttentionForm = AttentionForm(),
) -> Float[Array, "B O E"]:
    """Multi-head attention (1706.03762, section 3.2.2).

    Keys and values are projected from `inputs`. `form` chooses how attention is computed; the other
    arguments are as in `attention`. A query that sees no input gets the bias of the output layer.
    """
    options = dict(
        bias=bias, key_mask=key_mask, query_mask=query_mask, dropout_rate=dropout_rate, rng=rng
    )
    if form.implementation != "textbook":
        return fast.multi_head_attention(
            weights, queries, inputs, num_heads=num_heads, form=form, **options
        )
    q = split_heads(linear(weights.query, queries), num_heads)
    k = split_heads(linear(weights.key, inputs), num_heads)
    v = split_heads(linear(weights.value, inputs), num_heads)
    attended = attention(q, k, v, **options)
    return linear(weights.output, attended.reshape(*attended.shape[:2], -1))


def self_attend(
    weights: SelfAttendWeights,
    x: Float[Array, "B N C"],
    settings: SelfAttendSettings,
    *,
    bias: Float[Array, "#B #H #N #N"] | None = None,
    key_mask: Bool[Array, "#B N"] | None = None,
    query_mask: Bool[Array, "#B N"] | None = None,
    rng: PRNGKeyArray | None = None,
    form: AttentionForm = AttentionForm(),
) -> Float[Array, "B N C"]:
    """A transformer layer: self-attention, then an MLP, each with a residual connection.

    `rng` is the key for dropout and stochastic depth; None turns both off. Bias, masks and form are
    as in `multi_head_attention`.
    """
    of_weights, of_attended, of_mlp = (None,) * 3 if rng is None else jax.random.split(rng, 3)

    def add(x, branch, rng):
        of_numbers, of_examples = (None, None) if rng is None else jax.random.split(rng)
        branch = dropout(branch, settings.dropout, of_numbers)
        return x + stochastic_depth(branch, settings.stochastic_depth, of_examples)

    def attend(x):
        return multi_head_attention(
            weights.attention, x, x, num_heads=settings.num_heads, bias=bias,
            key_mask=key_mask, query_mask=query_mask, form=form,
            dropout_rate=settings.attention_dropout, rng=of_weights,
        )  # fmt: skip

    perceive = functools.partial(mlp, weights.mlp, exact_gelu=settings.exact_gelu)
    if settings.norm == "pre":
        x = add(x, attend(layer_norm(weights.norm, x)), of_attended)
        return add(x, perceive(layer_norm(weights.norm_mlp, x)), of_mlp)
    x = layer_norm(weights.norm, add(x, attend(x), of_attended))
    return layer_norm(weights.norm_mlp, add(x, perceive(x), of_mlp))


class SelfAttend(hk.Module):
    """The layer with its parameters; see `self_attend`."""

    def __init__(self, settings: SelfAttendSettings, form: AttentionForm = AttentionForm()):
        super().__init__(name="self_attend")
        self._settings, self._form = settings, form

    def __call__(
        self,
        x: Float[Array, "B N C"],
        *,
        bias: Float[Array, "#B #H #N #N"] | None = None,
        key_mask: Bool[Array, "#B N"] | None = None,
        query_mask: Bool[Array, "#B N"] | None = None,
        is_training: bool,
    ) -> Float[Array, "B N C"]:
        """The layer applied to `x`."""
        settings = self._settings
        rates = (settings.dropout, settings.attention_dropout, settings.stochastic_depth)
        rng = hk.next_rng_key() if is_training and any(rates) else None
        return self_attend(
            self._weights(x.shape[-1]), x, settings, bias=bias, key_mask=key_mask,
            query_mask=query_mask, rng=rng, form=self._form,
        )  # fmt: skip

    @hk.name_like("__call__")
    def _weights(self, width: int) -> SelfAttendWeights:
        return SelfAttendWeights(
            get_layer_norm("norm", width),
            get_attention(self._settings, width, width),
            *get_mlp(width, self._settings.widening),
        )
