"""timm's CoAtNets: the same numbers after every stage, and what their files lead to."""

import functools
import json
import pathlib
import shutil

import haiku as hk
import jax
import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.builders.classifiers import coatnet_classifier
from perceiver_io.pretrained.published import load

CASES = sorted((pathlib.Path(__file__).parents[1] / "goldens" / "timm").iterdir())


@pytest.fixture(autouse=True)
def highest_precision(for_cpu):
    with jax.default_matmul_precision("highest"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_computes_the_same_after_every_stage(case):
    weights, arrays = load(case), np.load(case / "io.npz")

    def run(images):
        model = construct(coatnet_classifier, weights.model, "model").model
        maps = model.feature_maps(images, is_training=False)
        return {f"out_map_{number}": x for number, x in enumerate(maps)}

    apply = jax.jit(hk.transform_with_state(run).apply)
    found, _ = apply(weights.params, weights.model_state, None, arrays["in_images"])
    model = build(weights.model)
    apply = jax.jit(functools.partial(model.apply, is_training=False))
    found["out_logits"], _ = apply(
        weights.params, weights.model_state, None, inputs=arrays["in_images"]
    )
    assert len(found) == 6
    for name, x in found.items():
        difference = np.abs(x - arrays[name]).max() / np.abs(arrays[name]).max()
        assert difference < 1e-5, (name, difference)


def test_the_families_differ_in_their_settings():
    paper, rw, rmlp = (load(case).model for case in CASES)
    assert paper["layout"] == rw["layout"] == rmlp["layout"] == "C-C-T-T"
    assert (paper["depths"], paper["widths"]) == ((2, 2, 2, 3), (8, 16, 16, 32))
    assert (paper["head_width"], rw["head_width"]) == (24, None)
    assert rw["blocks"] == dict(
        activation="silu", activated_input=True, attention_norm="layer",
        attention_norm_epsilon=1e-6, conv_bias=False, exact_gelu=True, expand_from="input",
        head_size=8, layer_scale=False, pooling="average", relative_bias="table",
        relative_bias_hidden=512, shortcut_bias=False, squeeze_activation="relu",
        squeeze_before_norm=True, squeeze_from="hidden", stride="pooling", widen_at="output",
    )  # fmt: skip
    differing = {key for key in rw["blocks"] if rw["blocks"][key] != rmlp["blocks"][key]}
    assert differing == {"relative_bias", "relative_bias_hidden", "pooling"}


def test_preparation_is_read():
    prepared = load(CASES[0]).preparation
    assert prepared["image_shape"] == (64, 96, 3) and prepared["evaluation_crop"] == 0.95
    assert prepared["normalization"] == ((0.5,) * 3, (0.5,) * 3)
    assert prepared["resample"] == "bicubic"


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("architecture", "coatnext_nano_rw_224", "'coatnext_nano_rw_224'.*coatnet_nano_rw"),
        ("crop_mode", "squash", "crop_mode 'squash'"),
        ("interpolation", "random", "interpolation 'random'"),
        ("input_size", [3, 64, 64], "table has .* instead of"),
    ],
)
def test_what_this_project_lacks(tmp_path, entry, value, message):
    folder = tmp_path / "folder"
    shutil.copytree(CASES[0], folder)
    config = json.loads((folder / "config.json").read_text())
    (config if entry == "architecture" else config["pretrained_cfg"])[entry] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):
        load(folder)


def test_a_damaged_file_is_explained(tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(CASES[0], folder)
    (folder / "config.json").write_text(json.dumps({"architecture": "coatnet_0_224"}))
    with pytest.raises(UserError, match="cannot be determined.*pretrained_cfg"):
        load(folder)
