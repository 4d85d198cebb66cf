"""Decoding and cropping."""

import functools
import io
import itertools
import pathlib
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from perceiver_io.data.vision import crop
from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.errors import UserError

FILES = pathlib.Path(__file__).parents[2] / "files"


def encode(pixels, file_format="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format, **options)
    return file.getvalue()


def gradient(width, height):
    """Smooth colours, so that scaled decoding and resizing agree closely."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def whole(width, height):
    return 0, 0, width, height


def test_random_boxes_lie_inside_and_keep_area_and_aspect():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(500):
        left, upper, right, lower = crop.random_box(
            300, 200, area=(0.1, 0.9), aspect=(0.5, 2.0), rng=rng
        )
        assert 0 <= left < right <= 300
        assert 0 <= upper < lower <= 200
        assert 0.48 < (right - left) / (lower - upper) < 2.08  # rounded to whole pixels
        shares.append((right - left) * (lower - upper) / (300 * 200))
    assert 0.09 < min(shares) < 0.15
    assert 0.8 < max(shares) < 0.91


def test_a_random_box_that_cannot_fit_becomes_the_largest_central_one():
    rng = np.random.default_rng(0)
    box = crop.random_box(100, 10, area=(1, 1), aspect=(1, 1), rng=rng)
    assert box == (45, 0, 55, 10)


@pytest.mark.parametrize(
    "size, fraction, aspect, expected",
    [
        ((100, 50), 1.0, 1.0, (25, 0, 75, 50)),
        ((50, 100), 0.5, 1.0, (12.5, 37.5, 37.5, 62.5)),
        ((256, 256), 224 / 256, 1.0, (16, 16, 240, 240)),
        ((100, 100), 1.0, 2.0, (0, 25, 100, 75)),
    ],
)
def test_central_box(size, fraction, aspect, expected):
    assert crop.central_box(*size, fraction=fraction, aspect=aspect) == expected


def test_a_lossless_image_at_its_own_size_is_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = crop.decode_crop(encode(pixels), name="x", choose_box=whole, size=(20, 30))
    np.testing.assert_array_equal(np.asarray(image), pixels)
    part = crop.decode_crop(
        encode(pixels), name="x", choose_box=lambda w, h: (5, 4, 15, 12), size=(8, 10)
    )
    np.testing.assert_array_equal(np.asarray(part), pixels[4:12, 5:15])


@pytest.mark.parametrize("box", [(0, 0, 640, 480), (101, 53, 503, 401), (320, 240, 352, 272)])
def test_scaled_jpeg_decoding_shows_the_same_as_full_decoding(box):
    pixels = gradient(640, 480)
    data = encode(pixels, "JPEG", quality=95)
    image = crop.decode_crop(data, name="x", choose_box=lambda w, h: box, size=(32, 32))
    expected = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR, box=box)
    difference = np.asarray(image, int) - np.asarray(expected, int)
    assert abs(difference).max() <= 6
    assert abs(difference.mean()) < 1


# Boxes as large as the image, whose edges are rounded quotients.
TOUCHING = {
    "square": functools.partial(crop.central_box, fraction=1.0, aspect=1.0),
    "wide": functools.partial(crop.central_box, fraction=1.0, aspect=16 / 9),
    "tall": functools.partial(crop.central_box, fraction=1.0, aspect=5 / 9),
    "whole": functools.partial(
        crop.random_box, area=(1, 1), aspect=(3 / 4, 4 / 3), rng=np.random.default_rng(0)
    ),
}


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
@pytest.mark.parametrize("choose_box", TOUCHING.values(), ids=TOUCHING)
def test_boxes_that_touch_the_border_stay_inside(choose_box, file_format):
    sides = (3, 5, 15, 61, 119, 123, 200, 241, 248)
    for width, height in itertools.product(sides, sides):
        data = encode(np.zeros((height, width, 3), np.uint8), file_format)
        image = crop.decode_crop(data, name="x", choose_box=choose_box, size=(9, 16))
        assert image.size == (16, 9)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode):
    file = io.BytesIO()
    Image.fromarray(gradient(20, 20)).convert(mode).save(file, "TIFF")
    image = crop.decode_crop(file.getvalue(), name="x", choose_box=whole, size=(10, 12))
    assert image.mode == "RGB"
    assert image.size == (12, 10)


GRAY = gradient(20, 15)[..., 0]
WIDE = {
    "float": (GRAY / 255).astype(np.float32),
    "int32 of 8 bits": GRAY.astype(np.int32),
    "int32 of 16 bits": GRAY.astype(np.int32) * 257,
    "uint16": GRAY.astype(np.uint16) * 257,
}


@pytest.mark.parametrize("pixels", WIDE.values(), ids=WIDE)
def test_values_of_more_than_8_bits_are_scaled(pixels, tmp_path):
    (tmp_path / "a.tif").write_bytes(encode(pixels, "TIFF"))
    expected = np.repeat(GRAY[..., None], 3, axis=-1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
    data = (tmp_path / "a.tif").read_bytes()
    image = crop.decode_crop(data, name="x", choose_box=whole, size=GRAY.shape)
    np.testing.assert_array_equal(np.asarray(image), expected)


def tiff_of_12_bits(pixels):
    """A grey TIFF of one strip, whose rows are padded to whole bytes."""
    height, width = pixels.shape
    padding = "0" * (-12 * width % 8)
    bits = "".join("".join(f"{value:012b}" for value in row) + padding for row in pixels)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 8, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory


def test_white_is_4095_in_a_tiff_of_12_bits():
    data = tiff_of_12_bits(GRAY.astype(int) * 16 + 15)
    image = crop.decode_crop(data, name="x", choose_box=whole, size=GRAY.shape)
    np.testing.assert_array_equal(np.asarray(image), np.repeat(GRAY[..., None], 3, axis=-1))


def test_a_dark_pgm_of_16_bits_stays_dark(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5\n20 15\n65535\n" + GRAY.astype(">u2").tobytes())
    assert not read_image(tmp_path / "a.pgm").any()


@pytest.mark.parametrize(
    "dtype, values, message",
    [
        (np.float32, (0, 255), "floats range from 0 to 255, not from 0 .* at most 1 "),
        (np.float32, (-0.5, 1), "floats range from -0.5 to 1"),
        (np.float32, (0, np.nan), "floats range from nan to nan"),
        (np.int32, (0, 70_000), "integers range from 0 to 70000, .* at most 65535 "),
        (np.int32, (-1, 255), "integers range from -1 to 255"),
    ],
)
def test_values_without_a_known_white_are_named(dtype, values, message):
    data = encode(np.array([values], dtype), "TIFF")
    with pytest.raises(UserError, match=f"Cannot decode image x: its {message}"):
        crop.decode_crop(data, name="x", choose_box=whole, size=(8, 8))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF"])
def test_photographs_are_rotated_upright(orientation, file_format):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = gradient(96, 64)
    data = encode(stored, file_format, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    width, height = (64, 96) if 5 <= orientation <= 8 else (96, 64)
    assert upright.size == (width, height)

    def left_half(*size):
        assert size == (width, height)
        return 0, 0, width / 2, height

    size = (height // 4, width // 8)
    image = crop.decode_crop(data, name="x", choose_box=left_half, size=size)
    expected = upright.resize(size[::-1], Image.Resampling.BILINEAR, left_half(*upright.size))
    assert abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 16


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        encode(gradient(64, 64), "JPEG")[:300],
        encode(gradient(9, 9))[:60],
        (FILES / "damaged.avif").read_bytes(),
    ],
)
def test_a_corrupt_image_is_named(data):
    with pytest.raises(UserError, match="Cannot decode image cats/7.jpg") as raised:
        crop.decode_crop(data, name="cats/7.jpg", choose_box=whole, size=(8, 8))
    assert "<" not in str(raised.value)  # no BytesIO
