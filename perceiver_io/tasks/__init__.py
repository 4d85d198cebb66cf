"""Tasks: losses, metrics, figures and datasets, and what predicts with a trained model."""

from perceiver_io.tasks.image_classification.task import ImageClassification
from perceiver_io.tasks.optical_flow.task import OpticalFlow

# What config.task.name chooses from.
TASKS = {"image_classification": ImageClassification, "optical_flow": OpticalFlow}

# What predicts with a model of each task: dotted names, imported when they are chosen.
PREDICTORS = {
    "image_classification": "perceiver_io.tasks.image_classification.prediction.ImageClassifier",
    "masked_lm": "perceiver_io.tasks.masked_lm.prediction.MaskFiller",
    "multimodal_autoencoding": (
        "perceiver_io.tasks.multimodal_autoencoding.prediction.VideoAutoencoder"
    ),
    "optical_flow": "perceiver_io.tasks.optical_flow.prediction.FlowEstimator",
}
# Short names of tasks for the command line.
ALIASES = {
    "autoencode": "multimodal_autoencoding",
    "classify": "image_classification",
    "fill_mask": "masked_lm",
    "flow": "optical_flow",
}
