"""Tasks: a loss, its metrics, its figures and its datasets."""

from perceiver_io.tasks.image_classification import ImageClassification

# What config.task.name chooses from.
TASKS = {"image_classification": ImageClassification}
