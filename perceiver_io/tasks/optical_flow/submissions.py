"""Files of predicted flow for submission to benchmark servers.

Sources: the bundler in MPI-Sintel-complete.zip; the development kits of KITTI 2012 and 2015.
"""

import os
import pathlib
from typing import Literal

import numpy as np
from jaxtyping import Float

from perceiver_io.data.flow.files import Flow, within_kitti_range, write_flo, write_kitti_png
from perceiver_io.errors import UserError


def sintel_submission_path(
    folder: str | os.PathLike[str], rendering: Literal["clean", "final"], name: str
) -> pathlib.Path:
    """Returns folder/clean/ambush_1/frame_0001.flo for the pair "ambush_1/frame_0001".

    From all test pairs of both renderings, Sintel's `bundler folder/clean folder/final
    submission.lzma` makes the file to upload.
    """
    return pathlib.Path(folder) / rendering / f"{name}.flo"


def write_sintel_submission(
    folder: str | os.PathLike[str],
    rendering: Literal["clean", "final"],
    name: str,
    flow: Float[np.ndarray, "H W 2"],
) -> pathlib.Path:
    """Writes the flow of one Sintel test pair, in pixels, and returns its path.

    Raises UserError on flow that is not finite, and when the path cannot be written.
    """
    path = sintel_submission_path(folder, rendering, name)
    _make_folder(path.parent)
    write_flo(path, _everywhere(flow))
    return path


def kitti_submission_path(
    folder: str | os.PathLike[str], year: Literal[2012, 2015], name: str
) -> pathlib.Path:
    """For "000000_10", returns folder/000000_10.png (2012) or folder/flow/000000_10.png (2015).

    The file to upload is a ZIP archive of the contents of `folder`.
    """
    inside = pathlib.Path(folder) if year == 2012 else pathlib.Path(folder) / "flow"
    return inside / f"{name}.png"


def write_kitti_submission(
    folder: str | os.PathLike[str],
    year: Literal[2012, 2015],
    name: str,
    flow: Float[np.ndarray, "H W 2"],
) -> pathlib.Path:
    """Writes the flow of one KITTI test pair, in pixels, and returns its path.

    The format has a range of -512 to 511.98 pixels in steps of 1/64; predictions are clipped to it.
    Raises UserError on flow that is not finite, and when the path cannot be written.
    """
    path = kitti_submission_path(folder, year, name)
    _make_folder(path.parent)
    write_kitti_png(path, _everywhere(within_kitti_range(flow)))
    return path


def _make_folder(folder: pathlib.Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {folder}: {error.strerror}.") from error


def _everywhere(flow: Float[np.ndarray, "H W 2"]) -> Flow:
    return Flow(np.asarray(flow, np.float32), np.ones(flow.shape[:2], bool))
