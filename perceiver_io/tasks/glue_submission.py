"""Predictions in the format of GLUE's server: https://gluebenchmark.com."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import PyTree

from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.text.glue import SUBSETS, GlueTexts
from perceiver_io.data.text.preparation import ScoredTextPreparation
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.evaluation import BatchEvaluator, Strategy, Submitter
from perceiver_io.tasks.task import Section, Task

# The names of the files; others are those of the sets.
_FILES = {"mnli/test": "MNLI-m", "mnli/test_mismatched": "MNLI-mm"}
# In the sets whose classes have names, the server takes these, in the others numbers.
_NAMED = ("mnli", "qnli", "rte")


@dataclasses.dataclass(frozen=True)
class GlueSubmitter:
    """Writes the predictions for a test split.

    Attributes:
        evaluator: of the split; the predictions of its task have a `prediction`, the number of a
            class or the score.
    """

    evaluator: BatchEvaluator

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy, folder: Path
    ) -> int:
        """Writes a file such as CoLA.tsv; see `Submitter`."""
        dataset, split = self.evaluator.dataset, self.evaluator.split
        found = self.evaluator.predictions(model, params, state, strategy)["prediction"]
        source = cast(GlueTexts, dataset.source)
        name = _FILES.get(f"{source.subset}/{split}", SUBSETS[source.subset].folder)
        answers = sorted(zip(source.indices(split), _answers(dataset, found), strict=True))
        lines = [f"{index}\t{answer}" for index, answer in answers]
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.tsv").write_text("\n".join(["index\tprediction", *lines, ""]))
        return len(lines)


def glue_submitters(task: Task, config: Section) -> Mapping[str, Submitter]:
    """A writer for each split of the config, which must be test splits of GLUE.

    Raises UserError for others.
    """
    dataset, evaluation = task.build_dataset(config["data"]), config["evaluation"]
    wrong = [x for x in evaluation["splits"] if x not in dataset.source.unlabelled_splits]
    if config["data"]["name"] != "glue" or wrong:
        raise UserError(
            "--submission is for the test splits of GLUE, whose labels are not published, but the "
            f"config has the splits {', '.join(evaluation['splits'])} of {config['data']['name']}: "
            "choose --split=test, for MNLI --split=test,test_mismatched."
        )
    size = evaluation["batch_size"]
    return {
        split: GlueSubmitter(BatchEvaluator(task, dataset, split, size))
        for split in evaluation["splits"]
    }


def _answers(dataset: Dataset, found: np.ndarray) -> list[Any]:
    """Predictions as the server reads them."""
    classes = dataset.class_names
    if classes is None:
        scores = cast(ScoredTextPreparation, dataset.preparation).unscaled(found)
        return [f"{score:.3f}" for score in np.clip(scores, 0, 5)]
    if cast(GlueTexts, dataset.source).subset in _NAMED:
        return [classes[number] for number in found]
    return found.tolist()
