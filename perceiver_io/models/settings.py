"""The settings of a model's parts; each class is a section of `config.model`."""

import dataclasses
from typing import Annotated, Literal

from perceiver_io.config.annotations import UNSEEN, Count, Limit, Rate, Real, Repeats, Width

Remat = Literal["none", "products", "all"]

Widening = Annotated[Real, Limit("above 0 and at most 1,000", lambda x: 0 < x <= 1000)]


@dataclasses.dataclass(frozen=True)
class AttentionForm:
    """How attention is computed; this never changes the result.

    implementation: `auto`, the fastest for the shapes and platform (see `fast/`), or `textbook`.
    key_chunk_size: maximum number of keys per chunk of an online softmax. None means 1024 on CPUs,
        and no chunks, or a fused kernel, on accelerators.
    fold_projections: whether to fuse the linear layers around single-head attention, and those at
        the end of a decoder, where that takes fewer FLOPs.
    kernel: fused kernel on NVIDIA GPUs, for the shapes that it supports: `cudnn` (half precision),
        `pallas` (float32 too, but on one device only), or `none`.
    """

    implementation: Literal["auto", "textbook"] = "auto"
    key_chunk_size: Count | None = None
    fold_projections: bool = True
    kernel: Literal["cudnn", "pallas", "none"] = "cudnn"


@dataclasses.dataclass(frozen=True)
class BlockSettings:
    """Attention, and the MLP that follows it.

    qk_dim, v_dim: total width of queries and keys, and of values; None for the width of the inputs.
    widening: width of the MLP's hidden layer as a multiple of the queries' width, rounded.
    exact_gelu: whether GELU is exact (erf); the papers' models use the tanh approximation.
    dropout, attention_dropout: rates in training, for residual branches and attention weights.
    """

    num_heads: Annotated[Width, UNSEEN]
    qk_dim: Width | None = None
    v_dim: Width | None = None
    widening: Widening = 1.0
    exact_gelu: Annotated[bool, UNSEEN] = False
    dropout: Rate = 0.0
    attention_dropout: Rate = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossAttendSettings(BlockSettings):
    """A cross-attend; `use_query_residual`: whether queries are added to attention's result."""

    num_heads: Annotated[Width, UNSEEN] = 1
    use_query_residual: Annotated[bool, UNSEEN] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfAttendSettings(BlockSettings):
    """A transformer layer.

    norm: before a branch (`pre`, both papers) or after its addition (`post`, BERT, 1810.04805).
    stochastic_depth: rate at which a branch is dropped for an example in training.
    """

    norm: Annotated[Literal["pre", "post"], UNSEEN] = "pre"
    stochastic_depth: Rate = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentStackSettings(SelfAttendSettings):
    """Self-attention layers over the latents.

    num_layers: number of layers, which do not share weights.
    remat: what the backward pass recomputes: `products`, all but a layer's input, attention and
        products with weights; `all`, these products too. Both recompute fused kernels.
    """

    num_layers: Repeats
    remat: Remat = "none"


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """The encoder of Perceiver IO.

    num_latents, latent_dim: N and D.
    latent_stack: the self-attention layers over the latents.
    num_blocks: how often the whole latent stack is applied, with the same weights.
    cross_attend: the cross-attend from latents to inputs.
    """

    num_latents: Width
    latent_dim: Width
    latent_stack: LatentStackSettings
    num_blocks: Annotated[Repeats, UNSEEN] = 1
    cross_attend: CrossAttendSettings = CrossAttendSettings()


@dataclasses.dataclass(frozen=True)
class DecoderSettings:
    """The decoder.

    cross_attend: the cross-attend from queries to latents.
    query_chunk_size: maximum number of queries decoded at once, which bounds memory; None means
        4096 on CPUs and 65,536 on accelerators.
    """

    cross_attend: CrossAttendSettings = CrossAttendSettings()
    query_chunk_size: Count | None = None
