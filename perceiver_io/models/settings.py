"""The settings of a model's parts: each class is a section of `config.model`."""

import dataclasses
from typing import Annotated, Literal

from perceiver_io.config.annotations import UNSEEN, Count, Limit, Rate, Real, Repeats, Width

Widening = Annotated[Real, Limit("above 0 and at most 1,000", lambda x: 0 < x <= 1000)]


@dataclasses.dataclass(frozen=True)
class AttentionForm:
    """How attention is computed; never what is computed.

    implementation: what is fastest for the shapes and the platform (see `fast/`), or the textbook.
    key_chunk_size: most keys at once, with an online softmax over the chunks. None for 1024 on
        CPUs, and for as many as fit, or a kernel, on accelerators.
    fold_projections: whether linear layers around one-head attention, and at the end of a decoder,
        are multiplied into each other where that takes fewer FLOPs.
    kernel: fused kernel on NVIDIA GPUs, for the shapes that it takes: `cudnn` (half precision),
        `pallas` (float32 too, but on one device only), or `none`.
    """

    implementation: Literal["auto", "textbook"] = "auto"
    key_chunk_size: Count | None = None
    fold_projections: bool = True
    kernel: Literal["cudnn", "pallas", "none"] = "cudnn"


@dataclasses.dataclass(frozen=True)
class BlockSettings:
    """Attention, and the MLP that follows it.

    qk_dim, v_dim: total widths of queries and keys, and of values; None for that of the inputs.
    widening: width of the MLP's hidden layer over that of the queries; rounded to whole channels.
    exact_gelu: GELU by the error function instead of tanh, with which the papers' models trained.
    dropout, attention_dropout: rates in training, on residual branches and attention weights.
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
    """A cross-attend; `use_query_residual`: whether queries are added to what they attended to."""

    num_heads: Annotated[Width, UNSEEN] = 1
    use_query_residual: Annotated[bool, UNSEEN] = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfAttendSettings(BlockSettings):
    """A transformer layer.

    norm: of residual branches, before them (`pre`, as in both papers) or after they are added
        (`post`, as in BERT, 1810.04805).
    stochastic_depth: rate at which a branch is left out for an example in training.
    """

    norm: Annotated[Literal["pre", "post"], UNSEEN] = "pre"
    stochastic_depth: Rate = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentStackSettings(SelfAttendSettings):
    """Self-attention layers over the latents.

    num_layers: layers, each with weights of its own.
    remat: what the gradient computes again instead of storing it: nothing; all of a layer but its
        input, its attention and its `products` with weights; `all` but its input and attention.
        What a fused kernel gave is computed again in both.
    """

    num_layers: Repeats
    remat: Literal["none", "products", "all"] = "none"


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """The encoder of Perceiver IO.

    num_latents, latent_dim: N and D.
    latent_stack: the layers that process.
    num_blocks: times that the whole latent stack is applied, with the same weights.
    cross_attend: the block that reads.
    """

    num_latents: Width
    latent_dim: Width
    latent_stack: LatentStackSettings
    num_blocks: Annotated[Repeats, UNSEEN] = 1
    cross_attend: CrossAttendSettings = CrossAttendSettings()


@dataclasses.dataclass(frozen=True)
class DecoderSettings:
    """The decoder.

    cross_attend: its block.
    query_chunk_size: most queries decoded at once, so that memory does not grow with their number;
        None for 4096 on CPUs and 65,536 on accelerators.
    """

    cross_attend: CrossAttendSettings = CrossAttendSettings()
    query_chunk_size: Count | None = None
