"""The settings of a model's parts: each class is a section of `config.model`.

They are constants of the traced program; the arrays are in `weights.py`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal


@dataclasses.dataclass(frozen=True)
class AttentionForm:
    """How attention is computed; never what is computed.

    implementation: `auto` takes what is fastest for the shapes on the platform that the program is
        compiled for (see `fast/`); `textbook` computes every product as it is written in the paper.
    key_chunk_size: most keys taken at once, with an online softmax over the chunks, so that memory
        does not grow with their number. None for 1024 on CPUs, and for as many as fit on
        accelerators.
    fold_projections: whether the linear layers around one-head attention, and at the end of a
        decoder, are multiplied into each other where that takes fewer FLOPs.
    kernel: which fused kernel is used on NVIDIA GPUs, where it takes the shapes: that of `cudnn`
        (half precision), that which JAX ships in `pallas` (float32 too; on one device), or `none`.
    """

    implementation: Literal["auto", "textbook"] = "auto"
    key_chunk_size: int | None = None
    fold_projections: bool = True
    kernel: Literal["cudnn", "pallas", "none"] = "cudnn"


@dataclasses.dataclass(frozen=True)
class CrossAttendSettings:
    """A block in which queries attend to inputs and then pass through an MLP.

    num_heads: attention heads.
    use_query_residual: whether the queries are added to what they attended to.
    qk_dim: total width of projected queries and keys; None for that of the inputs.
    v_dim: total width of values; None for that of the inputs.
    widening: width of the MLP's hidden layer over that of the queries.
    exact_gelu: whether GELU is taken with the error function, instead of its approximation by
        tanh, which the papers' models were trained with.
    dropout: rate on the two residual branches in training.
    attention_dropout: rate on attention weights in training.
    """

    num_heads: int
    use_query_residual: bool
    qk_dim: int | None = None
    v_dim: int | None = None
    widening: int = 1
    exact_gelu: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0


@dataclasses.dataclass(frozen=True)
class SelfAttendSettings:
    """A transformer layer.

    num_heads, qk_dim, v_dim, widening, exact_gelu, dropout, attention_dropout: as in
        `CrossAttendSettings`.
    norm: where each of the two residual branches is normalised: `pre`, at its start, as in both
        papers, or `post`, after it is added, as in BERT (1810.04805).
    stochastic_depth: rate at which a branch is left out for an example in training.
    """

    num_heads: int
    qk_dim: int | None = None
    v_dim: int | None = None
    widening: int = 1
    exact_gelu: bool = False
    dropout: float = 0.0
    attention_dropout: float = 0.0
    norm: Literal["pre", "post"] = "pre"
    stochastic_depth: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatentStackSettings(SelfAttendSettings):
    """Self-attention layers over the latents.

    num_layers: layers, each with weights of its own.
    remat: what the gradient computes again instead of storing it: `none`; `all` of a layer but its
        input; `products`, all of a layer but what its linear layers gave.
    """

    num_layers: int
    remat: Literal["none", "products", "all"] = "none"


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
    """The encoder of Perceiver IO.

    num_latents: N.
    latent_dim: D.
    num_blocks: times that the whole latent stack is applied, with the same weights.
    cross_attend: the block that reads.
    latent_stack: the layers that process.
    """

    num_latents: int
    latent_dim: int
    num_blocks: int
    cross_attend: CrossAttendSettings
    latent_stack: LatentStackSettings


@dataclasses.dataclass(frozen=True)
class InterleavedEncoderSettings:
    """The encoder of the original Perceiver.

    num_latents: N.
    latent_dim: D.
    cross_attends: for each stage, the number of the cross-attend that comes first, or None for
        none. Stages with the same number share weights.
    stacks: for each stage, the number of the latent stack that follows.
    cross_attend: every block that reads.
    latent_stack: the layers of every stack.
    """

    num_latents: int
    latent_dim: int
    cross_attends: Sequence[int | None]
    stacks: Sequence[int]
    cross_attend: CrossAttendSettings
    latent_stack: LatentStackSettings


@dataclasses.dataclass(frozen=True)
class DecoderSettings:
    """The decoder.

    cross_attend: its block.
    query_chunk_size: most queries decoded at once, so that memory does not grow with the number of
        outputs. None for 4096 on CPUs and 65,536 on accelerators.
    """

    cross_attend: CrossAttendSettings
    query_chunk_size: int | None = None
