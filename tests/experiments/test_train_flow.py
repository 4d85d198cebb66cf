"""Training optical flow from the command line, on procedural pairs, for a few steps."""

import json

import numpy as np
import pytest

from tests.helpers.programs import (
    arrays,
    command,
    finish,
    records,
    wait_for_checkpoint,
)

pytestmark = pytest.mark.slow

AUGMENTATION = dict(
    spatial_probability=1.0,
    log2_scale=(-0.2, 0.6),
    log2_stretch=0.1,
    rotation=10.0,
    relative_log2_scale=0.02,
    relative_rotation=1.0,
    relative_translation=0.02,
    horizontal_flip=0.5,
    vertical_flip=0.1,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    hue=0.1,
    log2_gamma=0.2,
    asymmetric_probability=0.2,
    noise=0.05,
    eraser_probability=0.5,
    eraser_boxes=1,
    eraser_sides=(4, 8),
)
SHRUNK = (
    "--config.model.image_size=(16, 24)",
    "--config.data.frame_size=(24, 32)",
    "--config.data.num_validation=5",
    f"--config.data.augmentation={AUGMENTATION}",
    "--config.data.plain_examples=12",
    "--config.data.growth_examples=8",
    "--config.model.encoder.num_latents=8",
    "--config.model.encoder.latent_dim=16",
    "--config.model.encoder.latent_stack.num_layers=2",
    "--config.training.batch_size=4",
    "--config.training.steps=8",
    "--config.schedule.warmup_steps=2",
    "--config.evaluation.every=8",
    "--config.checkpoint.every=2",
    "--config.logging.every=2",
)


def training(workdir, *flags):
    config = "--config=configs/optical_flow.py:small"
    return command("train", workdir, config, *SHRUNK, *flags)


def test_a_killed_run_resumes_to_the_bit_in_both_phases(tmp_path, start):
    """Augmentation starts at step 4; the run is killed before that and resumes without workers."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    finish(start(training(whole)))
    process = start(training(killed))
    wait_for_checkpoint(killed, 2, process)
    process.kill()
    process.communicate(timeout=60)  # Data workers keep its output open until they end.
    finish(start(training(killed, "--config.data.num_workers=0")))
    expected = arrays(whole, 8)
    assert any(np.abs(value).max() > 0 for name, value in expected.items() if "output/w" in name)
    for name, value in arrays(killed, 8).items():
        np.testing.assert_array_equal(value, expected[name], name)
    assert records(killed) == records(whole)
    assert list((whole / "figures").rglob("*.png"))
    lines = map(json.loads, (whole / "metrics.jsonl").read_text().splitlines())
    names = {name for line in lines for name in line["metrics"] if line["split"] == "validation"}
    assert {"epe", "1px", "fl_all", "epe_s0_10"} <= names
