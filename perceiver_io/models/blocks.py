"""Haiku modules that attention models are built from: attention, cross-attend, self-attend.

Every attention and MLP normalises its own input (pre-norm). Shape letters as in `attention.py`,
with C the width of queries, D of inputs, E of outputs.
"""

from collections.abc import Callable, Sequence

import haiku as hk
import jax
from jaxtyping import Array, Bool, Float

from perceiver_io.errors import UserError
from perceiver_io.models.attention import Dropout, attend, current_form
from perceiver_io.models.folding import (
    Affine,
    AttentionMaps,
    AttentionWeights,
    attended_queries,
    folded_maps,
    merged,
    plain_maps,
    project_residual,
)
from perceiver_io.models.layers import MLP, LayerNorm, Projection
from perceiver_io.models.tokens import Tokens


class Attention(hk.Module):
    """Multi-head attention with its four projections.

    Args:
        num_heads: must divide `qk_dim` and `v_dim`.
        qk_dim: total width of queries and keys.
        v_dim: total width of values.
        output_dim: width of the result.
        dropout: rate at which attention weights are dropped in training.
    """

    def __init__(
        self,
        num_heads: int,
        qk_dim: int,
        v_dim: int,
        output_dim: int,
        dropout: float,
        name: str = "attention",
    ):
        super().__init__(name=name)
        for argument, width in (("qk_dim", qk_dim), ("v_dim", v_dim)):
            if width % num_heads:
                raise UserError(
                    f"{self.module_name}: {argument}={width} does not divide into {num_heads} "
                    f"heads: choose a multiple of num_heads={num_heads}."
                )
        self._num_heads, self._scale = num_heads, (qk_dim // num_heads) ** -0.5
        self._qk_dim, self._v_dim, self._output_dim = qk_dim, v_dim, output_dim
        self._dropout = dropout

    @hk.name_like("__call__")
    def over(
        self,
        source: Array | Tokens,
        rows: Callable[[Array | Tokens], Array],
        *,
        query_dim: int,
        num_queries: int,
        key_mask: Bool[Array, "#B M"] | None = None,
        is_training: bool,
    ) -> Callable[[Array, Array | None], Array]:
        """Attention over `source`, as a function of queries [b, o, C] and their mask [B, o].

        Args:
            source: what is attended to: arrays [B, M, ...].
            rows: makes inputs [B, m, D] of any run of rows of `source`. Called on one chunk at a
                time where the inputs outnumber the queries, so that they never exist as a whole.
            query_dim: width of the queries.
            num_queries: the queries per example in all calls of the result together.
            key_mask: False for rows of `source` that are not to be seen.
            is_training: whether dropout is on.
        """
        row = jax.eval_shape(rows, source)
        rate = self._dropout if is_training else 0.0
        maps = self._maps(query_dim, row.shape[-1], num_queries, row.shape[1], rate > 0)
        keys_values = lambda part: maps.keys_values(rows(part))  # noqa: E731
        if num_queries >= row.shape[1]:
            source = keys_values(source)
            keys_values = lambda part: part  # noqa: E731

        def attention(queries, query_mask=None):
            attended = attend(
                maps.query(queries),
                source,
                keys_values,
                scale=self._scale,
                key_mask=key_mask,
                query_mask=query_mask,
                dropout=Dropout(rate, hk.next_rng_key()) if rate else None,
            )
            return maps.output(attended, attended_queries(query_mask, key_mask, queries.dtype))

        return attention

    @hk.name_like("__call__")
    def _maps(self, query_dim, input_dim, num_queries, num_inputs, dropout) -> AttentionMaps:
        weights = AttentionWeights(
            query=Projection(self._qk_dim, name="query")(query_dim),
            key=Projection(self._qk_dim, name="key")(input_dim),
            value=Projection(self._v_dim, name="value")(input_dim),
            output=Projection(self._output_dim, name="output")(self._v_dim),
        )
        if self._num_heads == 1 and current_form().fold_projections:
            return folded_maps(
                weights, num_queries=num_queries, num_inputs=num_inputs, dropout=dropout
            )
        return plain_maps(weights, self._num_heads)


class CrossAttend(hk.Module):
    """Queries attend to inputs, then pass through an MLP (Perceiver IO, section 3.1).

    Args:
        num_heads: attention heads.
        use_query_residual: whether the queries are added to what they attended to.
        qk_dim: total width of queries and keys; None for that of the inputs.
        v_dim: total width of values; None for that of the inputs.
        widening: width of the MLP's hidden layer over that of the queries.
        exact_gelu: as in `MLP`.
        dropout: rate on the two residual branches.
        attention_dropout: rate on attention weights.
    """

    def __init__(
        self,
        num_heads: int,
        use_query_residual: bool,
        qk_dim: int | None = None,
        v_dim: int | None = None,
        widening: int = 1,
        exact_gelu: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        name: str = "cross_attend",
    ):
        super().__init__(name=name)
        self._num_heads, self._qk_dim, self._v_dim = num_heads, qk_dim, v_dim
        self._widening, self._exact_gelu = widening, exact_gelu
        self._use_query_residual = use_query_residual
        self._dropout, self._attention_dropout = dropout, attention_dropout

    @hk.name_like("__call__")
    def over(
        self,
        inputs: Tokens,
        *,
        query_dim: int,
        num_queries: int,
        is_training: bool,
        outputs: Sequence[Affine] = (),
    ) -> Callable[[Array, Array | None], Array]:
        """The block over `inputs`, as a function of queries [b, o, C] and their mask [B, o].

        Inputs are normalised and projected once, however often the result is called. `outputs` are
        linear maps that the block ends with, so that its own last layer can fold into them.
        """
        normalise_queries = LayerNorm(name="norm_queries").function(query_dim)
        attention = self._attention(inputs, query_dim, num_queries, is_training)
        rate = self._dropout if is_training else 0.0
        add_mlp = self._add_mlp(query_dim, num_queries, rate, outputs)

        def block(queries, query_mask=None):
            x = _drop(attention(normalise_queries(queries), query_mask), rate)
            if self._use_query_residual:
                x = queries + x
            return add_mlp(x)

        return block

    @hk.name_like("__call__")
    def _attention(self, inputs, query_dim, num_queries, is_training) -> Callable:
        normalise_inputs = LayerNorm(name="norm_inputs").function(inputs.width)
        attention = Attention(
            self._num_heads,
            self._qk_dim or inputs.width,
            self._v_dim or inputs.width,
            query_dim,
            self._attention_dropout,
        )
        return attention.over(
            inputs._replace(mask=None),
            lambda part: normalise_inputs(part.joined()),
            query_dim=query_dim,
            num_queries=num_queries,
            key_mask=inputs.mask,
            is_training=is_training,
        )

    @hk.name_like("__call__")
    def _add_mlp(self, width, num_rows, rate, outputs) -> Callable:
        """X -> x + MLP(x), through the output maps."""
        mlp = MLP(self._widening, self._exact_gelu).function(width)
        add_mlp = lambda x: x + _drop(mlp(x), rate)  # noqa: E731
        if outputs and current_form().fold_projections:
            first, *outputs = merged(outputs, num_rows)
            if rate:
                outputs = [first, *outputs]
            else:
                add_mlp = project_residual(mlp, first, num_rows)

        def apply(x):
            x = add_mlp(x)
            for output in outputs:
                x = output(x)
            return x

        return apply

    def read(self, inputs: Tokens, latents: Float[Array, "b N C"], is_training: bool) -> Array:
        """Latents after they have read `inputs`: [B, N, C]."""
        block = self.over(
            inputs,
            query_dim=latents.shape[-1],
            num_queries=latents.shape[1],
            is_training=is_training,
        )
        return block(latents)


class SelfAttend(hk.Module):
    """A pre-norm transformer layer: attention, then an MLP, each added to its input."""

    def __init__(
        self,
        num_heads: int,
        qk_dim: int,
        v_dim: int,
        widening: int = 1,
        exact_gelu: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        name: str = "self_attend",
    ):
        super().__init__(name=name)
        self._num_heads, self._qk_dim, self._v_dim = num_heads, qk_dim, v_dim
        self._widening, self._exact_gelu = widening, exact_gelu
        self._dropout, self._attention_dropout = dropout, attention_dropout

    def __call__(
        self, x: Float[Array, "B N C"], mask: Bool[Array, "B N"] | None, is_training: bool
    ) -> Float[Array, "B N C"]:
        """One layer over `x`; positions where `mask` is False are not seen."""
        rate = self._dropout if is_training else 0.0
        width = x.shape[-1]
        normalised = LayerNorm(name="norm")(x)
        attention = Attention(
            self._num_heads, self._qk_dim, self._v_dim, width, self._attention_dropout
        ).over(
            normalised,
            lambda part: part,
            query_dim=width,
            num_queries=x.shape[1],
            key_mask=mask,
            is_training=is_training,
        )
        x = x + _drop(attention(normalised), rate)
        return x + _drop(MLP(self._widening, self._exact_gelu)(x), rate)


def _drop(x: Array, rate: float) -> Array:
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x
