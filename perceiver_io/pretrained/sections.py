"""Config sections of published models: sizes are read off the arrays, the rest is as published.

Each function returns a section like `config.model`, for `models.architectures.build`. `arrays` are
a file's arrays under our flat names (`mapping.renamed`).
"""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from perceiver_io.config.annotations import Size
from perceiver_io.config.construct import listing, nearest
from perceiver_io.errors import UserError
from perceiver_io.pretrained.blocks import STACK
from perceiver_io.pretrained.mapping import Arrays

Section = dict[str, Any]


class Settings(NamedTuple):
    """Settings that cannot be read off the arrays.

    num_heads: number of heads in the latent stack.
    num_cross_heads: number of heads in the encoder's cross-attend.
    num_decoder_heads: number of heads in the decoder's cross-attend.
    num_blocks: how often the latent stack is applied.
    use_query_residual: `use_query_residual` of the decoder's cross-attend.
    use_latent_residual: `use_query_residual` of the encoder's cross-attend.
    attention_dropout: rate in training, for every attention.
    exact_gelu: as in `models.settings.BlockSettings`.
    """

    num_heads: int
    num_cross_heads: int = 1
    num_decoder_heads: int = 1
    num_blocks: int = 1
    use_query_residual: bool = False
    use_latent_residual: bool = True
    attention_dropout: float = 0.0
    exact_gelu: bool = False


def image_classifier(
    arrays: Arrays, settings: Settings, image_size: Size | None, **stem: Any
) -> Section:
    """Image classification with raw pixels, a 1x1 convolution or a convolutional stem.

    `image_size` may be None for learned positions, whose number gives the size of square images.
    `stem` are further settings of a convolutional stem.
    """
    width = _shape(arrays, "encoder/cross_attend/norm_inputs/scale")[0]
    if "params/conv_stem/conv/w" in arrays:
        channels = _shape(arrays, "conv_stem/conv/w")[-1]
        bands = _bands(width - channels, axes=2)
        inputs = dict(name="conv_features", channels=channels, num_bands=bands, **stem)
    elif "params/conv_1x1/w" in arrays:
        side = math.isqrt(_shape(arrays, "positions/embeddings")[0])
        image_size = image_size or (side, side)
        inputs = dict(name="learned_pixels", channels=_shape(arrays, "conv_1x1/w")[-1])
    else:
        inputs = dict(name="fourier_pixels", num_bands=_bands(width - 3, axes=2))
    return dict(
        name="perceiver_io_classifier",
        num_classes=_shape(arrays, "decoder/logits/b")[0],
        inputs=dict(inputs, image_size=image_size),
        **_core(arrays, settings),
    )


def masked_lm(arrays: Arrays, settings: Settings) -> Section:
    """Masked language modelling."""
    return dict(name="perceiver_io_masked_lm", **_text(arrays), **_core(arrays, settings))


def text_classifier(arrays: Arrays, settings: Settings) -> Section:
    """Text classification."""
    return dict(
        name="perceiver_io_text_classifier",
        num_classes=_shape(arrays, "decoder/logits/b")[0],
        **_text(arrays),
        **_core(arrays, settings),
    )


def flow(arrays: Arrays, settings: Settings, image_size: Size) -> Section:
    """Optical flow."""
    neighbourhood, _, _, channels = _shape(arrays, "frame_pairs/conv/w")
    width = _shape(arrays, "encoder/cross_attend/norm_inputs/scale")[0]
    return dict(
        name="perceiver_io_flow",
        image_size=image_size,
        neighbourhood=neighbourhood,
        channels=channels,
        num_bands=_bands(width - channels, axes=2),
        **_core(arrays, settings),
    )


def autoencoder(
    arrays: Arrays,
    settings: Settings,
    *,
    video_shape: tuple[int, int, int],
    resolution: tuple[int, int, int],
    num_samples: int,
) -> Section:
    """Autoencoding of video, audio and label.

    Args:
        arrays: the model's arrays.
        settings: settings that cannot be read off the arrays.
        video_shape: frames, height and width.
        resolution: resolution of the Fourier positions along these axes.
        num_samples: number of audio samples that accompany the frames.
    """
    query_width = _shape(arrays, "decoder/cross_attend/norm_queries/scale")[0]
    input_width = _shape(arrays, "encoder/cross_attend/norm_inputs/scale")[0]
    positions = {
        name: query_width - _shape(arrays, f"{name}_query_padding/embeddings")[0]
        for name in ("audio", "image")
    }
    pixels = input_width - _shape(arrays, "image_padding/embeddings")[0] - positions["image"]
    side = math.isqrt(pixels // 3)
    return dict(
        name="perceiver_io_autoencoder",
        image=dict(
            shape=video_shape,
            patch_size=(side, side),
            resolution=resolution,
            num_bands=_bands(positions["image"], axes=3),
        ),
        audio=dict(
            num_samples=num_samples,
            samples_per_patch=_shape(arrays, "decoder/audio_values/b")[0],
            num_bands=_bands(positions["audio"], axes=1),
        ),
        label=dict(
            num_classes=_shape(arrays, "decoder/label_logits/b")[0],
            query_dim=_shape(arrays, "label_query/embeddings")[1],
        ),
        output_dim=_shape(arrays, "decoder/output/b")[0],
        **_core(arrays, settings),
    )


def check_settings(section: Callable[..., Section], settings: Mapping[str, Any]) -> None:
    """Raises UserError for settings that `section` does not take, or that have invalid values."""
    known = list(inspect.signature(section).parameters)[1:]
    for name, value in settings.items():
        if name not in known:
            raise UserError(
                f"{name} is not a setting of this model{nearest(name, known)}. Its settings are "
                f"{listing(known)}; all other sizes are in the file."
            )
        wanted = 2 if name in ("image_size", "resolution") else 1
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) != wanted or any(type(x) is not int or x < 1 for x in numbers):
            form = "(HEIGHT,WIDTH)" if wanted == 2 else "a number"
            raise UserError(f"{name}={value!r} must be {form} of at least 1.")


def _core(arrays: Arrays, settings: Settings) -> Section:
    """Encoder and decoder."""
    num_latents, latent_dim = _shape(arrays, "encoder/latents")
    stack = STACK.removeprefix("params/")
    encoder = dict(
        num_latents=num_latents,
        latent_dim=latent_dim,
        num_blocks=settings.num_blocks,
        cross_attend=dict(
            num_heads=settings.num_cross_heads,
            use_query_residual=settings.use_latent_residual,
            **_widths(arrays, "encoder/cross_attend", settings),
        ),
        latent_stack=dict(
            num_layers=_shape(arrays, f"{stack}/mlp/norm/scale")[0],
            num_heads=settings.num_heads,
            remat="all",
            **_widths(arrays, stack, settings),
        ),
    )
    cross_attend = dict(
        num_heads=settings.num_decoder_heads,
        use_query_residual=settings.use_query_residual,
        **_widths(arrays, "decoder/cross_attend", settings),
    )
    return dict(encoder=encoder, decoder=dict(cross_attend=cross_attend))


def _widths(arrays: Arrays, block: str, settings: Settings) -> Section:
    width, hidden = _shape(arrays, f"{block}/mlp/hidden/w")[-2:]
    return dict(
        qk_dim=_shape(arrays, f"{block}/attention/key/b")[-1],
        v_dim=_shape(arrays, f"{block}/attention/value/b")[-1],
        widening=hidden // width,
        exact_gelu=settings.exact_gelu,
        attention_dropout=settings.attention_dropout,
    )


def _text(arrays: Arrays) -> Section:
    vocab_size, embedding_dim = _shape(arrays, "embeddings/embeddings")
    max_length = _shape(arrays, "positions/embeddings")[0]
    return dict(vocab_size=vocab_size, max_length=max_length, embedding_dim=embedding_dim)


def _bands(width: int, axes: int) -> int:
    """The number of Fourier bands in positions of this width (coordinates, sines and cosines)."""
    bands, rest = divmod(width - axes, 2 * axes)
    if rest or bands < 1:
        raise UserError(
            f"The model has {width} channels for the Fourier positions of {axes} axes, which is "
            f"not {axes} * (2 * bands + 1): its arrays are not those of a published model."
        )
    return bands


def _shape(arrays: Arrays, name: str) -> tuple[int, ...]:
    return arrays[f"params/{name}"].shape
