"""Links between the arrays of Hugging Face Perceiver checkpoints and ours."""

import re
from collections.abc import Callable, Iterable

import numpy as np

from perceiver_io.pretrained.blocks import Dialect
from perceiver_io.pretrained.mapping import (
    CONVOLUTION,
    POINTWISE,
    SAME,
    TRANSPOSED,
    Arrays,
    Layout,
    Link,
    followed_by,
    frame_pair,
    row,
    torch_batch_norm,
)

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
_LAYER = re.compile(r"perceiver\.encoder\.self_attends\.\d+\.")
_INPUTS, _DECODER = "perceiver.input_preprocessor", "perceiver.decoder.decoder"


def with_step_count(published: Arrays) -> Arrays:
    """Adds the batch-norm step count, which files of old PyTorch versions lack."""
    prefix = f"{_INPUTS}.convnet.batchnorm"
    count = {f"{prefix}.num_batches_tracked": np.zeros([], np.int64)}
    return count | published if f"{prefix}.running_mean" in published else published


def _linear(ours: str, theirs: str) -> list[Link]:
    return DIALECT.linear_links(f"params/{ours}", theirs)


def _embeddings(ours: str, theirs: str, layout: Layout = SAME) -> Link:
    return Link(f"params/{ours}/embeddings", theirs, layout)


def count_layers(names: Iterable[str]) -> int:
    """The number of layers of the latent stack in a file with these names."""
    return len({match[0] for name in names if (match := _LAYER.match(name))})


def _core(num_layers: int, decoder: str) -> list[Link]:
    return [
        Link("params/encoder/latents", "perceiver.embeddings.latents"),
        *DIALECT.cross_attend_links(
            "params/encoder/cross_attend", "perceiver.encoder.cross_attention"
        ),
        *DIALECT.stack_links([f"perceiver.encoder.self_attends.{i}" for i in range(num_layers)]),
        *DIALECT.cross_attend_links(
            "params/decoder/cross_attend", f"{decoder}.decoding_cross_attention"
        ),
    ]


def _text() -> list[Link]:
    return [
        _embeddings("embeddings", f"{_INPUTS}.embeddings.weight"),
        _embeddings("positions", f"{_INPUTS}.position_embeddings.weight"),
    ]


def _masked_lm(num_layers: int) -> list[Link]:
    decoder = "perceiver.decoder"
    return [
        *_core(num_layers, decoder),
        *_text(),
        _embeddings("query_positions", f"{decoder}.output_position_encodings.position_embeddings"),
        Link("params/logits/b", "embedding_decoder.bias"),
    ]


def _classifier(num_layers: int) -> list[Link]:
    return [
        *_core(num_layers, _DECODER),
        *_linear("decoder/logits", f"{_DECODER}.final_layer"),
        _embeddings("queries", f"{_DECODER}.output_position_encodings.position_embeddings"),
    ]


def _text_classifier(num_layers: int) -> list[Link]:
    return [*_classifier(num_layers), *_text()]


def _learned_pixels(num_layers: int) -> list[Link]:
    return [
        *_classifier(num_layers),
        Link("params/conv_1x1/w", f"{_INPUTS}.convnet_1x1.weight", POINTWISE),
        Link("params/conv_1x1/b", f"{_INPUTS}.convnet_1x1.bias"),
        _embeddings("positions", f"{_INPUTS}.position_embeddings.position_embeddings"),
        *_linear("project_positions", f"{_INPUTS}.positions_projection"),
    ]


def _conv_features(num_layers: int) -> list[Link]:
    return [
        *_classifier(num_layers),
        Link("params/conv_stem/conv/w", f"{_INPUTS}.convnet.conv.weight", CONVOLUTION),
        *torch_batch_norm("conv_stem/batch_norm", f"{_INPUTS}.convnet.batchnorm"),
    ]


def _flow(num_layers: int) -> list[Link]:
    patches = f"{_INPUTS}.conv_after_patches"
    return [
        *_core(num_layers, _DECODER),
        *_linear("decoder/output", f"{_DECODER}.final_layer"),
        Link(
            "params/frame_pairs/conv/w", f"{patches}.weight", followed_by(TRANSPOSED, frame_pair(3))
        ),
        Link("params/frame_pairs/conv/b", f"{patches}.bias"),
    ]


def _autoencoder(num_layers: int) -> list[Link]:
    outputs = "perceiver.output_postprocessor.modalities"
    label = "perceiver.decoder.modalities.label.decoder"
    links = [
        *_core(num_layers, _DECODER),
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


LINKS: dict[str, Callable[[int], list[Link]]] = {
    "PerceiverForMaskedLM": _masked_lm,
    "PerceiverForSequenceClassification": _text_classifier,
    "PerceiverForImageClassificationLearned": _learned_pixels,
    "PerceiverForImageClassificationFourier": _classifier,
    "PerceiverForImageClassificationConvProcessing": _conv_features,
    "PerceiverForOpticalFlow": _flow,
    "PerceiverForMultimodalAutoencoding": _autoencoder,
}
"""For each architecture, a function from the number of layers of the latent stack to links."""
