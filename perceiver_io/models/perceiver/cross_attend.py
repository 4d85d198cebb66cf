"""The block of encoders and decoders: queries attend to inputs, then pass through an MLP."""

import haiku as hk
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from perceiver_io.models import fast
from perceiver_io.models.attention import attention_map, split_heads
from perceiver_io.models.layers import dropout, layer_norm, linear, mlp
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings
from perceiver_io.models.transformer import multi_head_attention
from perceiver_io.models.weights import CrossAttend as CrossAttendWeights
from perceiver_io.models.weights import get_attention, get_layer_norm, get_mlp


def cross_attend(
    weights: CrossAttendWeights,
    queries: Tokens,
    inputs: Tokens,
    settings: CrossAttendSettings,
    *,
    rng: PRNGKeyArray | None = None,
    form: AttentionForm = AttentionForm(),
) -> Float[Array, "B O C"]:
    """Cross-attention and the MLP that follows it (Perceiver IO, section 3.1).

    Queries whose mask is False attend to nothing. Dropout is off if `rng` is None.
    """
    if form.implementation != "textbook":
        return fast.cross_attend(weights, queries, inputs, settings, rng=rng, form=form)
    of_weights, of_attended, of_mlp = (None,) * 3 if rng is None else jax.random.split(rng, 3)
    x = multi_head_attention(
        weights.attention,
        layer_norm(weights.norm_queries, queries.joined()),
        layer_norm(weights.norm_inputs, inputs.joined()),
        num_heads=settings.num_heads, key_mask=inputs.mask, query_mask=queries.mask,
        dropout_rate=settings.attention_dropout, rng=of_weights, form=form,
    )  # fmt: skip
    x = dropout(x, settings.dropout, of_attended)
    if settings.use_query_residual:
        x = queries.joined() + x
    branch = mlp(weights.mlp, layer_norm(weights.norm_mlp, x), exact_gelu=settings.exact_gelu)
    return x + dropout(branch, settings.dropout, of_mlp)


class CrossAttend(hk.Module):
    """The block with its parameters; see `cross_attend`."""

    def __init__(self, settings: CrossAttendSettings, form: AttentionForm = AttentionForm()):
        super().__init__(name="cross_attend")
        self.settings, self._form = settings, form

    def __call__(self, queries: Tokens, inputs: Tokens, *, is_training: bool) -> Array:
        """The block applied to `queries` and `inputs`."""
        weights = self.weights(queries.width, inputs.width)
        rng = self.next_rng_key(is_training)
        return cross_attend(weights, queries, inputs, self.settings, rng=rng, form=self._form)

    @hk.name_like("__call__")
    def attention_map(self, queries: Tokens, inputs: Tokens) -> Float[Array, "B H O M"]:
        """The attention of each query to each input: the softmax inside the block."""
        weights = self.weights(queries.width, inputs.width)
        q = linear(weights.attention.query, layer_norm(weights.norm_queries, queries.joined()))
        k = linear(weights.attention.key, layer_norm(weights.norm_inputs, inputs.joined()))
        q, k = (split_heads(x, self.settings.num_heads) for x in (q, k))
        return attention_map(q, k, key_mask=inputs.mask, query_mask=queries.mask)

    def next_rng_key(self, is_training: bool) -> PRNGKeyArray | None:
        """A new key if dropout is active, else None."""
        drops = self.settings.dropout or self.settings.attention_dropout
        return hk.next_rng_key() if is_training and drops else None

    @hk.name_like("__call__")
    def weights(self, query_dim: int, input_dim: int) -> CrossAttendWeights:
        """The parameters, for queries and inputs of these widths."""
        return CrossAttendWeights(
            get_layer_norm("norm_queries", query_dim),
            get_layer_norm("norm_inputs", input_dim),
            get_attention(self.settings, query_dim, input_dim),
            *get_mlp(query_dim, self.settings.widening),
        )
