"""Classifiers of scikit-learn on simple features of shapes, on the same splits as a model.

    python -m scripts.shape_baseline --config=configs/point_clouds.py [--split=test]

A random forest and a logistic regression are trained on features of the training clouds, as the
config's dataset prepares them for evaluation (see scripts/_cloud_features.py). The forest is
trained with three seeds. Validation clouds are not used.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from scripts._cloud_features import shape_features

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].")
SPLIT = flags.DEFINE_string("split", "test", "The split to measure on.")


def main() -> None:
    """Prints overall and mean-class accuracy of each classifier."""
    config = configuration.load(CONFIG.value, program.overrides())
    if config.task.name != "point_cloud_classification":
        raise UserError(
            f"--config={CONFIG.value} has the task {config.task.name!r}: give a config whose task "
            "is `point_cloud_classification`."
        )
    dataset = setup.build_dataset(config, setup.build_task(config))
    train, test = features(dataset, "train"), features(dataset, SPLIT.value)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    classifiers = {"logistic regression": linear}
    for seed in range(3):
        classifiers[f"random forest, seed {seed}"] = RandomForestClassifier(500, random_state=seed)
    for name, classifier in classifiers.items():
        found = classifier.fit(*train).predict(test[0])
        right = accuracy_score(test[1], found)
        by_class = balanced_accuracy_score(test[1], found)
        print(f"{name}: {right:.1%}, mean of classes {by_class:.1%}, of {len(found)}")


def features(dataset: Dataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and labels of a split."""
    rng = np.random.default_rng(0)
    examples = [dataset.preparation.evaluation_example(raw, rng) for raw in dataset.examples(split)]
    labels = np.array([example["label"] for example in examples])
    return np.stack([shape_features(example["points"]) for example in examples]), labels


if __name__ == "__main__":
    program.run(main, CONFIG)
