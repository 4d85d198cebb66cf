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
    for preset, billions in {"fourier": 407, "conv": 369, "perceiver_fourier": 404}.items():
        config = configuration.overridden(experiments.load("imagenet", preset))
        flops = description.flops(config, setup.build_parts(config))
        assert flops["flops_forward"] == pytest.approx(billions * 1e9, rel=0.005)
        assert flops["flops_forward_as_run"] < flops["flops_forward"]


@pytest.mark.slow
def test_gradient_accumulation_changes_only_memory():
    def described(accumulate):
        config = experiments.load("quickstart", None)
        config.training.accumulate = accumulate
        config = configuration.overridden(config)
        parts = setup.build_parts(config)
        return description.flops(config, parts) | description.training_memory(config, parts)

    whole, parts = described(1), described(4)
    assert parts["flops_training_step_as_run"] == whole["flops_training_step_as_run"]
    assert parts["memory_arguments"] == whole["memory_arguments"]
    assert parts["memory_temporary"] < whole["memory_temporary"]


@pytest.mark.slow
def test_sharded_state_takes_less_memory_per_device():
    def arguments(settings):
        config = experiments.load("quickstart", None)
        config.parallel = settings
        config = configuration.overridden(config)
        return description.training_memory(config, setup.build_parts(config))["memory_arguments"]

    whole = arguments(dict(name="pmap"))
    assert whole == arguments(dict(name="mesh", fsdp=1))
    assert arguments(dict(name="mesh", fsdp=jax.device_count())) < 0.6 * whole


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
    command = [sys.executable, "-m", "experiments.describe", "--config=configs/quickstart.py"]
    result = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    description = json.loads(result.stdout)
    assert description["parameters"] == sum(description["modules"].values()) == 124_204
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
