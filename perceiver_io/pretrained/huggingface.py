"""Hugging Face Perceiver checkpoints, in both directions.

Their `config.json` names the model in `architectures`; image models have some sizes fixed in code.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from perceiver_io.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.pretrained import sections
from perceiver_io.pretrained.blocks import Dialect
from perceiver_io.pretrained.mapping import (
    CONVOLUTION,
    SAME,
    TRANSPOSED,
    Arrays,
    Layout,
    Link,
    followed_by,
    frame_pair,
    row,
)
from perceiver_io.pretrained.sections import Settings

Config = Mapping[str, Any]

_ATTENTION = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/output": "attention.output.dense",
    "mlp/norm": "layernorm",
    "mlp/hidden": "mlp.dense1",
    "mlp/output": "mlp.dense2",
}
DIALECT = Dialect(
    separator=".",
    linear={"w": ("weight", TRANSPOSED), "b": ("bias", SAME)},
    norm={"scale": ("weight", SAME), "offset": ("bias", SAME)},
    cross_attend=_ATTENTION
    | {"norm_queries": "attention.self.layernorm1", "norm_inputs": "attention.self.layernorm2"},
    self_attend=_ATTENTION | {"norm": "attention.self.layernorm1"},
)
_INPUTS, _DECODER = "perceiver.input_preprocessor", "perceiver.decoder.decoder"
_BATCH_NORM = Layout(lambda x: x.reshape(1, 1, 1, -1), lambda x: x.reshape(-1))
# Haiku corrects its moving averages for their first steps, PyTorch does not: enough steps that no
# correction is left.
_SETTLED = 10_000
_COUNTER = Layout(
    lambda x: np.maximum(x, _SETTLED).astype(np.int32), lambda x: np.asarray(x, np.int64)
)
# A 1x1 convolution [F, C, 1, 1] is a linear layer of ours.
_POINTWISE = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
# The models for raw pixels and for the convolutional stem are fixed to this size.
_IMAGE_SIZE = (224, 224)


class Architecture(NamedTuple):
    """One published model.

    links: names of the file's arrays -> links.
    section: arrays under our names, and the file's config -> config section.
    """

    links: Callable[[set[str]], list[Link]]
    section: Callable[[Arrays, Config], dict[str, Any]]


def architecture(config: Config, where: str) -> str:
    """Which of `ARCHITECTURES` a `config.json` names. Raises UserError if it is none of them."""
    for name in config.get("architectures") or ():
        if name in ARCHITECTURES:
            return name
    raise UserError(
        f"{where} is of the architecture {config.get('architectures')}, which this project does "
        f"not have. It reads {listing(ARCHITECTURES)}."
    )


def complete(config: Config) -> Config:
    """A `config.json` with what transformers fills in where a file leaves it out."""
    return DEFAULTS | dict(config)


def with_step_count(published: Arrays) -> Arrays:
    """The arrays with the batch-norm step count that files of old PyTorch versions lack."""
    prefix = f"{_INPUTS}.convnet.batchnorm"
    count = {f"{prefix}.num_batches_tracked": np.zeros([], np.int64)}
    return count | published if f"{prefix}.running_mean" in published else published


def class_names(config: Config) -> tuple[str, ...] | None:
    """The names of the classes in a `config.json`, where it has any."""
    names = config.get("id2label")
    return None if names is None else tuple(names[key] for key in sorted(names, key=int))


def _linear(ours: str, theirs: str) -> list[Link]:
    return DIALECT.linear_links(f"params/{ours}", theirs)


def _embeddings(ours: str, theirs: str, layout: Layout = SAME) -> Link:
    return Link(f"params/{ours}/embeddings", theirs, layout)


def _core(names: set[str], decoder: str) -> list[Link]:
    prefix = "perceiver.encoder.self_attends"
    layers = {match[1] for name in names if (match := re.match(rf"({prefix}\.\d+)\.", name))}
    return [
        Link("params/encoder/latents", "perceiver.embeddings.latents"),
        *DIALECT.cross_attend_links(
            "params/encoder/cross_attend", "perceiver.encoder.cross_attention"
        ),
        *DIALECT.stack_links([f"{prefix}.{i}" for i in range(len(layers))]),
        *DIALECT.cross_attend_links(
            "params/decoder/cross_attend", f"{decoder}.decoding_cross_attention"
        ),
    ]


def _text() -> list[Link]:
    return [
        _embeddings("embeddings", f"{_INPUTS}.embeddings.weight"),
        _embeddings("positions", f"{_INPUTS}.position_embeddings.weight"),
    ]


def _masked_lm(names: set[str]) -> list[Link]:
    decoder = "perceiver.decoder"
    return [
        *_core(names, decoder),
        *_text(),
        _embeddings("query_positions", f"{decoder}.output_position_encodings.position_embeddings"),
        Link("params/logits/b", "embedding_decoder.bias"),
    ]


def _classifier(names: set[str]) -> list[Link]:
    return [
        *_core(names, _DECODER),
        *_linear("decoder/logits", f"{_DECODER}.final_layer"),
        _embeddings("queries", f"{_DECODER}.output_position_encodings.position_embeddings"),
    ]


def _text_classifier(names: set[str]) -> list[Link]:
    return [*_classifier(names), *_text()]


def _learned_pixels(names: set[str]) -> list[Link]:
    return [
        *_classifier(names),
        Link("params/conv_1x1/w", f"{_INPUTS}.convnet_1x1.weight", _POINTWISE),
        Link("params/conv_1x1/b", f"{_INPUTS}.convnet_1x1.bias"),
        _embeddings("positions", f"{_INPUTS}.position_embeddings.position_embeddings"),
        *_linear("project_positions", f"{_INPUTS}.positions_projection"),
    ]


def _conv_features(names: set[str]) -> list[Link]:
    params, state = "params/conv_stem/batch_norm", "model_state/conv_stem/batch_norm/~"
    norm = f"{_INPUTS}.convnet.batchnorm"
    links = [
        *_classifier(names),
        Link("params/conv_stem/conv/w", f"{_INPUTS}.convnet.conv.weight", CONVOLUTION),
        Link(f"{params}/scale", f"{norm}.weight", _BATCH_NORM),
        Link(f"{params}/offset", f"{norm}.bias", _BATCH_NORM),
    ]
    for ours, theirs in (("mean_ema", "running_mean"), ("var_ema", "running_var")):
        # Both of Haiku's are read from one array. Of links to one array the last is written.
        links += [
            Link(f"{state}/{ours}/hidden", f"{norm}.{theirs}", _BATCH_NORM),
            Link(f"{state}/{ours}/average", f"{norm}.{theirs}", _BATCH_NORM),
            Link(f"{state}/{ours}/counter", f"{norm}.num_batches_tracked", _COUNTER),
        ]
    return links


def _flow(names: set[str]) -> list[Link]:
    patches = f"{_INPUTS}.conv_after_patches"
    return [
        *_core(names, _DECODER),
        *_linear("decoder/output", f"{_DECODER}.final_layer"),
        Link(
            "params/frame_pairs/conv/w", f"{patches}.weight", followed_by(TRANSPOSED, frame_pair(3))
        ),
        Link("params/frame_pairs/conv/b", f"{patches}.bias"),
    ]


def _autoencoder(names: set[str]) -> list[Link]:
    outputs = "perceiver.output_postprocessor.modalities"
    label = "perceiver.decoder.modalities.label.decoder"
    links = [
        *_core(names, _DECODER),
        *_linear("decoder/output", f"{_DECODER}.final_layer"),
        *_linear("decoder/audio_values", f"{outputs}.audio.classifier"),
        *_linear("decoder/image_values", f"{outputs}.image.classifier"),
        *_linear("decoder/label_logits", f"{outputs}.label.classifier"),
        _embeddings("label_query", f"{label}.output_position_encodings.position_embeddings"),
    ]
    for name in ("audio", "image", "label"):
        links += [
            _embeddings(f"{name}_padding", f"{_INPUTS}.padding.{name}", row()),
            _embeddings(f"{name}_mask_token", f"{_INPUTS}.mask.{name}", row()),
            _embeddings(f"{name}_query_padding", f"perceiver.decoder.padding.{name}", row()),
        ]
    return links


def _settings(config: Config, **fixed: Any) -> Settings:
    return Settings(
        num_heads=config["num_self_attention_heads"],
        num_cross_heads=config["num_cross_attention_heads"],
        num_blocks=config["num_blocks"],
        exact_gelu=_is_exact(config["hidden_act"]),
        **fixed,
    )


def _is_exact(activation: str) -> bool:
    if activation not in GELUS:
        raise UserError(
            f"config.json has hidden_act {activation!r}; this project has {listing(GELUS)}."
        )
    return GELUS[activation]


def _masked_lm_section(arrays: Arrays, config: Config) -> dict[str, Any]:
    return sections.masked_lm(arrays, _settings(config, num_decoder_heads=8))


def _text_classifier_section(arrays: Arrays, config: Config) -> dict[str, Any]:
    return sections.text_classifier(arrays, _settings(config, use_query_residual=True))


def _image_section(arrays: Arrays, config: Config, **stem: Any) -> dict[str, Any]:
    settings = _settings(config, use_query_residual=True)
    return sections.image_classifier(arrays, settings, _IMAGE_SIZE, **stem)


def _learned_section(arrays: Arrays, config: Config) -> dict[str, Any]:
    side = config["image_size"]
    settings = _settings(config, use_query_residual=True)
    return sections.image_classifier(arrays, settings, (side, side))


def _flow_section(arrays: Arrays, config: Config) -> dict[str, Any]:
    return sections.flow(arrays, _settings(config), tuple(config["train_size"]))


def _autoencoder_section(arrays: Arrays, config: Config) -> dict[str, Any]:
    frames, side = config["num_frames"], config["image_size"]
    return sections.autoencoder(
        arrays,
        _settings(config),
        video_shape=tuple(config["output_shape"][1:]),
        resolution=(frames, side, side),
        num_samples=frames * config["audio_samples_per_frame"],
    )


DEFAULTS: Config = dict(
    num_self_attention_heads=8,
    num_cross_attention_heads=8,
    num_blocks=1,
    hidden_act="gelu",
    image_size=56,
    train_size=(368, 496),
    num_frames=16,
    audio_samples_per_frame=1920,
    output_shape=(1, 16, 224, 224),
)
"""Settings that a `config.json` may leave out, as transformers documents their defaults."""

GELUS = {"gelu": True, "gelu_pytorch_tanh": False, "gelu_new": False}
"""Activations by their name in a `config.json`: whether GELU is exact."""

ARCHITECTURES = {
    "PerceiverForMaskedLM": Architecture(_masked_lm, _masked_lm_section),
    "PerceiverForSequenceClassification": Architecture(_text_classifier, _text_classifier_section),
    "PerceiverForImageClassificationLearned": Architecture(_learned_pixels, _learned_section),
    "PerceiverForImageClassificationFourier": Architecture(_classifier, _image_section),
    "PerceiverForImageClassificationConvProcessing": Architecture(
        _conv_features, partial(_image_section, pytorch_padding=True)
    ),
    "PerceiverForOpticalFlow": Architecture(_flow, _flow_section),
    "PerceiverForMultimodalAutoencoding": Architecture(_autoencoder, _autoencoder_section),
}
"""The published models by the name in `architectures`."""
