"""The original research checkpoints: pickles of Haiku parameter trees.

The published files are `language_perceiver_io_bytes.pickle` and, all with the suffix `.pystate`,
`imagenet_learned_position_encoding`, `imagenet_fourier_position_encoding`,
`imagenet_conv_preprocessing`, `optical_flow_checkpoint` and `video_autoencoding_checkpoint`. They
are told apart by their module names.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.pretrained import sections
from perceiver_io.pretrained.blocks import Dialect
from perceiver_io.pretrained.mapping import (
    SAME,
    Arrays,
    Layout,
    Link,
    flat,
    frame_pair,
    nested,
    row,
)
from perceiver_io.pretrained.sections import Settings

_LINEAR = {"w": ("w", SAME), "b": ("b", SAME)}
_ATTENTION = {
    "attention/query": "attention/linear",
    "attention/key": "attention/linear_1",
    "attention/value": "attention/linear_2",
    "attention/output": "attention/linear_3",
    "mlp/hidden": "mlp/linear",
    "mlp/output": "mlp/linear_1",
}
DIALECT = Dialect(
    separator="/",
    linear=_LINEAR,
    norm={"scale": ("scale", SAME), "offset": ("offset", SAME)},
    cross_attend=_ATTENTION
    | {"norm_queries": "layer_norm", "norm_inputs": "layer_norm_1", "mlp/norm": "layer_norm_2"},
    self_attend=_ATTENTION | {"norm": "layer_norm", "mlp/norm": "layer_norm_1"},
)
# A 1x1 convolution [1, 1, C, F] corresponds to a linear layer of ours.
_POINTWISE = Layout(lambda x: x[0, 0], lambda x: x[None, None])


_LAYER = re.compile(r"encoder/~/self_attention(_\d+)?/")


class Kind(NamedTuple):
    """One kind of published model.

    module: a module that no other kind has.
    links: function from the number of layers of the latent stack to links.
    section: function from arrays under our names, and settings as keyword arguments, to a config
        section.
    with_state: whether the file has the model's state, possibly empty, besides its parameters.
    """

    module: str
    links: Callable[[int], list[Link]]
    section: Callable[..., dict[str, Any]]
    with_state: bool = False


def split_tree(tree: Any, where: str) -> Arrays:
    """A pickle's arrays by flat names, `params/MODULE/NAME` and `model_state/MODULE/NAME`.

    Raises UserError unless the tree is {module: {name: array}}, or `params` and `state` of that
    form.
    """
    if isinstance(tree, Mapping) and set(tree) == {"params", "state"}:
        params, state = tree["params"], tree["state"]
    else:
        params, state = tree, {}
    for modules in (params, state):
        ok = isinstance(modules, Mapping) and all(
            isinstance(arrays, Mapping) and all(hasattr(x, "shape") for x in arrays.values())
            for arrays in modules.values()
        )
        if not ok:
            raise UserError(
                f"{where} is not a tree of Haiku parameters, {{module: {{name: array}}}}, either "
                "alone or as `params` with `state`. Give one of the published checkpoints."
            )
    return flat(params, "params") | flat(state, "model_state")


def merge_tree(arrays: Arrays, kind: Kind) -> dict[str, Any]:
    """The inverse of `split_tree`."""
    params, state = nested(arrays, "params"), nested(arrays, "model_state")
    return {"params": params, "state": state} if kind.with_state else params


def recognise(names: set[str], where: str) -> str:
    """The one of `KINDS` to which these names belong. Raises UserError if there is none."""
    modules = {name.rpartition("/")[0].removeprefix("params/") for name in names}
    for name, kind in KINDS.items():
        if kind.module in modules:
            return name
    raise UserError(
        f"{where} is none of the published models ({listing(KINDS)}): its modules are "
        f"{listing(sorted(modules)[:4])}, ..."
    )


def count_layers(names: Iterable[str]) -> int:
    """The number of layers of the latent stack in a file with these names."""
    return len({match[0] for name in names if (match := _LAYER.search(name))})


def _embeddings(ours: str, theirs: str, layout: Layout = SAME) -> Link:
    return Link(f"params/{ours}/embeddings", f"params/{theirs}/pos_embs", layout)


def _core(num_layers: int, encoder: str, decoder: str) -> list[Link]:
    """Links for latents, encoder and decoder, whose modules have these prefixes."""
    prefix = f"params/{encoder}/~/self_attention"
    layers = [prefix] + [f"{prefix}_{i}" for i in range(1, num_layers)]
    latents = f"params/{encoder}/~/trainable_position_encoding/pos_embs"
    return [
        Link("params/encoder/latents", latents),
        *DIALECT.cross_attend_links(
            "params/encoder/cross_attend", f"params/{encoder}/~/cross_attention"
        ),
        *DIALECT.stack_links(layers),
        *DIALECT.cross_attend_links(
            "params/decoder/cross_attend", f"params/{decoder}/cross_attention"
        ),
    ]


def _linear(ours: str, theirs: str) -> list[Link]:
    return DIALECT.linear_links(f"params/{ours}", f"params/{theirs}")


def _language(num_layers: int) -> list[Link]:
    return [
        *_core(num_layers, "perceiver_encoder", "basic_decoder"),
        Link("params/embeddings/embeddings", "params/embed/embeddings"),
        _embeddings("positions", "trainable_position_encoding"),
        _embeddings("query_positions", "basic_decoder/~/trainable_position_encoding"),
        Link("params/logits/b", "params/embedding_decoder/bias"),
    ]


def _imagenet(num_layers: int) -> list[Link]:
    decoder = "classification_decoder/~/basic_decoder"
    return [
        *_core(num_layers, "perceiver_encoder", decoder),
        *_linear("decoder/logits", f"{decoder}/output"),
        _embeddings("queries", f"{decoder}/~/trainable_position_encoding"),
    ]


def _imagenet_learned(num_layers: int) -> list[Link]:
    inputs = "image_preprocessor/~_build_network_inputs"
    return [
        *_imagenet(num_layers),
        Link("params/conv_1x1/w", "params/image_preprocessor/~/conv2_d/w", _POINTWISE),
        Link("params/conv_1x1/b", "params/image_preprocessor/~/conv2_d/b"),
        _embeddings("positions", f"{inputs}/trainable_position_encoding"),
        *_linear("project_positions", f"{inputs}/position_encoding_projector/linear"),
    ]


def _imagenet_conv(num_layers: int) -> list[Link]:
    stem = "image_preprocessor/~/conv2_d_downsample/~"
    ours, theirs = "model_state/conv_stem/batch_norm/~", f"model_state/{stem}/batchnorm/~"
    return [
        *_imagenet(num_layers),
        Link("params/conv_stem/conv/w", f"params/{stem}/conv/w"),
        *(
            Link(f"params/conv_stem/batch_norm/{leaf}", f"params/{stem}/batchnorm/{leaf}")
            for leaf in ("scale", "offset")
        ),
        *(
            Link(f"{ours}/{moment}/{leaf}", f"{theirs}/{moment}/{leaf}")
            for moment in ("mean_ema", "var_ema")
            for leaf in ("average", "hidden", "counter")
        ),
    ]


def _flow(num_layers: int) -> list[Link]:
    decoder = "flow_decoder/~/basic_decoder"
    return [
        *_core(num_layers, "perceiver_encoder", decoder),
        *_linear("decoder/output", f"{decoder}/output"),
        Link(
            "params/frame_pairs/conv/w", "params/image_preprocessor/patches_linear/w", frame_pair(3)
        ),
        Link("params/frame_pairs/conv/b", "params/image_preprocessor/patches_linear/b"),
    ]


def _video(num_layers: int) -> list[Link]:
    decoder = "multimodal_decoder/~/basic_decoder"
    links = [
        *_core(num_layers, "encoder", decoder),
        *_linear("decoder/output", f"{decoder}/output"),
        *_linear("decoder/audio_values", "audio_postprocessor/linear"),
        *_linear("decoder/image_values", "projection_postprocessor/linear"),
        *_linear("decoder/label_logits", "classification_postprocessor/linear"),
        _embeddings(
            "label_query", "classification_decoder/~/basic_decoder/~/trainable_position_encoding"
        ),
    ]
    for name in ("audio", "image", "label"):
        inputs, queries = "multimodal_preprocessor", "multimodal_decoder/~decoder_query"
        links += [
            _embeddings(f"{name}_padding", f"{inputs}/{name}_padding", row()),
            _embeddings(f"{name}_mask_token", f"{inputs}/{name}_mask_token", row()),
            _embeddings(f"{name}_query_padding", f"{queries}/{name}_padding", row()),
        ]
    return links


def _language_section(arrays: Arrays, *, num_heads: int = 8) -> dict[str, Any]:
    settings = Settings(num_heads, num_cross_heads=num_heads, num_decoder_heads=num_heads)
    return sections.masked_lm(arrays, settings)


def _imagenet_section(
    use_query_residual: bool,
    arrays: Arrays,
    *,
    image_size: tuple[int, int] | None = (224, 224),
    num_heads: int = 8,
    num_blocks: int = 8,
) -> dict[str, Any]:
    settings = Settings(num_heads, num_blocks=num_blocks, use_query_residual=use_query_residual)
    return sections.image_classifier(arrays, settings, image_size)


def _flow_section(
    arrays: Arrays, *, image_size: tuple[int, int] = (368, 496), num_heads: int = 16
) -> dict[str, Any]:
    return sections.flow(arrays, Settings(num_heads), image_size)


def _video_section(
    arrays: Arrays,
    *,
    num_frames: int = 16,
    image_size: tuple[int, int] = (224, 224),
    resolution: tuple[int, int] = (56, 56),
    samples_per_frame: int = 1920,
    num_heads: int = 8,
) -> dict[str, Any]:
    return sections.autoencoder(
        arrays,
        Settings(num_heads),
        video_shape=(num_frames, *image_size),
        resolution=(num_frames, *resolution),
        num_samples=num_frames * samples_per_frame,
    )


KINDS = {
    "language_bytes": Kind("embedding_decoder", _language, _language_section),
    "imagenet_learned": Kind(
        "image_preprocessor/~/conv2_d",
        _imagenet_learned,
        partial(_imagenet_section, False, image_size=None),
        with_state=True,
    ),
    "imagenet_conv": Kind(
        "image_preprocessor/~/conv2_d_downsample/~/conv",
        _imagenet_conv,
        partial(_imagenet_section, True),
        with_state=True,
    ),
    "optical_flow": Kind("image_preprocessor/patches_linear", _flow, _flow_section),
    "video_autoencoding": Kind("multimodal_decoder/~/basic_decoder/output", _video, _video_section),
    "imagenet_fourier": Kind(
        "classification_decoder/~/basic_decoder/output",
        _imagenet,
        partial(_imagenet_section, True),
        with_state=True,
    ),
}
"""The published models by name. The last one has no module of its own, so it must come last."""
