"""Tasks, a folder each: a loss, its metrics, its evaluators, its figures and its datasets."""

# What config.task.name chooses from, by dotted names.
TASKS = {
    "image_classification": "perceiver_io.tasks.image_classification.task.ImageClassification",
    "optical_flow": "perceiver_io.tasks.optical_flow.task.OpticalFlow",
}
