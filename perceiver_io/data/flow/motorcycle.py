"""A real photo pair included in scikit-image: the motorcycle of Middlebury Stereo 2014."""

import pathlib
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import skimage

from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.folders import NamedPairs
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.errors import UserError

_FOLDER = pathlib.Path(skimage.__file__).parent / "data"


class Motorcycle(Source):
    """One pair of 500x741 pixels, from the left camera to the right one; needs no download.

    The flow is (-d, 0), where d is the measured disparity of the left frame, from 7 to 60 pixels.
    Backward flow and occlusions are not known. Source: Scharstein et al., "High-Resolution Stereo
    Datasets with Subpixel-Accurate Ground Truth" (GCPR 2014).
    """

    splits: ClassVar[tuple[str, ...]] = ("test",)

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The one pair. Reading it raises UserError if scikit-image lacks its data."""
        del split
        return NamedPairs(("motorcycle",), _read)


motorcycle = Composed(Motorcycle, FlowPreparation)


def _read(name: str) -> FlowPair:
    left, right, disparities = (
        _FOLDER / f"{name}_{end}" for end in ("left.png", "right.png", "disp.npz")
    )
    for path in (left, right, disparities):
        if not path.exists():
            raise UserError(
                f"scikit-image {skimage.__version__} is installed without {path}; install the "
                "wheel of version 0.26, which includes it."
            )
    with np.load(disparities) as arrays:
        disparity = arrays["arr_0"]
    valid = np.isfinite(disparity)
    across = np.where(valid, -disparity, 0).astype(np.float32)
    flow = Flow(np.stack([across, np.zeros_like(across)], axis=-1), valid)
    return FlowPair(read_image(left), read_image(right), flow, None, None, name)
