"""Perceiver, Perceiver IO and CoAtNet in JAX and Haiku."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perceiver_io.tasks.predictor import Predictor


def load(weights: str | Path, **settings: Any) -> "Predictor":
    """Loads a trained model, whose method `predict` computes what `experiments.predict` does.

    What `predict` takes and returns depends on the task:

    - `perceiver_io.tasks.image_classification.prediction.ImageClassifier`: classes of images;
    - `perceiver_io.tasks.optical_flow.prediction.FlowEstimator`: flow between frames;
    - `perceiver_io.tasks.masked_lm.prediction.MaskFiller`: masked bytes of texts;
    - `perceiver_io.tasks.multimodal_autoencoding.prediction.VideoAutoencoder`: reconstructed video;
    - `perceiver_io.tasks.text_classification.prediction.TextClassifier`: classes of texts;
    - `perceiver_io.tasks.text_multitask.prediction.TextMultitasker`: either, for one of its tasks;
    - `perceiver_io.tasks.text_regression.prediction.TextScorer`: scores of texts;
    - `perceiver_io.tasks.text_tagging.prediction.TextTagger`: tags of words.

    Args:
        weights: a run folder, RUN/checkpoints/STEP, a published file or folder, or `bundled:NAME`
            for weights that come with this package.
        settings: model settings that an original file does not contain, if they differ from the
            published models': `num_heads`, `num_blocks`, `image_size`, ...

    Raises UserError if there are no weights, or if their task has no predictions.
    """
    from perceiver_io.runtime import prediction  # deferred, since it imports JAX and much else

    return prediction.load(weights, **settings)
