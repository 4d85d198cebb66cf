"""Training optical flow, on procedural pairs, for a few steps of both phases of its curriculum.

That a resumed run continues exactly, in either phase, follows from tests/experiments/test_train.py
and from the examples' dependence on their position alone (tests/data/flow/test_pairs.py).
"""

import json

import pytest

from perceiver_io.runtime import configuration
from perceiver_io.runtime.training_run import train

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
    "--config.data.num_workers=0",
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


@pytest.mark.slow
def test_contents_of_a_run_folder(tmp_path):
    train(configuration.load("configs/optical_flow.py:small", SHRUNK), tmp_path)
    assert list((tmp_path / "figures").rglob("*.png"))
    lines = list(map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines()))
    losses = [line["metrics"]["loss"] for line in lines if line["split"] == "train"]
    assert len(losses) == 4 and losses[-1] != losses[0]
    names = {name for line in lines for name in line["metrics"] if line["split"] == "validation"}
    assert {"epe", "1px", "fl_all", "epe_s0_10"} <= names
