"""Imports of the programs: nothing slow for `--help`, and later only what the config names."""

import subprocess
import sys

import pytest

from tests.helpers.programs import ROOT

SLOW = ("jax", "sklearn", "matplotlib", "tensorflow_datasets", "cv2")


def loaded(code, names):
    """Which of the modules are imported after running the code."""
    code += f"\nimport sys\nprint(*(name for name in {names} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "program",
    ["train", "evaluate", "describe", "export", "predict", "check_data", "sweep", "plan"],
)
def test_programs_start_without_slow_libraries(program):
    assert loaded(f"import experiments.{program}", SLOW) == []


@pytest.mark.slow
def test_only_what_a_config_names_is_loaded():
    code = """
from perceiver_io.runtime import configuration, setup, training_run
setup.build_parts(configuration.load("configs/photos.py"))
"""
    libraries = ("sklearn", "tensorflow_datasets", "cv2", "perceiver_io.tasks.optical_flow")
    assert loaded(code, (*libraries, "perceiver_io.data.vision.photos")) == [
        "perceiver_io.data.vision.photos"
    ]
