"""The settings of a CoAtNet: `CoAtNetBlocks` is a section of `config.model`."""

import dataclasses
import re
from typing import Annotated, Literal, NamedTuple

from perceiver_io.config.annotations import UNSEEN, Limit, Positive, Rate, Width
from perceiver_io.errors import UserError
from perceiver_io.models.settings import Widening

Norm = Literal["batch", "layer"]
Pooling = Literal["max", "average"]
Layout = Annotated[
    str,
    Limit(
        "letters C and T, with a hyphen before each new resolution, such as C-C-T-T",
        lambda text: re.fullmatch("[CT]+(-[CT]+)*", text),
    ),
]


@dataclasses.dataclass(frozen=True)
class CoAtNetBlocks:
    """The blocks of a CoAtNet (2106.04803, appendix A.1).

    The defaults are the paper's. The weights of timm need other settings, which
    `perceiver_io/pretrained/timm.py` lists; the paper's ablations need others.

    Both kinds of block:
        expansion: width of an MBConv's depthwise convolution, and of an MLP's hidden layer, as a
            multiple of the block's width.
        exact_gelu: whether GELU is exact (erf) or the tanh approximation.
        pooling: what reduces the shortcut, and the input of attention: 3x3 maxima or 2x2 averages.
        stochastic_depth: rate at which the last block's branches are dropped for an example in
            training; it grows linearly from 0 at the first block (1603.09382).

    MBConv:
        activation: its nonlinearity, and the stem's.
        conv_norm: its norms.
        activated_input: whether its first norm is followed by the nonlinearity.
        expand_from: the width that `expansion` multiplies, that of the block's output or input.
        stride: what reduces the resolution: the first 1x1 convolution (`expansion`), the depthwise
            one (`depthwise`, the paper's models with a dagger), or 2x2 averages before both.
        squeeze_from: what is 4 times as wide as the hidden layer of squeeze-and-excitation
            (1709.01507): the block's `output`, or the expanded features (`hidden`).
        squeeze_activation: the nonlinearity of that layer.
        squeeze_before_norm: whether squeeze-and-excitation precedes the norm and nonlinearity after
            the depthwise convolution.
        conv_bias: whether the last 1x1 convolution, and that of the shortcut, have a bias.

    Attention:
        head_size: width of each head.
        attention_norm: its norms, and the model's last one.
        attention_norm_epsilon: added to the variance in these.
        widen_at: whether attention is as wide as the block's `output` or as its `input`.
        shortcut_bias: whether the 1x1 convolution of the shortcut has a bias.
        relative_bias: how the bias of the logits is given for each offset and head: by a learned
            `table`, by an MLP of the offset's signed logarithm, or not at all.
        relative_bias_hidden: width of that MLP's hidden layer.
        bias_after_softmax: whether the bias is added to attention's weights in place of the logits.
        layer_scale: whether branches are multiplied by a learned vector (2103.17239).
    """

    expansion: Widening = 4.0
    exact_gelu: Annotated[bool, UNSEEN] = False
    pooling: Annotated[Pooling, UNSEEN] = "max"
    stochastic_depth: Rate = 0.0

    activation: Annotated[Literal["gelu", "silu"], UNSEEN] = "gelu"
    conv_norm: Norm = "batch"
    activated_input: Annotated[bool, UNSEEN] = False
    expand_from: Literal["output", "input"] = "output"
    stride: Annotated[Literal["expansion", "depthwise", "pooling"], UNSEEN] = "expansion"
    squeeze_from: Literal["output", "hidden"] = "output"
    squeeze_activation: Annotated[Literal["gelu", "silu", "relu"], UNSEEN] = "gelu"
    squeeze_before_norm: Annotated[bool, UNSEEN] = False
    conv_bias: bool = True

    head_size: Annotated[Width, UNSEEN] = 32
    attention_norm: Norm = "layer"
    attention_norm_epsilon: Annotated[Positive, UNSEEN] = 1e-5
    widen_at: Literal["input", "output"] = "input"
    shortcut_bias: bool = True
    relative_bias: Literal["table", "mlp", "none"] = "table"
    relative_bias_hidden: Width = 512
    bias_after_softmax: Annotated[bool, UNSEEN] = False
    layer_scale: bool = False


class Stage(NamedTuple):
    """Consecutive blocks of one kind and width.

    kind: `C` for MBConv, `T` for attention.
    depth: number of blocks.
    width: channels of the output.
    stride: by which the first block reduces the resolution, 1 or 2.
    """

    kind: str
    depth: int
    width: int
    stride: int


def stages(
    layout: str, depths: tuple[int, ...], widths: tuple[int, ...], *, reduce_first: bool
) -> tuple[Stage, ...]:
    """The stages of a layout such as C-C-T-T (section 2.2).

    Args:
        layout: the kinds of blocks. A hyphen halves the resolution; letters without one between
            them share theirs, as in C-C-CT-T of CoAtNet-6 and 7.
        depths: number of blocks for each letter.
        widths: channels for each letter.
        reduce_first: whether the first letter halves the resolution, too.

    Raises UserError unless there is one depth and one width for each letter.
    """
    groups = layout.split("-")
    kinds = "".join(groups)
    if not len(kinds) == len(depths) == len(widths):
        raise UserError(
            f"layout={layout!r} has {len(kinds)} letters, but there are {len(depths)} depths "
            f"{depths} and {len(widths)} widths {widths}: give one of each for each letter."
        )
    starts = [position == 0 for group in groups for position in range(len(group))]
    starts[0] = reduce_first
    return tuple(
        Stage(kind, depth, width, 2 if start else 1)
        for kind, depth, width, start in zip(kinds, depths, widths, starts, strict=True)
    )
