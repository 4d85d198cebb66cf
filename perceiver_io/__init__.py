"""Perceiver, Perceiver IO and CoAtNet in JAX and Haiku."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceiver_io.tasks.predictor import Predictor


def load(weights: str | Path, **settings: Any) -> "Predictor":
    """A trained model, to be asked by its method `predict`, as `experiments.predict` does.

    What `predict` takes and gives is the task's own:

    - `perceiver_io.tasks.image_classification.prediction.ImageClassifier`: classes of images;
    - `perceiver_io.tasks.optical_flow.prediction.FlowEstimator`: flow between frames;
    - `perceiver_io.tasks.masked_lm.prediction.MaskFiller`: unknown bytes of texts;
    - `perceiver_io.tasks.multimodal_autoencoding.prediction.VideoAutoencoder`: a video, again.

    Args:
        weights: a run folder, RUN/checkpoints/STEP, a published file or folder, or `bundled:NAME`
            for weights that come with this package.
        settings: what an original file does not show, where it is not as published: `num_heads`,
            `num_blocks`, `image_size`, ...

    Raises UserError if there are no weights, or of no task that predicts.
    """
    from perceiver_io.runtime import prediction  # JAX, and much else, only now

    return prediction.load(weights, **settings)
