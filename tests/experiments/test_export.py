"""Exporting a run of this project as a folder for transformers."""

import json
import sys

import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained.published import load
from perceiver_io.runtime import configuration, setup
from perceiver_io.runtime.export import export
from tests.helpers import experiments
from tests.helpers.programs import finish
from tests.helpers.runs import new_state, write_run


@pytest.mark.slow
def test_a_run_is_written_for_transformers(tmp_path, start):
    workdir, folder = tmp_path / "run", tmp_path / "folder"
    workdir.mkdir()
    config = experiments.load("photos", "conv")
    config.model = experiments.learned_classifier(5, (64, 64))
    config = configuration.overridden(config)
    write_run(workdir, config, [new_state(setup.build_parts(config), ema=True)])
    command = [sys.executable, "-m", "experiments.export", f"--output={folder}"]
    finish(start([*command, f"--weights={workdir}"]))
    weights = load(folder)
    assert weights.model["inputs"]["image_size"] == (64, 64)
    assert len(weights.class_names) == 5 and weights.class_names[0] == "Apple"
    assert weights.params["conv_1x1"]["w"].shape == (3, 256)
    assert np.isfinite(weights.params["encoder"]["latents"]).all()
    prepared = json.loads((folder / "preprocessor_config.json").read_text())
    kept = json.loads((workdir / "preparation.json").read_text())
    assert [prepared["image_mean"], prepared["image_std"]] == kept["normalization"]
    assert prepared["size"] == {"height": 64, "width": 64}
    assert kept["inputs"]["inputs"][:2] == [64, 64]
    assert {2: "bilinear", 3: "bicubic"}[prepared["resample"]] == kept["resample"]
    with pytest.raises(UserError, match=str(folder)):
        export(str(workdir), str(folder))
