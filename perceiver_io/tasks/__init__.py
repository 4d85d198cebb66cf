"""Tasks, a folder each: losses, metrics, evaluators, figures, datasets, and what predicts."""

# Of each folder the class that trains, in task.py, and the one that predicts, in prediction.py.
_CLASSES = {
    "image_classification": ("ImageClassification", "ImageClassifier"),
    "masked_lm": (None, "MaskFiller"),
    "multimodal_autoencoding": (None, "VideoAutoencoder"),
    "optical_flow": ("OpticalFlow", "FlowEstimator"),
}

# What config.task.name chooses from, by dotted names.
TASKS = {name: f"{__name__}.{name}.task.{task}" for name, (task, _) in _CLASSES.items() if task}

# What `perceiver_io.load` and `experiments.predict` choose from, likewise.
PREDICTORS = {
    name: f"{__name__}.{name}.prediction.{predictor}" for name, (_, predictor) in _CLASSES.items()
}

# Short names for `experiments.predict`.
ALIASES = {
    "autoencode": "multimodal_autoencoding",
    "classify": "image_classification",
    "fill_mask": "masked_lm",
    "flow": "optical_flow",
}
