"""The runs that scripts/restart_runs.py kills."""

from perceiver_io.runtime import configuration
from perceiver_io.tasks import TASKS
from scripts._restart_cases import CASES, SETTINGS


def test_each_task_with_bundled_data_has_a_run():
    assert CASES.keys() == TASKS.keys() - {"text_tagging"}
    for task, case in CASES.items():
        settings = [f"--config.{setting}" for setting in (*SETTINGS, *case.settings)]
        config = configuration.load(f"configs/{case.config}", settings)
        assert config.task.name == task and case.before != case.after
        assert config.training.batch_size % max(case.before, case.after) == 0
