"""Models of texts: Perceiver IO, section 4.1."""

from typing import Annotated, Literal

import jax
import jax.numpy as jnp

from perceiver_io.config.annotations import INPUT_SIZE, Width
from perceiver_io.models.bert import BERT
from perceiver_io.models.builders.blueprint import Blueprint, Start, perceiver_io
from perceiver_io.models.perceiver.inputs import Inputs
from perceiver_io.models.perceiver.outputs import (
    ClassLogits,
    PositionProjection,
    TanhHead,
    TaskHeads,
    TiedLogits,
)
from perceiver_io.models.perceiver.positions import LearnedPositions
from perceiver_io.models.perceiver.queries import LearnedQueries, TaskQueries
from perceiver_io.models.perceiver.text import (
    Embeddings,
    FirstTokenQuery,
    TextOfTask,
    TextTokens,
    TokenQueries,
)
from perceiver_io.models.settings import (
    AttentionForm,
    DecoderSettings,
    EncoderSettings,
    LatentStackSettings,
)


def perceiver_io_masked_lm(
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for masked language modelling (Perceiver IO, section 4.1): logits per token.

    Input embeddings and output layer share one table.
    """
    embeddings = Embeddings(vocab_size, embedding_dim)
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    return perceiver_io(
        _text(embeddings, max_length, embedding_dim),
        TokenQueries(positions),
        TiedLogits(embeddings.table),
        (encoder, decoder, attention),
        start,
    )


def bert_masked_lm(
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    width: Width,
    layers: LatentStackSettings,
    attention: AttentionForm = AttentionForm(),
) -> Blueprint:
    """BERT (1810.04805) for masked language modelling, the baseline of Perceiver IO, section 4.1.

    `width` is that of embeddings and layers; BERT's layers have `norm="post"`.
    """
    model = BERT(
        Embeddings(vocab_size, width), LearnedPositions((max_length,), width), layers, attention
    )
    return Blueprint(model, jax.ShapeDtypeStruct((1, max_length), jnp.int32))


def perceiver_io_text_classifier(
    num_classes: Width,
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for text classification, with one learned query as wide as the latents."""
    return perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        LearnedQueries(1, encoder.latent_dim),
        ClassLogits(num_classes),
        (encoder, decoder, attention),
        start,
    )


def perceiver_io_sentence_classifier(
    num_classes: Width,
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    head_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO fine-tuned on sentences or pairs (Perceiver IO, section 4.1): two layers, tanh.

    The query is as wide as those of `perceiver_io_masked_lm`, so that its decoder can be loaded,
    too. A score is a single class. `head_dim` is the width of the hidden layer.
    """
    return perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        LearnedQueries(1, embedding_dim),
        TanhHead(num_classes, head_dim),
        (encoder, decoder, attention),
        start,
    )


def perceiver_io_multitask(
    num_tasks: Width,
    num_outputs: Width,
    told_by: Literal["query", "shared_token", "task_token"],
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    head_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for several tasks on sentences and pairs (Perceiver IO, section 4.1).

    The paper's three ways, `told_by`: a learned query for each task (`query`); or the query of the
    first token, which is the same for all tasks (`shared_token`), or one of the task's own
    (`task_token`). Each task has a head with `num_outputs` outputs, of which it may use fewer.
    """
    text = _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim)
    own_tokens = Embeddings(num_tasks, embedding_dim, name="task_tokens")
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    spec = {"ids": text.spec, "task": jax.ShapeDtypeStruct((1,), jnp.int32)}
    return perceiver_io(
        Inputs(TextOfTask(text.adapter, own_tokens if told_by == "task_token" else None), spec),
        TaskQueries(num_tasks, embedding_dim) if told_by == "query" else FirstTokenQuery(positions),
        TaskHeads(num_tasks, num_outputs, head_dim),
        (encoder, decoder, attention),
        start,
    )


def perceiver_io_tagger(
    num_classes: Width,
    vocab_size: Width,
    max_length: Annotated[Width, INPUT_SIZE],
    embedding_dim: Width,
    encoder: EncoderSettings,
    decoder: DecoderSettings = DecoderSettings(),
    attention: AttentionForm = AttentionForm(),
    start: Start = "random",
) -> Blueprint:
    """Perceiver IO for the classes of tokens, at all of them or at those given as `query`.

    It is `perceiver_io_masked_lm` with another output layer.
    """
    positions = LearnedPositions((max_length,), embedding_dim, name="query_positions")
    return perceiver_io(
        _text(Embeddings(vocab_size, embedding_dim), max_length, embedding_dim),
        TokenQueries(positions),
        PositionProjection(num_classes, name="tags"),
        (encoder, decoder, attention),
        start,
    )


def _text(embeddings: Embeddings, max_length: int, embedding_dim: int) -> Inputs:
    """Inputs of token ids with learned positions."""
    positions = LearnedPositions((max_length,), embedding_dim)
    spec = jax.ShapeDtypeStruct((1, max_length), jnp.int32)
    return Inputs(TextTokens(embeddings, positions), spec)
