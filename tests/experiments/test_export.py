"""Exporting a run of this project as a folder for transformers."""

import json
import subprocess
import sys

import numpy as np
import pytest

from perceiver_io.pretrained.published import load
from tests.experiments.test_train import ROOT, command, environment
from tests.helpers.experiments import learned_classifier


@pytest.mark.slow
def test_a_run_is_written_for_transformers(tmp_path):
    def run(*arguments):
        return subprocess.run(
            arguments, cwd=ROOT, env=environment(1), capture_output=True, text=True
        )

    workdir, folder = tmp_path / "run", tmp_path / "folder"
    flags = (
        f"--config.model={learned_classifier(5, (64, 64))}",
        "--config.training.steps=2",
        "--config.training.batch_size=4",
    )
    trained = run(*command("train", workdir, "--config=configs/photos.py", *flags))
    assert trained.returncode == 0, trained.stderr[-2000:]
    export = (sys.executable, "-m", "experiments.export", f"--output={folder}")
    done = run(*export, f"--weights={workdir}")
    assert done.returncode == 0, done.stderr[-2000:]
    weights = load(folder)
    assert weights.model["inputs"]["image_size"] == (64, 64)
    assert len(weights.class_names) == 5 and weights.class_names[0] == "Apple"
    assert weights.params["conv_1x1"]["w"].shape == (3, 256)
    assert np.isfinite(weights.params["encoder"]["latents"]).all()
    prepared = json.loads((folder / "preprocessor_config.json").read_text())
    kept = json.loads((workdir / "preparation.json").read_text())
    assert [prepared["image_mean"], prepared["image_std"]] == kept["normalization"]
    assert prepared["size"] == {"height": 64, "width": 64} and kept["inputs"]["inputs"][:2] == [
        64,
        64,
    ]
    assert {2: "bilinear", 3: "bicubic"}[prepared["resample"]] == kept["resample"]
    again = run(*export, f"--weights={workdir}")
    assert again.returncode == 2 and str(folder) in again.stderr
