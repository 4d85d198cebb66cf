"""Hugging Face Perceiver checkpoints: their `config.json` as a config section.

`config.json` names the model in `architectures`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.pretrained import sections
from perceiver_io.pretrained.mapping import Arrays
from perceiver_io.pretrained.sections import Section, Settings

Config = Mapping[str, Any]

# The models for raw pixels and for the convolutional stem are fixed to this size.
_IMAGE_SIZE = (224, 224)


def architecture(config: Config, where: str) -> str:
    """Which of `SECTIONS` a `config.json` names. Raises UserError if it is none of them."""
    names = config.get("architectures")
    for name in names if isinstance(names, list) else ():
        if name in SECTIONS:
            return name
    raise UserError(
        f"{where} is of the architecture {config.get('architectures')}, which this project does "
        f"not have. It reads {listing(SECTIONS)}."
    )


def complete(config: Config) -> Config:
    """A `config.json` with what transformers fills in where a file leaves it out."""
    return {**DEFAULTS, **config}


def class_names(config: Config) -> tuple[str, ...] | None:
    """The names of the classes in a `config.json`, where it has any.

    Raises UserError where they are not one for each class from 0 on.
    """
    names = config.get("id2label") or {}
    if not isinstance(names, Mapping) or set(names) != {str(i) for i in range(len(names))}:
        raise UserError(
            "config.json has an id2label that is no dict of the names of classes 0, 1, 2, ...: "
            "fix it, or remove it to number the classes."
        )
    listed = tuple(names[str(i)] for i in range(len(names)))
    # What transformers fills in where no names are known.
    return None if listed == placeholder_names(len(listed)) else listed


def placeholder_names(num_classes: int) -> tuple[str, ...]:
    """What transformers calls classes without names."""
    return tuple(f"LABEL_{i}" for i in range(num_classes))


def _settings(config: Config, **fixed: Any) -> Settings:
    for key in ("num_self_attention_heads", "num_cross_attention_heads", "num_blocks"):
        if not isinstance(config[key], int) or config[key] < 1:
            raise UserError(f"config.json has {key}={config[key]!r}, which is no positive number.")
    return Settings(
        num_heads=config["num_self_attention_heads"],
        num_cross_heads=config["num_cross_attention_heads"],
        num_blocks=config["num_blocks"],
        use_latent_residual=bool(config["use_query_residual"]),
        attention_dropout=float(config["attention_probs_dropout_prob"]),
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
    use_query_residual=True,
    attention_probs_dropout_prob=0.1,
    image_size=56,
    train_size=(368, 496),
    num_frames=16,
    audio_samples_per_frame=1920,
    output_shape=(1, 16, 224, 224),
)
"""Settings that a `config.json` may leave out, as transformers documents their defaults."""

GELUS = {"gelu": True, "gelu_pytorch_tanh": False, "gelu_new": False}
"""Activations by their name in a `config.json`: whether GELU is exact."""

SECTIONS: dict[str, Callable[[Arrays, Config], Section]] = {
    "PerceiverForMaskedLM": _masked_lm_section,
    "PerceiverForSequenceClassification": _text_classifier_section,
    "PerceiverForImageClassificationLearned": _learned_section,
    "PerceiverForImageClassificationFourier": _image_section,
    "PerceiverForImageClassificationConvProcessing": partial(_image_section, pytorch_padding=True),
    "PerceiverForOpticalFlow": _flow_section,
    "PerceiverForMultimodalAutoencoding": _autoencoder_section,
}
"""By the name of an architecture: arrays under our names, and `config.json` -> config section."""
