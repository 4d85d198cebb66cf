"""Cross-attention blocks with the layers that follow them, in chunks of queries."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from perceiver_io.axes import SEQUENCE
from perceiver_io.models import sequence
from perceiver_io.models.fast.chunks import choose_chunk_size, chunk, num_rows, padded
from perceiver_io.models.fast.folding import merged, project_residual_mlp
from perceiver_io.models.fast.reading import Norms, Ready, Target, Way, choose_way, make_ready, read
from perceiver_io.models.layers import dropout, layer_norm, linear, mlp
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings
from perceiver_io.models.weights import CrossAttend, Linear


def decode_for(
    target: Target,
    settings: CrossAttendSettings,
    query_chunk_size: int | None,
    form: AttentionForm,
    weights: CrossAttend,
    outputs: Sequence[Linear],
    queries: Tokens,
    inputs: Tokens,
    rng: PRNGKeyArray | None,
) -> Float[Array, "B O E"]:
    """As `perceiver.decoder.decode`, for any inputs, on one platform.

    Inputs are normalised and projected once, however many chunks of queries there are.
    """
    num_queries = num_rows(queries)
    if sequence.splits(num_queries, num_rows(inputs)):
        # Fused kernels cannot be used on parts of an example.
        form = dataclasses.replace(form, kernel="none")
        decode = functools.partial(_decode_part, target, settings, query_chunk_size, form)
        queries, shared = sequence.divisible(queries), PartitionSpec()
        return sequence.on_each_device(
            decode,
            (weights, outputs, queries, inputs, rng),
            (shared, shared, sequence.specs(queries), shared, shared),
            PartitionSpec(None, SEQUENCE),
        )
    size = num_queries
    if query_chunk_size is not None and query_chunk_size < num_queries:
        size = choose_chunk_size(queries, query_chunk_size)
    pieces = padded(queries, size)
    first = chunk(pieces, 0, size)
    rate = 0.0 if rng is None else settings.attention_dropout
    norms = Norms(weights.norm_queries, weights.norm_inputs)
    way = choose_way(
        target, form, weights.attention, norms, first, inputs, num_heads=settings.num_heads,
        num_queries=num_queries, dropout_rate=rate,
    )  # fmt: skip
    ready = make_ready(way, weights.attention, norms, first, inputs)
    if form.fold_projections and outputs:
        outputs = merged(outputs, num_queries)

    def decode_piece(index):
        piece = chunk(pieces, index, size)
        piece_rng = None if rng is None else jax.random.fold_in(rng, index)
        attended = _attend(way, ready, piece, settings, piece_rng)
        return _finish(weights, outputs, attended, settings, form, num_queries, piece_rng)

    if size == num_queries:
        return decode_piece(0)
    # One chunk after the other; the backward pass recomputes each.
    count = num_rows(pieces) // size
    decoded = jnp.moveaxis(jax.lax.map(jax.checkpoint(decode_piece), jnp.arange(count)), 0, 1)
    return decoded.reshape(decoded.shape[0], -1, decoded.shape[-1])[:, :num_queries]


def _decode_part(
    target, settings, query_chunk_size, form, weights, outputs, queries, inputs, rng
) -> Array:
    """The outputs of one device's queries."""
    rng = None if rng is None else jax.random.fold_in(rng, sequence.index())
    return decode_for(
        target, settings, query_chunk_size, form, weights, outputs, queries, inputs, rng
    )


def _attend(
    way: Way, ready: Ready, queries: Tokens, settings: CrossAttendSettings, rng
) -> Float[Array, "B O C"]:
    of_weights, of_attended = (None, None) if rng is None else jax.random.split(rng)
    x = dropout(read(way, ready, queries, rng=of_weights), settings.dropout, of_attended)
    return queries.joined() + x if settings.use_query_residual else x


def _finish(weights, outputs, x, settings, form, num_queries, rng) -> Array:
    """The MLP and the output layers that follow it."""
    exact = settings.exact_gelu
    drops = rng is not None and settings.dropout > 0
    if outputs and form.fold_projections and not drops:
        first, *outputs = outputs
        x = project_residual_mlp(
            weights.norm_mlp, weights.mlp, first, x, exact_gelu=exact, num_rows=num_queries
        )
    else:
        branch = mlp(weights.mlp, layer_norm(weights.norm_mlp, x), exact_gelu=exact)
        of_mlp = None if rng is None else jax.random.fold_in(rng, 2)
        x = x + dropout(branch, settings.dropout, of_mlp)
    for output in outputs:
        x = linear(output, x)
    return x
