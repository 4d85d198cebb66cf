"""CoAtNets of timm (`coatnet_*`): sections from their names and arrays, and links to ours.

There are three families: `coatnet_N` in the paper's sizes, without published weights;
`coatnet_N_rw`; and `coatnet_rmlp_N_rw`, whose relative bias is an MLP's. Much of what distinguishes
them shows in names and shapes of the arrays; `SETTINGS` has the rest.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from perceiver_io.config.construct import listing, nearest
from perceiver_io.errors import UserError
from perceiver_io.pretrained.mapping import (
    CONVOLUTION,
    POINTWISE,
    SAME,
    TRANSPOSED,
    Arrays,
    Layout,
    Link,
    array_of,
    torch_batch_norm,
)
from perceiver_io.pretrained.sections import Section

Config = Mapping[str, Any]

_STACK = "__layer_stack_with_per_layer/block"
_BLOCK = re.compile(r"stages\.(\d+)\.blocks\.(\d+)\.")

# For each module or array of ours, the names that it may have in the file.
_STEM_AND_HEAD = {
    "stem_conv_1": ("stem.conv1",),
    "stem_norm": ("stem.norm1",),
    "stem_conv_2": ("stem.conv2",),
    "norm": ("norm", "head.norm"),
    "head": ("head.pre_logits.fc",),
    "logits": ("head.fc",),
}
_MBCONV = {
    "shortcut": ("shortcut.expand",),
    "norm": ("pre_norm",),
    "expand": ("conv1_1x1",),
    "norm_expanded": ("norm1",),
    "depthwise": ("conv2_kxk",),
    "norm_depthwise": ("norm2",),
    "squeeze": ("se.fc1", "se_early.fc1"),
    "excite": ("se.fc2", "se_early.fc2"),
    "project": ("conv3_1x1",),
}
_TRANSFORMER = {
    "shortcut": ("shortcut.expand",),
    "norm": ("norm1", "norm1.norm"),
    **{f"attention/{part}": (f"attn.{part}",) for part in ("query", "key", "value")},
    "attention/output": ("attn.proj",),
    "attention/table": ("attn.rel_pos.relative_position_bias_table",),
    "attention/offset_hidden": ("attn.rel_pos.mlp.fc1",),
    "attention/offset_output": ("attn.rel_pos.mlp.fc2",),
    "attention_scale": ("ls1.gamma",),
    "norm_mlp": ("norm2",),
    "mlp/hidden": ("mlp.fc1",),
    "mlp/output": ("mlp.fc2",),
    "mlp_scale": ("ls2.gamma",),
}


def _rw(
    squeeze_activation: str,
    *,
    activated_input: bool = True,
    stride: str = "depthwise",
    pooling: str = "average",
) -> Section:
    """Settings of the families with weights."""
    return dict(
        activation="silu",
        activated_input=activated_input,
        expand_from="input",
        stride=stride,
        squeeze_from="hidden",
        squeeze_activation=squeeze_activation,
        widen_at="output",
        pooling=pooling,
    )


_PAPER_SIZES = dict(squeeze_activation="silu", stride="depthwise", pooling="average")

SETTINGS: Mapping[str, Section] = {
    **{f"coatnet_{number}": _PAPER_SIZES for number in range(6)},
    "coatnet_pico_rw": _rw("silu", activated_input=False),
    "coatnet_nano_rw": _rw("silu", activated_input=False, stride="pooling"),
    "coatnet_0_rw": _rw("relu", stride="pooling"),
    "coatnet_1_rw": _rw("relu"),
    "coatnet_2_rw": _rw("silu"),
    "coatnet_3_rw": _rw("silu"),
    "coatnet_bn_0_rw": _rw("relu"),
    "coatnet_rmlp_nano_rw": _rw("silu", activated_input=False),
    "coatnet_rmlp_0_rw": _rw("relu"),
    "coatnet_rmlp_1_rw": _rw("relu", stride="pooling", pooling="max"),
    "coatnet_rmlp_1_rw2": _rw("relu"),
    "coatnet_rmlp_2_rw": _rw("silu"),
    "coatnet_rmlp_3_rw": _rw("silu"),
}
"""For each architecture, without its image size, the settings of blocks that no array shows, as far
as they are not the paper's."""


def is_timm(config: Config) -> bool:
    """Whether the `config.json` of a folder is timm's."""
    return isinstance(config.get("architecture"), str)


def separated(published: Arrays) -> Arrays:
    """The arrays with queries, keys and values apart, which are one layer in the file.

    Its rows are those of the first head's queries, keys and values, then those of the next head.
    """
    arrays = {}
    for name, array in published.items():
        prefix, fused, leaf = name.rpartition("attn.qkv.")
        if not fused:
            arrays[name] = array
            continue
        heads = _num_heads(published, f"{prefix}attn.rel_pos.")
        by_head = array.reshape(heads, 3, -1, *array.shape[1:])
        for i, part in enumerate(("query", "key", "value")):
            arrays[f"{prefix}attn.{part}.{leaf}"] = by_head[:, i].reshape(-1, *array.shape[1:])
    return arrays


def links(arrays: Arrays) -> list[Link]:
    """The links for these arrays, which are `separated`."""
    found = _links(arrays, "", _STEM_AND_HEAD, "")
    for stage, depth in enumerate(_depths(arrays)):
        first, *others = (f"stages.{stage}.blocks.{block}." for block in range(depth))
        modules = _MBCONV if f"{first}conv1_1x1.weight" in arrays else _TRANSFORMER
        found += _links(arrays, f"stage_{stage + 1}/first/", modules, first)
        if others:
            found += _links(arrays, f"stage_{stage + 1}/{_STACK}/", modules, tuple(others))
    return found


def section(config: Config, arrays: Arrays, where: str) -> Section:
    """The model section for these arrays, which are `separated`.

    Raises UserError for an architecture that is not in `SETTINGS`.
    """
    architecture = re.sub(r"_\d{3}$", "", config["architecture"])
    if architecture not in SETTINGS:
        raise UserError(
            f"{where} is of timm's architecture {config['architecture']!r}"
            f"{nearest(architecture, SETTINGS)}, which this project does not have. It reads "
            f"{listing(SETTINGS)}."
        )
    hidden = arrays.get("head.pre_logits.fc.bias")
    return dict(
        name="coatnet_classifier",
        num_classes=len(arrays["head.fc.bias"]),
        image_size=tuple(config["pretrained_cfg"]["input_size"][1:]),
        stem=dict(
            name="convolutions",
            widths=tuple(len(arrays[f"stem.conv{number}.weight"]) for number in (1, 2)),
        ),
        **_stages(arrays),
        head_width=None if hidden is None else len(hidden),
        norm_first="norm.weight" in arrays,
        blocks=_blocks(arrays) | SETTINGS[architecture],
    )


def _stages(arrays: Arrays) -> Section:
    """Kinds, depths and widths of the stages."""
    depths = _depths(arrays)
    firsts = [f"stages.{stage}.blocks.0." for stage in range(len(depths))]
    last_layers = {"C": "conv3_1x1", "T": "attn.proj"}
    kinds = ["C" if f"{first}conv3_1x1.weight" in arrays else "T" for first in firsts]
    return dict(
        layout="-".join(kinds),
        depths=depths,
        widths=tuple(
            len(arrays[f"{first}{last_layers[kind]}.weight"])
            for first, kind in zip(firsts, kinds, strict=True)
        ),
    )


def _blocks(arrays: Arrays) -> Section:
    """The settings of blocks that names and shapes show."""

    def some(ending: str) -> bool:
        return any(name.endswith(ending) for name in arrays)

    ending = "attn.proj.weight"
    transformers = [name.removesuffix(ending) for name in arrays if name.endswith(ending)]
    block = transformers[0]
    hidden = arrays.get(f"{block}attn.rel_pos.mlp.fc1.bias")
    inner = arrays[f"{block}{ending}"].shape[1]
    return dict(
        exact_gelu=True,
        conv_bias=some("conv3_1x1.bias"),
        squeeze_before_norm=some("se_early.fc1.bias"),
        head_size=inner // _num_heads(arrays, f"{block}attn.rel_pos."),
        attention_norm="batch" if f"{block}norm2.running_mean" in arrays else "layer",
        attention_norm_epsilon=1e-6,
        shortcut_bias=any(f"{block}shortcut.expand.bias" in arrays for block in transformers),
        relative_bias="table" if hidden is None else "mlp",
        relative_bias_hidden=512 if hidden is None else len(hidden),
        layer_scale=some("ls1.gamma"),
    )


def _num_heads(arrays: Arrays, relative: str) -> int:
    """The number of heads, from the relative bias of a block."""
    table = arrays.get(f"{relative}relative_position_bias_table")
    return len(arrays[f"{relative}mlp.fc2.bias"]) if table is None else table.shape[1]


def _depths(names: Iterable[str]) -> tuple[int, ...]:
    """The number of blocks of each stage."""
    blocks = {(int(m[1]), int(m[2])) for name in names if (m := _BLOCK.match(name))}
    counts = Counter(stage for stage, _ in blocks)
    return tuple(counts[stage] for stage in range(len(counts)))


def _links(
    arrays: Arrays, ours: str, modules: Mapping[str, tuple[str, ...]], block: str | tuple[str, ...]
) -> list[Link]:
    """Links of those of the modules that a block has; of a stack of blocks if there are several."""
    example = block if isinstance(block, str) else block[0]
    found = []
    for name, candidates in modules.items():
        for candidate in candidates:
            if isinstance(block, str):
                theirs: str | tuple[str, ...] = f"{block}{candidate}"
            else:
                theirs = tuple(f"{prefix}{candidate}" for prefix in block)
            found += _module_links(arrays, f"{ours}{name}", theirs, f"{example}{candidate}")
    return found


def _module_links(
    arrays: Arrays, ours: str, theirs: str | tuple[str, ...], example: str
) -> list[Link]:
    """Links of one module, or of a stack of those like `example`; none if the file has none."""
    if example in arrays:  # an array rather than a module
        return [Link(f"params/{ours}", theirs)]
    weight = arrays.get(f"{example}.weight")
    if weight is None:
        return []
    if f"{example}.running_mean" in arrays:
        return torch_batch_norm(ours, theirs)
    names = dict(weight="scale", bias="offset") if weight.ndim == 1 else dict(weight="w", bias="b")
    return [
        Link(f"params/{ours}/{name}", array_of(theirs, leaf), _layout(arrays[f"{example}.{leaf}"]))
        for leaf, name in names.items()
        if f"{example}.{leaf}" in arrays
    ]


def _layout(array: np.ndarray) -> Layout:
    """The layout of a layer's weight or bias, by its shape."""
    match array.shape:
        case (_, _, 1, 1):
            return POINTWISE
        case (_, _, _, _):
            return CONVOLUTION
        case (_, _):
            return TRANSPOSED
    return SAME
