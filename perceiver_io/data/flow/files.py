"""The file formats of optical flow benchmarks: .flo (Middlebury), 16-bit PNG (KITTI) and PFM.

Sources: Baker et al., "A Database and Evaluation Methodology for Optical Flow" (2011), its README;
the development kit of KITTI (Geiger et al., 2012); the Portable Float Map of P. Debevec.
"""

import math
import os
import pathlib
import struct
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt16

from perceiver_io.data.video.decoding import import_av
from perceiver_io.errors import UserError

MAX_SIDE = 32_768
UNKNOWN_FLOW = 1e9  # components beyond it mean: not known

_FLO_MAGIC = b"PIEH"  # the bytes of the float32 number 202021.25
_FLO_UNKNOWN = 1e10
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_SCALE = 64
_PNG_ZERO = 32_768
_KITTI_RANGE = (-_PNG_ZERO / _PNG_SCALE, (65_535 - _PNG_ZERO) / _PNG_SCALE)
_PFM_CHANNELS = {b"Pf": 1, b"PF": 3}


class Flow(NamedTuple):
    """Optical flow: the displacement in pixels from each pixel of a frame to the next frame.

    Attributes:
        flow: u (to the right) and v (down); 0 where it is not known.
        valid: where the flow is known.
    """

    flow: Float32[np.ndarray, "H W 2"]
    valid: Bool[np.ndarray, "H W"]


def read_flow(path: str | os.PathLike[str]) -> Flow:
    """Reads .flo, .png (KITTI) or .pfm (u and v in the first two of 3 channels), by file extension.

    Raises UserError when the file is missing, damaged, or not flow in that format.
    """
    path = pathlib.Path(path)
    readers = {".flo": read_flo, ".png": read_kitti_png, ".pfm": _read_pfm_flow}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path} must end in one of {', '.join(readers)} to be read as flow.")
    return readers[path.suffix.lower()](path)


def read_flo(path: str | os.PathLike[str]) -> Flow:
    """Reads a .flo file: dense flow, where components beyond 1e9 mean unknown.

    Raises UserError when the file is missing, damaged, or not a .flo file.
    """
    data = _read(path)
    if data[:4] != _FLO_MAGIC:
        raise UserError(f"{path} begins with {data[:4]!r}, not {_FLO_MAGIC!r}: not a .flo file.")
    if len(data) < 12:
        raise UserError(f"{path} has {len(data)} bytes; the header of a .flo file has 12.")
    width, height = struct.unpack_from("<ii", data, 4)
    _check_size(path, height, width)
    values = _float_values(path, data[12:], (height, width, 2), "<f4")
    if np.isnan(values).any():
        raise UserError(f"{path} has {np.isnan(values).sum()} values that are not numbers (NaN).")
    return _known(values)


def write_flo(path: str | os.PathLike[str], flow: Flow) -> None:
    """Writes a .flo file atomically; unknown flow as 1e10.

    Raises UserError on valid flow that is not finite, and when the path cannot be written.
    """
    _check_flow(path, flow)
    values = np.where(flow.valid[..., None], flow.flow, np.float32(_FLO_UNKNOWN))
    height, width = flow.valid.shape
    header = _FLO_MAGIC + struct.pack("<ii", width, height)
    _write(path, header + values.astype("<f4").tobytes())


def read_kitti_png(path: str | os.PathLike[str]) -> Flow:
    """Reads a KITTI PNG: 3 channels of 16 bits, 64 u + 32768, 64 v + 32768 and whether known.

    Raises UserError when the file is missing, damaged, or another kind of PNG.
    """
    data = _read(path)
    if data[:8] != _PNG_MAGIC or len(data) < 26:
        raise UserError(f"{path} begins with {data[:8]!r}, not {_PNG_MAGIC!r}: not a PNG file.")
    width, height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if (depth, color) != (16, 2):
        raise UserError(
            f"{path} has {depth} bits and colour type {color}; KITTI flow is a PNG file with 16 "
            "bits and colour type 2 (RGB)."
        )
    _check_size(path, height, width)
    pixels = _decode_png(path, data)
    valid = pixels[..., 2] > 0
    flow = (pixels[..., :2].astype(np.float32) - _PNG_ZERO) / _PNG_SCALE
    return Flow(np.where(valid[..., None], flow, np.float32(0)), valid)


def within_kitti_range(flow: Float[np.ndarray, "H W 2"]) -> Float[np.ndarray, "H W 2"]:
    """Flow in pixels, clipped to the range of a KITTI PNG; non-finite values are kept."""
    return np.where(np.isfinite(flow), np.clip(flow, *_KITTI_RANGE), flow)


def write_kitti_png(path: str | os.PathLike[str], flow: Flow) -> None:
    """Writes a KITTI PNG atomically; flow is rounded to 1/64 pixel.

    Raises UserError on valid flow that is not finite or outside the range of 16 bits (-512 to
    511.98 pixels), and when the path cannot be written.
    """
    _check_flow(path, flow)
    codes = np.rint(np.where(flow.valid[..., None], flow.flow, 0) * _PNG_SCALE) + _PNG_ZERO
    if codes.min() < 0 or codes.max() > 65_535:
        raise UserError(
            f"Flow for {path} reaches {np.abs(flow.flow[flow.valid]).max():g} pixels; a KITTI PNG "
            "holds -512 to 511.98. Write a .flo file instead."
        )
    pixels = np.concatenate([codes, np.ones_like(codes[..., :1])], axis=-1).astype(np.uint16)
    pixels[~flow.valid] = 0
    _write(path, _encode_png(pixels))


def read_pfm(path: str | os.PathLike[str]) -> Float32[np.ndarray, "H W C"]:
    """Reads a PFM image with 1 or 3 channels, in either byte order; the first row is the top one.

    Raises UserError when the file is missing, damaged, or not a PFM file.
    """
    data = _read(path)
    # Three lines: the type, width and height, and a scale whose sign gives the byte order.
    fields = data.split(b"\n", 3)
    if len(fields) < 4 or fields[0].rstrip() not in _PFM_CHANNELS:
        raise UserError(
            f"{path} begins with {data[:16]!r}; a PFM file begins with PF or Pf and two more lines."
        )
    try:
        width, height = map(int, fields[1].split())
        scale = float(fields[2])
    except ValueError as error:
        raise UserError(
            f"{path}: the lines {fields[1][:40]!r} and {fields[2][:40]!r} should be the width and "
            "height, and the scale, of a PFM file."
        ) from error
    if not scale or not math.isfinite(scale):
        raise UserError(f"{path}: its scale is {scale}; it must be finite and not 0.")
    _check_size(path, height, width)
    shape = (height, width, _PFM_CHANNELS[fields[0].rstrip()])
    return _float_values(path, fields[3], shape, "<f4" if scale < 0 else ">f4")[::-1].copy()


def _read_pfm_flow(path: pathlib.Path) -> Flow:
    """Flow from a PFM file. NaN, which occurs in some files of FlyingThings3D, means not known."""
    image = read_pfm(path)
    if image.shape[-1] != 3:
        raise UserError(f"{path} has 1 channel; flow in a PFM file has 3, the first two u and v.")
    return _known(image[..., :2])


def _known(values: Float32[np.ndarray, "H W 2"]) -> Flow:
    valid = (np.abs(values) <= UNKNOWN_FLOW).all(axis=-1)
    return Flow(np.where(valid[..., None], values, np.float32(0)), valid)


def _check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise UserError(
            f"{path} claims to be {width} pixels wide and {height} high; expected 1 to "
            f"{MAX_SIDE}. The file is damaged or in another format."
        )


def _float_values(
    path: str | os.PathLike[str], data: bytes, shape: tuple[int, int, int], dtype: str
) -> Float32[np.ndarray, "H W C"]:
    """Interprets `data` as numbers. Raises UserError when its length does not match `shape`."""
    height, width, channels = shape
    expected = 4 * height * width * channels
    if len(data) != expected:
        raise UserError(
            f"{path} has {len(data)} bytes after its header; {width}x{height} pixels of {channels} "
            f"float32 values need {expected}. The file is truncated or damaged."
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(np.float32)


def _check_flow(path: str | os.PathLike[str], flow: Flow) -> None:
    height_width = flow.valid.shape
    if flow.valid.dtype != bool or flow.flow.shape != (*height_width, 2):
        raise UserError(
            f"Flow for {path} has shape {list(flow.flow.shape)} and mask {flow.valid.dtype} "
            f"{list(height_width)}; expected [height, width, 2] and bool [height, width]."
        )
    if not (np.abs(flow.flow[flow.valid]) <= UNKNOWN_FLOW).all():
        raise UserError(f"Flow for {path} has valid values that are NaN or beyond {UNKNOWN_FLOW}.")


def _decode_png(path: str | os.PathLike[str], data: bytes) -> UInt16[np.ndarray, "H W 3"]:
    """Decodes all 16 bits of each value; Pillow would keep eight."""
    av = import_av()
    decoder = av.CodecContext.create("png", "r")
    decoder.options = {"err_detect": "crccheck+explode"}
    try:
        frames = decoder.decode(av.Packet(data))
    except av.error.FFmpegError as error:
        raise UserError(f"{path} is truncated or damaged ({error.strerror}).") from error
    return frames[0].to_ndarray(format="rgb48be")


def _encode_png(pixels: UInt16[np.ndarray, "H W 3"]) -> bytes:
    av = import_av()
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width, _ = pixels.shape
    encoder.pix_fmt, encoder.time_base = "rgb48be", Fraction(1)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb48be")
    return b"".join(bytes(packet) for packet in encoder.encode(frame))


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.") from error


def _write(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes to a temporary file and renames it, so that the path never holds a partial file."""
    path = pathlib.Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"Cannot write {path}: {error.strerror}.") from error
