"""Converts the config section of a model to the `config.json` of transformers.

Some sizes are fixed in the code of transformers; models with other sizes cannot be exported.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from perceiver_io.config.construct import listing
from perceiver_io.errors import UserError
from perceiver_io.pretrained.huggingface import GELUS, SECTIONS, Config, placeholder_names
from perceiver_io.pretrained.mapping import Arrays
from perceiver_io.pretrained.sections import Section


class Export(NamedTuple):
    """How to export to an architecture of transformers.

    model: the corresponding builder and, for image classifiers, its inputs.
    config: function from a config section to the part of `config.json` specific to the
        architecture.
    fixed: sizes for which transformers has no setting, by their path in the section.
    """

    model: tuple[str, str | None]
    config: Callable[[Section], Config]
    fixed: Config


def to_config(model: Section, arrays: Arrays, class_names: tuple[str, ...] | None) -> Config:
    """The `config.json` of a model of ours.

    Args:
        model: the model's config section.
        arrays: the model's arrays by flat name.
        class_names: the class names of a classifier; None numbers the classes.

    Raises UserError if transformers has no such model, naming the settings that differ.
    """
    name = _architecture_of(model)
    config = _core_config(name, model) | dict(EXPORTS[name].config(model))
    count = model.get("num_classes") or model.get("label", {}).get("num_classes")
    if count:
        labels = class_names or placeholder_names(count)
        config["id2label"] = {str(i): label for i, label in enumerate(labels)}
        config["label2id"] = {label: i for i, label in enumerate(labels)}
    stated = SECTIONS[name](arrays, config)
    input_dim = arrays["params/encoder/cross_attend/norm_inputs/scale"].shape[0]
    config |= _attention_channels(stated, input_dim)
    wrong = [
        *_differences(stated, model, "model"),
        *_unfit_widths(stated, config, input_dim),
        *(
            f"model.{key} is {found}, but must be {wanted}"
            for key, wanted in EXPORTS[name].fixed.items()
            if (found := _entry(stated, key)) != wanted
        ),
    ]
    if wrong:
        raise UserError(
            f"transformers' {name} cannot represent this model: {'; '.join(wrong)}. "
            "--layout=portable writes a folder for this project."
        )
    return config


def _architecture_of(model: Section) -> str:
    key = model["name"], model["inputs"]["name"] if "inputs" in model else None
    names = {export.model: name for name, export in EXPORTS.items()}
    if key not in names:
        known = [f"{builder} with {inputs}" if inputs else builder for builder, inputs in names]
        raise UserError(
            f"transformers has no counterpart of {key[0]}{f' with {key[1]}' if key[1] else ''}. "
            f"It has those of {listing(known)}. --layout=portable "
            "writes a folder for this project."
        )
    return names[key]


def _core_config(name: str, model: Section) -> dict[str, Any]:
    """The settings of latents, encoder and latent stack."""
    encoder = model["encoder"]
    stack, cross = encoder["latent_stack"], encoder["cross_attend"]
    names_of_gelu = {exact: activation for activation, exact in reversed(GELUS.items())}
    return dict(
        architectures=[name],
        model_type="perceiver",
        attention_probs_dropout_prob=stack.get("attention_dropout", 0.0),
        num_latents=encoder["num_latents"],
        d_latents=encoder["latent_dim"],
        num_blocks=encoder["num_blocks"],
        num_self_attends_per_block=stack["num_layers"],
        num_self_attention_heads=stack["num_heads"],
        num_cross_attention_heads=cross["num_heads"],
        self_attention_widening_factor=int(stack.get("widening", 1)),
        cross_attention_widening_factor=int(cross.get("widening", 1)),
        use_query_residual=cross["use_query_residual"],
        hidden_act=names_of_gelu[stack.get("exact_gelu", False)],
    )


def _attention_channels(stated: Section, input_dim: int) -> Config:
    """Widths of attention; None where they equal the defaults of transformers."""
    encoder = stated["encoder"]
    stack, cross = encoder["latent_stack"], encoder["cross_attend"]
    own_qk = (cross["qk_dim"], stack["qk_dim"]) == (input_dim, encoder["latent_dim"])
    own_v = (cross["v_dim"], stack["v_dim"]) == (cross["qk_dim"], stack["qk_dim"])
    return dict(
        qk_channels=None if own_qk else stack["qk_dim"],
        v_channels=None if own_v else stack["v_dim"],
    )


def _unfit_widths(stated: Section, config: Config, input_dim: int) -> Iterator[str]:
    """Describes the widths of attention that transformers cannot be configured to."""
    latent_dim = stated["encoder"]["latent_dim"]
    # The decoder of a masked language model has values as wide as the embeddings.
    v_dim = stated.get("embedding_dim") if stated["name"] == "perceiver_io_masked_lm" else None
    qk_channels, v_channels = config["qk_channels"], config["v_channels"]
    qk_dims = {
        "encoder.cross_attend": qk_channels or input_dim,
        "encoder.latent_stack": qk_channels or latent_dim,
        _DECODER: _MASKED_LM_QK if v_dim else latent_dim,
    }
    for block, qk_dim in qk_dims.items():
        own_v = (v_dim or latent_dim) if block == _DECODER else (v_channels or qk_dim)
        for key, wanted in (("qk_dim", qk_dim), ("v_dim", own_v)):
            found = _entry(stated, f"{block}.{key}")
            if found != wanted:
                yield f"model.{block}.{key} is {found}, but must be {wanted}"


def _differences(stated: Section, model: Section, where: str) -> Iterator[str]:
    """Describes where a model differs from the section that its arrays and config.json give."""
    for key, only in (("norm", "pre"), ("image_channels", 3)):
        if model.get(key, only) != only:
            yield f"{where}.{key} is {model[key]}, but must be {only}"
    for key, value in stated.items():
        found = model.get(key)
        if isinstance(value, Mapping) and found is not None:
            yield from _differences(value, found, f"{where}.{key}")
        elif key in ("use_query_residual", "exact_gelu", "pytorch_padding"):
            if bool(found) != value:
                yield f"{where}.{key} is {bool(found)}, but must be {value}"
        elif found is not None and key not in _COMPUTATION and found != value:
            yield f"{where}.{key} is {found}, but must be {value}"


def _entry(section: Section, key: str) -> Any:
    for part in key.split("."):
        section = section[part]
    return section


def _text_config(model: Section) -> Config:
    return dict(
        vocab_size=model["vocab_size"],
        max_position_embeddings=model["max_length"],
        d_model=model["embedding_dim"],
    )


def _image_config(model: Section) -> Config:
    return dict(image_size=model["inputs"]["image_size"][0])


def _flow_config(model: Section) -> Config:
    return dict(train_size=list(model["image_size"]))


def _autoencoder_config(model: Section) -> Config:
    image, audio = model["image"], model["audio"]
    frames = image["shape"][0]
    return dict(
        num_frames=frames,
        image_size=image["resolution"][1],
        output_shape=[1, *image["shape"]],
        audio_samples_per_frame=audio["num_samples"] // frames,
        samples_per_patch=audio["samples_per_patch"],
        output_num_channels=model["output_dim"],
        _label_trainable_num_channels=model["label"]["query_dim"],
    )


_DECODER = "decoder.cross_attend"
_MASKED_LM_QK = 256
# PerceiverTokenizer, the only one there, reads bytes.
_NUM_BYTE_IDS = 262
_COMPUTATION = ("query_chunk_size", "remat", "attention", "compute_dtype")

EXPORTS = {
    "PerceiverForMaskedLM": Export(
        ("perceiver_io_masked_lm", None),
        _text_config,
        {"vocab_size": _NUM_BYTE_IDS, f"{_DECODER}.widening": 1},
    ),
    "PerceiverForSequenceClassification": Export(
        ("perceiver_io_text_classifier", None),
        _text_config,
        {"vocab_size": _NUM_BYTE_IDS, f"{_DECODER}.widening": 1},
    ),
    "PerceiverForImageClassificationLearned": Export(
        ("perceiver_io_classifier", "learned_pixels"),
        _image_config,
        {"inputs.channels": 256, f"{_DECODER}.widening": 1},
    ),
    "PerceiverForImageClassificationFourier": Export(
        ("perceiver_io_classifier", "fourier_pixels"),
        _image_config,
        {"inputs.num_bands": 64, f"{_DECODER}.widening": 1},
    ),
    "PerceiverForImageClassificationConvProcessing": Export(
        ("perceiver_io_classifier", "conv_features"),
        _image_config,
        {"inputs.channels": 64, "inputs.num_bands": 64, f"{_DECODER}.widening": 1},
    ),
    "PerceiverForOpticalFlow": Export(
        ("perceiver_io_flow", None),
        _flow_config,
        {"neighbourhood": 3, "channels": 64, "num_bands": 64, f"{_DECODER}.widening": 1},
    ),
    "PerceiverForMultimodalAutoencoding": Export(
        ("perceiver_io_autoencoder", None),
        _autoencoder_config,
        {
            "image.patch_size": (4, 4),
            "image.num_bands": 32,
            "audio.num_bands": 192,
            f"{_DECODER}.widening": 1,
        },
    ),
}
"""How to export to each architecture of transformers, by its name."""
