"""How inputs are prepared for published weights, as a dataset's `for_prediction` tells of a run.

A folder of Hugging Face says it in the file of its image processor or of its tokenizer.
"""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from perceiver_io.config.annotations import Finite, Fraction, Length, Positive, Side, Width
from perceiver_io.config.construct import SettingError, check, entries
from perceiver_io.config.imagenet import IMAGENET
from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.safetensors_files import read_json
from perceiver_io.pretrained.huggingface import Config
from perceiver_io.pretrained.sections import Section

Preparation = Mapping[str, Any]

_IMAGE_PROCESSOR = "preprocessor_config.json"
_TOKENIZER = "tokenizer_config.json"
# By transformers' numbers, which are those of Pillow.
_RESAMPLING = {2: "bilinear", 3: "bicubic"}
_SPECIAL_TOKENS = ("pad", "bos", "eos", "mask", "cls", "sep")
_LEFT_OUT: Any = None
_PUBLISHED_FRAME_RATE = 25


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """The types and limits of entries that are common to several datasets, all of them optional."""

    normalization: tuple[tuple[Finite, ...], tuple[Positive, ...]] | None = None
    class_names: tuple[str, ...] | None = None
    image_shape: tuple[Side, Side, Side] = _LEFT_OUT
    mean: tuple[Finite, ...] = _LEFT_OUT
    std: tuple[Positive, ...] = _LEFT_OUT
    evaluation_crop: Fraction = _LEFT_OUT
    resample: Literal["bilinear", "bicubic"] = _LEFT_OUT
    whole_pixels: bool = _LEFT_OUT
    max_length: Length = _LEFT_OUT
    special_tokens: bool = _LEFT_OUT
    too_long: Literal["crop", "refuse"] = _LEFT_OUT
    columns: tuple[str, ...] = _LEFT_OUT
    max_words: Length = _LEFT_OUT
    score_mean: Finite = _LEFT_OUT
    score_std: Positive = _LEFT_OUT
    frame_rate: Width = _LEFT_OUT
    sound_can_be_missing: bool = _LEFT_OUT


def checked(given: Any, where: str, remedy: str) -> dict[str, Any]:
    """A preparation that was read from a file, with its `normalization` and `class_names`.

    Args:
        given: what was read.
        where: the file, for errors.
        remedy: what to do about errors, as a sentence.

    Raises UserError for an entry of the wrong type or beyond its limits, and if `mean` and `std`
    are not those of `normalization`.
    """
    try:
        kept = entries(given, "preparation")
        names = {field.name for field in dataclasses.fields(Prepared)} & kept.keys()
        check(Prepared, {name: kept[name] for name in names}, "preparation")
    except SettingError as error:
        raise UserError(f"{where} is damaged: {error.problem}. {remedy}") from error
    numbers = (kept["mean"], kept.get("std")) if "mean" in kept else None
    # Older runs store only mean and std.
    if kept.setdefault("normalization", numbers) != numbers and numbers is not None:
        raise UserError(
            f"{where} is damaged: mean and std are {numbers}, but normalization is "
            f"{kept['normalization']}. {remedy}"
        )
    return {"class_names": None, **kept}


def default(model: Section) -> Preparation:
    """Of weights that do not tell: images as for ImageNet, plain texts, 25 frames per second.

    Args:
        model: their config section.
    """
    if _file_of(model) == _IMAGE_PROCESSOR:
        return dict(
            IMAGENET,
            image_shape=(*model["inputs"]["image_size"], 3),
            normalization=(IMAGENET["mean"], IMAGENET["std"]),
        )
    if _file_of(model) == _TOKENIZER:
        return dict(max_length=model["max_length"], special_tokens=False, normalization=None)
    if model["name"] == "perceiver_io_autoencoder":
        # The paper hides labels only: the mask tokens of sound are as they were initialised.
        return dict(
            frame_rate=_PUBLISHED_FRAME_RATE, sound_can_be_missing=False, normalization=None
        )
    return dict(normalization=None)


def read(folder: Path, model: Section) -> Preparation:
    """What a folder's file says; where it is missing, the default.

    Raises UserError where this project prepares nothing in this way, naming the setting.
    """
    file = _file_of(model)
    if file is None or not (folder / file).exists():
        return default(model)
    reader = _read_image if file == _IMAGE_PROCESSOR else _read_text
    return reader(read_json(folder / file), str(folder / file))


def of_timm(config: Config, where: str) -> Preparation:
    """What the `config.json` of timm says in `pretrained_cfg`.

    Raises UserError where this project prepares nothing in this way, naming the setting.
    """
    content = config["pretrained_cfg"]
    if content.get("crop_mode", "center") != "center":
        raise _other(where, "crop_mode", content["crop_mode"], "'center'")
    if content.get("interpolation") not in _RESAMPLING.values():
        raise _other(where, "interpolation", content.get("interpolation"), "bilinear or bicubic")
    channels, *size = content["input_size"]
    mean, std = (tuple(_channels(content, name, where)) for name in ("mean", "std"))
    prepared = dict(
        image_shape=(*size, channels),
        mean=mean,
        std=std,
        evaluation_crop=content["crop_pct"],
        resample=content["interpolation"],
        normalization=(mean, std),
    )
    return checked(prepared, where, "Download it again.")


def files(model: Section, preparation: Preparation) -> dict[str, dict[str, Any]]:
    """The file that tells transformers how inputs of a model are prepared, as JSON by its name."""
    file = _file_of(model)
    if file is None:
        return {}
    return {file: _image_processor(preparation) if file == _IMAGE_PROCESSOR else _tokenizer(model)}


def _file_of(model: Section) -> str | None:
    if "inputs" in model:
        return _IMAGE_PROCESSOR
    return _TOKENIZER if "vocab_size" in model else None


def _tokenizer(model: Section) -> dict[str, Any]:
    return dict(
        tokenizer_class="PerceiverTokenizer",
        model_max_length=model["max_length"],
        **{f"{name}_token": f"[{name.upper()}]" for name in _SPECIAL_TOKENS},
    )


def _image_processor(preparation: Preparation) -> dict[str, Any]:
    numbers = {name: number for number, name in _RESAMPLING.items()}
    height, width, _ = preparation["image_shape"]
    fraction = preparation["evaluation_crop"]
    return dict(
        image_processor_type="PerceiverImageProcessor",
        do_center_crop=True,
        crop_size={"height": _crop_size(height, fraction), "width": _crop_size(width, fraction)},
        do_resize=True,
        size={"height": height, "width": width},
        resample=numbers[preparation["resample"]],
        do_rescale=True,
        rescale_factor=1 / 255,
        do_normalize=True,
        image_mean=list(preparation["mean"]),
        image_std=list(preparation["std"]),
    )


def _crop_size(side: int, fraction: float) -> float:
    """What transformers divides the side by, to get the fraction or hardly more.

    A hair less would cut off a pixel where the fraction of an image's side is a whole number.
    """
    size = side / fraction
    return int(size) if size.is_integer() else size * (1 - 1e-12)


def _read_image(content: Config, where: str) -> Preparation:
    kind = content.get("image_processor_type", content.get("feature_extractor_type"))
    if not str(kind).startswith("Perceiver"):
        raise _other(where, "image_processor_type", kind, "PerceiverImageProcessor")
    for name in ("do_resize", "do_center_crop"):
        if content.get(name, True) is not True:
            raise _other(where, name, content[name], "true")
    if content.get("resample") not in _RESAMPLING:
        raise _other(where, "resample", content.get("resample"), "2 (bilinear) or 3 (bicubic)")
    size, crop_size = (_square(content, name, where) for name in ("size", "crop_size"))
    if crop_size < size:
        raise _other(where, "crop_size", crop_size, f"{size} or more, the size of the result")
    # Pixels times the factor are normalised there, pixels over 255 here.
    scale = 255 * _factor(content, where)
    mean, std = ([0.0] * 3, [1.0] * 3)
    if content.get("do_normalize", True):
        mean, std = (_channels(content, name, where) for name in ("image_mean", "image_std"))
    normalization = tuple(x / scale for x in mean), tuple(x / scale for x in std)
    return dict(
        image_shape=(size, size, 3),
        mean=normalization[0],
        std=normalization[1],
        evaluation_crop=size / crop_size,
        resample=_RESAMPLING[content["resample"]],
        whole_pixels=True,
        normalization=normalization,
    )


def _square(content: Config, name: str, where: str) -> Any:
    """The side of a square, which old files give as one number."""
    given = content.get(name)
    sides: list[Any] = (
        [given.get("height"), given.get("width")] if isinstance(given, Mapping) else [given]
    )
    if sides[0] != sides[-1] or not _is_number(sides[0]) or sides[0] < 1:
        raise _other(where, name, given, "a number of pixels that is both height and width")
    return sides[0]


def _factor(content: Config, where: str) -> float:
    if not content.get("do_rescale", True):
        return 1.0
    factor = content.get("rescale_factor", 1 / 255)
    if not _is_number(factor) or factor <= 0:
        raise _other(where, "rescale_factor", factor, "a number above 0")
    return factor


def _channels(content: Config, name: str, where: str) -> list[float]:
    given = content.get(name)
    if not isinstance(given, list) or len(given) != 3 or not all(map(_is_number, given)):
        raise _other(where, name, given, "three numbers")
    return given


def _read_text(content: Config, where: str) -> Preparation:
    kind, longest = content.get("tokenizer_class"), content.get("model_max_length", 2048)
    if kind != "PerceiverTokenizer":
        raise _other(where, "tokenizer_class", kind, "PerceiverTokenizer")
    if not _is_number(longest) or longest < 3:
        raise _other(where, "model_max_length", longest, "a number of at least 3")
    return dict(max_length=int(longest), special_tokens=True, normalization=None)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _other(where: str, name: str, found: Any, wanted: str) -> UserError:
    return UserError(
        f"{where} has {name} {found!r}, but this project prepares inputs only with {wanted}: "
        "correct the file, or prepare arrays yourself for the model of "
        "`perceiver_io.pretrained.published.load`."
    )
