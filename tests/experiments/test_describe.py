import json
import re
import subprocess
import sys

import jax
import pytest

from perceiver_io.pretrained.published import why_not_for_huggingface
from perceiver_io.runtime import configuration, description, setup
from tests.helpers import experiments


@pytest.mark.slow
def test_flops_of_imagenet_match_the_papers():
    for preset, billions in {"conv": 369, "perceiver_fourier": 404}.items():
        config = configuration.overridden(experiments.load("imagenet", preset))
        flops = description.flops(config, setup.build_parts(config))
        assert flops["flops_forward"] == pytest.approx(billions * 1e9, rel=0.005)
        assert flops["flops_forward_as_run"] < flops["flops_forward"]


def described(accumulate=1, **parallel):
    """FLOPs and memory of the training step of a small convolutional network."""
    config = experiments.load("photos", "convnet")
    config.model.widths = (32, 64, 64)
    config.training.accumulate = accumulate
    config.parallel = parallel or dict(name="mesh")
    config = configuration.overridden(config)
    parts = setup.build_parts(config)
    return description.flops(config, parts) | description.training_memory(config, parts)


@pytest.mark.slow
def test_gradient_accumulation_changes_only_memory():
    whole, parts = described(), described(accumulate=4)
    assert parts["flops_training_step_as_run"] == whole["flops_training_step_as_run"]
    assert parts["memory_arguments"] == pytest.approx(whole["memory_arguments"], rel=0.01)
    assert parts["memory_temporary"] < whole["memory_temporary"]


@pytest.mark.slow
def test_sharded_state_takes_less_memory_per_device():
    replicated = described()["memory_arguments"]
    assert described(name="pmap")["memory_arguments"] == pytest.approx(replicated, rel=0.01)
    sharded = described(name="mesh", fsdp=jax.device_count())
    assert sharded["memory_arguments"] < 0.6 * replicated


@pytest.mark.parametrize(
    "name, preset, message",
    [
        ("quickstart", None, "no counterpart of perceiver_io_classifier with linear_patches"),
        ("image_folder", "small", r"image_size is \(64, 64\), but must be \(224, 224\)"),
        ("optical_flow", "patches", None),
    ],
)
def test_whether_a_model_can_be_exported_is_told_before_it_is_trained(name, preset, message):
    config = configuration.overridden(experiments.load(name, preset))
    found = why_not_for_huggingface(config.model.to_dict())
    assert found is None if message is None else re.search(message, found)


@pytest.mark.slow
def test_the_program_prints_json():
    command = [sys.executable, "-m", "experiments.describe", "--config=configs/photos.py:convnet"]
    result = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    description = json.loads(result.stdout)
    assert description["parameters"] == sum(description["modules"].values()) == 241_829
    assert description["config"]["training"]["accumulate"] == 1


def test_the_table_shows_all_settings_as_the_command_line_takes_them():
    config = configuration.load("configs/quickstart.py")
    described = {
        "config": config.to_dict(),
        "modules": {"encoder": 7},
        "parameters": 7,
        "why_not_for_huggingface": None,
        **{name: 1e9 for name in description.FLOPS_LABELS},
    }
    settings, _, _ = description.as_table(described).partition("\n\n")
    assert "--config.model.attention.implementation=auto" in settings.splitlines()
    again = configuration.load("configs/quickstart.py", settings.splitlines())
    assert again.to_dict() == config.to_dict()
