"""Tasks, one folder each: losses, metrics, evaluators, predictors, figures and datasets."""

# Each folder has a `Task` in task.py, a `Predictor` in prediction.py, or both.
_CLASSES = {
    "image_classification": ("ImageClassification", "ImageClassifier"),
    "masked_lm": ("MaskedLanguageModelling", "MaskFiller"),
    "multimodal_autoencoding": ("MultimodalAutoencoding", "VideoAutoencoder"),
    "optical_flow": ("OpticalFlow", "FlowEstimator"),
    "point_cloud_classification": ("PointCloudClassification", "PointCloudClassifier"),
    "sound_tagging": ("SoundTagging", "SoundTagger"),
    "text_classification": ("TextClassification", "TextClassifier"),
    "text_multitask": ("TextMultitask", "TextMultitasker"),
    "text_regression": ("TextRegression", "TextScorer"),
    "text_tagging": ("TextTagging", "TextTagger"),
    "unit_commands": ("UnitCommands", "UnitCommander"),
}

# The choices of config.task.name, as dotted names.
TASKS = {name: f"{__name__}.{name}.task.{task}" for name, (task, _) in _CLASSES.items() if task}

# The predictors for `perceiver_io.load` and `experiments.predict`, likewise.
PREDICTORS = {
    name: f"{__name__}.{name}.prediction.{predictor}" for name, (_, predictor) in _CLASSES.items()
}

# Short names for `experiments.predict`.
ALIASES = {
    "autoencode": "multimodal_autoencoding",
    "command_units": "unit_commands",
    "classify": "image_classification",
    "fill_mask": "masked_lm",
    "flow": "optical_flow",
    "classify_points": "point_cloud_classification",
    "classify_text": "text_classification",
    "score_text": "text_regression",
    "tag_sound": "sound_tagging",
    "tag_text": "text_tagging",
}
