"""Runs of several seeds: trained, measured and summarised."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from perceiver_io.errors import UserError
from perceiver_io.runtime import evaluation, sweep


def finished_runs(
    experiment: str, seeds: Iterable[int], overrides: Iterable[str], workdir: Path
) -> list[Path]:
    """The folders of finished runs; those that are not finished are trained or resumed.

    Raises UserError if a signal stopped training.
    """
    grid = {"seed": [str(seed) for seed in seeds]}
    results = sweep.sweep([experiment], grid, overrides, workdir)
    if not results.is_complete:
        raise UserError("Training was stopped by a signal: repeat the command to go on.")
    return [outcome.trial.folder for outcome in results.outcomes]


def on_test_split(run: Path, evaluator: str = "test") -> Mapping[str, float]:
    """Metrics of a run's best checkpoint, by one of the task's ways to evaluate the test split."""
    subject = evaluation.of_run(run, "best", None, ())
    subject.config.evaluation.splits = ("test",)
    return evaluation.evaluate(subject, run).summary["metrics"][evaluator]


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of a sample; 0 for a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def as_cell(values: Sequence[float], digits: int) -> str:
    """Mean and, of several values, standard deviation; empty for none."""
    if not values:
        return ""
    spread = f" ± {deviation(values):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{spread}"
