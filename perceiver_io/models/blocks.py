"""Haiku modules that attention models are built from: attention, cross-attend, self-attend.

Every attention and MLP normalises its own input (pre-norm). Shape letters as in `attention.py`,
with C the width of queries, D of inputs, E of outputs.
"""

from collections.abc import Callable, Sequence

import haiku as hk
from jaxtyping import Array, Bool, Float

from perceiver_io.errors import UserError
from perceiver_io.models.attention import Dropout, attend, current_form, keys_at_once
from perceiver_io.models.chunks import num_rows
from perceiver_io.models.folding import (
    Affine,
    AttentionMaps,
    AttentionWeights,
    Side,
    attended_queries,
    from_sources,
    maps_of_sides,
    merged,
    plain_maps,
)
from perceiver_io.models.layers import MLP, LayerNorm, Projection, project_residual
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
        inputs: Side,
        queries: Side,
        *,
        key_mask: Bool[Array, "#B M"] | None = None,
        is_training: bool,
    ) -> Callable[[Array | Tokens, Array | None], Array]:
        """Attention over `source`, as a function of any part of the queries and its mask [B, o].

        Args:
            source: what is attended to: arrays [B, M, ...].
            inputs: makes inputs of any run of rows of `source`. Called on one chunk at a time
                where the inputs outnumber the queries, so that they never exist as a whole.
            queries: makes queries of what the result is called with.
            key_mask: False for rows of `source` that are not to be seen.
            is_training: whether dropout is on.
        """
        rate = self._dropout if is_training else 0.0
        maps = self._maps(queries, inputs, rate > 0)
        keys_values = maps.keys_values
        if queries.num_rows >= inputs.num_rows:
            source = keys_values(source)
            keys_values = lambda part: part  # noqa: E731

        def attention(part, query_mask=None):
            attended = attend(
                maps.query(part),
                source,
                keys_values,
                scale=self._scale,
                key_mask=key_mask,
                query_mask=query_mask,
                dropout=Dropout(rate, hk.next_rng_key()) if rate else None,
            )
            return maps.output(attended, attended_queries(query_mask, key_mask, attended.dtype))

        return attention

    @hk.name_like("__call__")
    def _maps(self, queries: Side, inputs: Side, dropout: bool) -> AttentionMaps:
        weights = AttentionWeights(
            query=Projection(self._qk_dim, name="query")(queries.width),
            key=Projection(self._qk_dim, name="key")(inputs.width),
            value=Projection(self._v_dim, name="value")(inputs.width),
            output=Projection(self._output_dim, name="output")(self._v_dim),
        )
        if self._num_heads == 1 and current_form().fold_projections:
            return maps_of_sides(weights, queries, inputs, dropout=dropout)
        return from_sources(plain_maps(weights, self._num_heads), queries, inputs)


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
        queries: Tokens,
        num_queries: int,
        is_training: bool,
        outputs: Sequence[Affine] = (),
    ) -> Callable[[Tokens], Array]:
        """The block over `inputs`, as a function of any part of the queries.

        Inputs are normalised and projected once, however often the result is called.

        Args:
            inputs: what the queries read.
            queries: those of one call of the result, for their widths and their grid's columns.
            num_queries: the queries per example in all calls together.
            is_training: whether dropout is on.
            outputs: linear maps that the block ends with, so that its last layer can fold into
                them.
        """
        norm_queries = LayerNorm(name="norm_queries").function(queries.width)
        query_side = norm_queries.side(queries, num_rows(queries), num_queries)
        attention = self._attention(inputs, query_side, is_training)
        rate = self._dropout if is_training else 0.0
        add_mlp = self._add_mlp(queries.width, num_queries, rate, outputs)

        def block(part):
            x = _drop(attention(part._replace(mask=None), part.mask), rate)
            if self._use_query_residual:
                x = part.joined() + x
            return add_mlp(x)

        return block

    @hk.name_like("__call__")
    def _attention(self, inputs: Tokens, queries: Side, is_training: bool) -> Callable:
        norm_inputs = LayerNorm(name="norm_inputs").function(inputs.width)
        attention = Attention(
            self._num_heads,
            self._qk_dim or inputs.width,
            self._v_dim or inputs.width,
            queries.width,
            self._attention_dropout,
        )
        source = inputs._replace(mask=None)
        return attention.over(
            source,
            norm_inputs.side(source, keys_at_once(source), num_rows(source)),
            queries,
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
        queries = Tokens(latents)
        block = self.over(
            inputs, queries=queries, num_queries=num_rows(queries), is_training=is_training
        )
        return block(queries)


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
        side = Side(x.shape[1], width, lambda part: part)
        attention = Attention(
            self._num_heads, self._qk_dim, self._v_dim, width, self._attention_dropout
        ).over(
            normalised,
            side,
            side,
            key_mask=mask,
            is_training=is_training,
        )
        x = x + _drop(attention(normalised), rate)
        return x + _drop(MLP(self._widening, self._exact_gelu)(x), rate)


def _drop(x: Array, rate: float) -> Array:
    return hk.dropout(hk.next_rng_key(), rate, x) if rate else x
