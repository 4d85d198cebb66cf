"""The program `experiments.predict`: weights, flags, files, progress."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from perceiver_io.config import files
from perceiver_io.config.construct import construct
from perceiver_io.data.vision.digits import digits
from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, evaluation, setup, weights
from perceiver_io.runtime.prediction import check_flags, load, write
from perceiver_io.runtime.training_run import Run
from perceiver_io.tasks.files import create_folder, unique_names
from perceiver_io.training.state import names
from tests.helpers import experiments
from tests.helpers.predictions import picture
from tests.helpers.runs import new_state, write_run

GOLDENS = Path(__file__).parents[1] / "goldens"
ROOT = Path(__file__).parents[2]

# Weights.


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A shrunk quickstart run with two checkpoints, the first of which is better."""
    folder = tmp_path_factory.mktemp("run")
    config = configuration.overridden(experiments.shrink(experiments.load("quickstart", None)))
    parts = setup.build_parts(config)
    states = {}
    for step in (1, 2):
        state = new_state(parts, seed=step, step=step, ema=True)
        average = jax.tree.map(lambda x: x + 1, state.params)
        states[step] = state._replace(ema_params=average)
    write_run(folder, config, states.values())
    return folder, states


@pytest.mark.slow
def test_a_run_gives_the_moving_average_of_its_best_checkpoint(run_folder):
    folder, states = run_folder
    for path, step in ((folder, 1), (folder / "checkpoints" / "2", 2)):
        loaded = weights.load(path)
        found, expected = names(loaded.params), names(states[step].ema_params)
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
        assert loaded.class_names == tuple("0123456789")
        assert loaded.model["encoder"]["num_latents"] == 6
        assert loaded.preparation["image_shape"] == (8, 8, 1)


@pytest.mark.slow
def test_a_digit_is_prepared_as_in_evaluation(run_folder, tmp_path):
    folder, _ = run_folder
    config = files.read_run(folder)
    dataset = setup.build_dataset(config, setup.build_task(config))
    raw = dataset.source("test")[0]
    digit = np.rint(raw.image).astype(np.uint8)
    Image.fromarray(digit).save(tmp_path / "digit.png")
    model = load(folder)
    found = model.prepared(tmp_path / "digit.png")
    np.testing.assert_array_equal(found, digit[..., None])
    assert (model.input.mean, model.input.std) == dataset.preparation.normalization
    result = model.write(tmp_path, inputs=[str(tmp_path / "digit.png")], top_k=20)
    (answer,) = result.summary["images"]
    assert sum(x["probability"] for x in answer["classes"]) == pytest.approx(1, abs=1e-5)


def test_preparation_is_read_from_the_run_folder_and_not_from_the_data(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    kept = {"image_shape": [8, 8, 3], "resample": "bicubic", "class_names": ["a", "b"]}
    (tmp_path / "preparation.json").write_text(json.dumps(kept))
    found = weights.load_preparation(tmp_path)
    read = kept | {"image_shape": (8, 8, 3), "class_names": ("a", "b")}
    assert found == read | {"normalization": None}
    (tmp_path / "preparation.json").write_text(json.dumps(kept | {"mean": [0.5], "std": [0.2]}))
    assert weights.load_preparation(tmp_path)["normalization"] == ((0.5,), (0.2,))
    (tmp_path / "preparation.json").write_text("{")
    with pytest.raises(UserError, match=r"preparation.json is damaged: .*training command"):
        weights.load_preparation(tmp_path)


def test_classes_are_those_that_the_run_was_trained_on(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    dataset = construct(digits, dict(experiments.load("quickstart", None).data), "data")
    for kept, message in (
        (list("0123456789"), None),
        (None, None),
        (list("0123456798"), "10 classes, of which number 8 is '9', but Digits has 10, .* is '8'"),
        (list("01234567890"), "11 classes, of which number 10 is '0', .* it is None"),
    ):
        (tmp_path / "preparation.json").write_text(json.dumps({"class_names": kept}))
        with pytest.raises(UserError, match=message) if message else nullcontext():
            weights.check_class_names(tmp_path, dataset)


@pytest.mark.slow
def test_a_run_is_not_mistaken_for_another(run_folder, tmp_path):
    """Other classes are refused on resume and in evaluation, other sizes in prediction."""
    shutil.copytree(run_folder[0], folder := tmp_path / "run")
    config = files.read_run(folder)
    kept = {"class_names": list("9876543210"), "mean": [0.3], "std": [0.38]}
    (folder / "preparation.json").write_text(json.dumps(kept))
    with pytest.raises(UserError, match="number 0 is '9', but Digits has 10, of which it is '0'"):
        Run(config, folder, None, ())
    subject = evaluation.of_run(folder, "latest", None, ())
    with pytest.raises(UserError, match="number 0 is '9'"):
        evaluation.evaluate(subject, tmp_path)
    (folder / "preparation.json").write_text(json.dumps(kept | {"inputs": {"inputs": [16, 16, 1]}}))
    with pytest.raises(
        UserError, match=r"config.json describes .*\(8, 8, 1\).* on .*\(16, 16, 1\)"
    ):
        weights.load(folder)
    overrides = ["--config.model.inputs.image_size=(16,16)"]
    subject = evaluation.of_run(folder, "latest", None, overrides)
    with pytest.raises(UserError, match=r"shape \(8, 8, 1\), but the model takes .*\(16, 16, 1\)"):
        evaluation.evaluate(subject, tmp_path)


@pytest.mark.parametrize(
    "name, classes", [("imagenet", imagenet_class_names()), ("image_folder", None)]
)
def test_older_runs_prepare_as_their_config_says(tmp_path, name, classes):
    (tmp_path / "checkpoints").mkdir()
    config = configuration.overridden(experiments.load(name, experiments.presets(name)[0]))
    config.data.root = "/nowhere"
    del config.data["resample"]
    (tmp_path / "config.json").write_text(config.to_json())
    found = weights.load_preparation(tmp_path)
    assert found["class_names"] == classes
    assert found["mean"] == (0.485, 0.456, 0.406) and found["resample"] == "bilinear"
    assert found["normalization"] == (found["mean"], found["std"])


def test_published_weights_of_both_families():
    folder = weights.load(GOLDENS / "huggingface" / "optical_flow")
    assert folder.model["name"] == "perceiver_io_flow"
    settings = weights.parse_settings(["num_heads=4", "image_size=(16,24)"])
    pickle = weights.load(GOLDENS / "deepmind" / "optical_flow.params.pkl", **settings)
    assert pickle.model["image_size"] == (16, 24)
    assert pickle.model["encoder"]["latent_stack"]["num_heads"] == 4
    assert folder.preparation == pickle.preparation == {"normalization": None}


def test_invalid_settings(run_folder):
    for text in ("num_heads", "=4", "num heads=4"):
        with pytest.raises(UserError, match="must be --setting=NAME=VALUE"):
            weights.parse_settings([text])
    with pytest.raises(UserError, match="heads is not a setting.*image_size, num_heads"):
        weights.load(GOLDENS / "deepmind" / "optical_flow.params.pkl", heads=4)
    for path in (GOLDENS / "huggingface" / "optical_flow", run_folder[0]):
        with pytest.raises(UserError, match="config.json has all settings"):
            weights.load(path, num_heads=4)


def test_missing_weights(tmp_path):
    with pytest.raises(UserError, match="no weights at"):
        weights.load(tmp_path / "nowhere")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is not a run folder"):
        weights.load(tmp_path)


# The program.


def test_flags_fit_the_task():
    check_flags("fill_mask", {"text": ["a"], "top_k": 3})
    with pytest.raises(UserError, match="--task=flow does not use --top_k; it takes --inputs"):
        check_flags("flow", {"inputs": ["a"], "top_k": 3})
    for name in ("overlap", "flow_format"):
        with pytest.raises(UserError, match=f"--task=classify does not use --{name}"):
            check_flags("classify", {"inputs": ["a"], name: 3})
    with pytest.raises(UserError, match="--task=image_classification needs --inputs"):
        check_flags("image_classification", {})
    with pytest.raises(UserError, match=r"a task 'clasify' \(did you mean 'classify'\?\)"):
        check_flags("clasify", {})


def test_unwritable_folders(tmp_path):
    assert create_folder(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is not a writable folder"):
        create_folder(str(tmp_path / "file"))


@pytest.mark.slow
def test_a_full_disk_is_one_paragraph(run_folder, tmp_path):
    Image.fromarray(picture(30, 20)).save(tmp_path / "a.png")
    (tmp_path / "predictions.json").symlink_to("/dev/full")
    with pytest.raises(UserError, match=f"The disk of {tmp_path} is full"):
        write("classify", str(run_folder[0]), str(tmp_path), {"inputs": [str(tmp_path / "a.png")]})


def test_names_of_results_are_unique():
    paths = [Path("x/a.png"), Path("y/a.png"), Path("a.jpg"), Path("b.png")]
    assert unique_names(paths) == ["a", "a_2", "a_3", "b"]


def run_program(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.predict", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
    )


@pytest.mark.slow
def test_the_program_prints_json_and_errors_of_one_paragraph(run_folder, tmp_path):
    # Not all of the name is UTF-8.
    path = os.fsdecode(b"caf\xe9 " + "\N{GRINNING FACE} $\\a$.png".encode())
    Image.fromarray(picture(30, 20)).save(tmp_path / path)
    flags = ["--task=classify", f"--inputs={tmp_path}", f"--output={tmp_path / 'out'}"]
    result = run_program(*flags, f"--weights={run_folder[0]}", "--top_k=2", "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert len(summary["images"][0]["classes"]) == 2
    assert summary["images"][0]["input"] == str(tmp_path / path)
    assert f"{tmp_path}: 1 images" in result.stderr
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == summary
    result = run_program(*flags, f"--weights={GOLDENS / 'huggingface' / 'optical_flow'}")
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("error: The weights in") and result.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_program_passes_on_the_flags_of_flow(tmp_path):
    for name in ("1.png", "2.png"):
        Image.fromarray(picture(30, 20)).save(tmp_path / name)
    flags = [f"--inputs={tmp_path}", f"--output={tmp_path}/out\N{GRINNING FACE}", "--task=flow"]
    weights_folder = str(GOLDENS / "huggingface" / "optical_flow")
    flags.append(f"--weights={weights_folder}")
    result = run_program(*flags, "--overlap=12", "--flow_format=kitti", "--batch_size=3")
    assert result.returncode == 0, result.stderr
    assert "5 of 5 tiles" in result.stderr  # three with the default overlap
    folder = tmp_path / "out\N{GRINNING FACE}" / f"{tmp_path.name}_flow"
    assert (folder / "00001_kitti.png").exists()
    assert rf"{tmp_path}/out\U0001f600" in result.stdout
    given = {"inputs": [str(tmp_path)], "overlap": 99}
    with pytest.raises(UserError, match="^overlap=99 pixels must"):
        write("flow", weights_folder, str(tmp_path / "other"), given)
