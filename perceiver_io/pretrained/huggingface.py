"""Hugging Face Perceiver checkpoints: converts their `config.json` to a config section.

`config.json` names the model under `architectures`.
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

# The models with raw pixels and with the convolutional stem have this fixed size.
_IMAGE_SIZE = (224, 224)


def architecture(config: Config, where: str) -> str:
    """The one of `SECTIONS` that a `config.json` names. Raises UserError if there is none."""
    names = config.get("architectures")
    for name in names if isinstance(names, list) else ():
        if name in SECTIONS:
            return name
    raise UserError(
        f"{where} is of the architecture {config.get('architectures')}, which this project does "
        f"not have. It reads {listing(SECTIONS)}."
    )


def complete(config: Config) -> Config:
    """A `config.json` with the defaults of transformers for the settings that it omits."""
    return {**DEFAULTS, **config}


def class_names(config: Config) -> tuple[str, ...] | None:
    """The class names in a `config.json`; None if it has none.

    Raises UserError unless there is one name for each class from 0 on.
    """
    names = config.get("id2label") or {}
    if not isinstance(names, Mapping) or set(names) != {str(i) for i in range(len(names))}:
        raise UserError(
            "config.json has an id2label that is not a dict of names for the classes 0, 1, 2, ...: "
            "fix it, or remove it to number the classes."
        )
    listed = tuple(names[str(i)] for i in range(len(names)))
    # transformers writes placeholders if it knows no names.
    return None if listed == placeholder_names(len(listed)) else listed


def placeholder_names(num_classes: int) -> tuple[str, ...]:
    """The names that transformers gives to classes without names."""
    return tuple(f"LABEL_{i}" for i in range(num_classes))


def _settings(config: Config, **fixed: Any) -> Settings:
    for key in ("num_self_attention_heads", "num_cross_attention_heads", "num_blocks"):
        if not isinstance(config[key], int) or config[key] < 1:
            raise UserError(f"config.json has {key}={config[key]!r}, but needs an integer above 0.")
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
            f"config.json has hidden_act {activation!r}; this project supports {listing(GELUS)}."
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
"""Settings that a `config.json` may omit, with their defaults as documented by transformers."""

GELUS = {"gelu": True, "gelu_pytorch_tanh": False, "gelu_new": False}
"""Whether GELU is exact, by the name of the activation in a `config.json`."""

SECTIONS: dict[str, Callable[[Arrays, Config], Section]] = {
    "PerceiverForMaskedLM": _masked_lm_section,
    "PerceiverForSequenceClassification": _text_classifier_section,
    "PerceiverForImageClassificationLearned": _learned_section,
    "PerceiverForImageClassificationFourier": _image_section,
    "PerceiverForImageClassificationConvProcessing": partial(_image_section, pytorch_padding=True),
    "PerceiverForOpticalFlow": _flow_section,
    "PerceiverForMultimodalAutoencoding": _autoencoder_section,
}
"""For each architecture, a function from arrays under our names and `config.json` to a section."""
