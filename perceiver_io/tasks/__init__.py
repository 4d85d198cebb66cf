"""Tasks: a loss, its metrics, its figures and its datasets."""

from perceiver_io.tasks.image_classification.task import ImageClassification
from perceiver_io.tasks.optical_flow.task import OpticalFlow

# What config.task.name chooses from.
TASKS = {"image_classification": ImageClassification, "optical_flow": OpticalFlow}
