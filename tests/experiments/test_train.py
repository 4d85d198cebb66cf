"""Training from the command line, with the quickstart shrunk to a few steps."""

import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from perceiver_io.errors import REPEAT, UserError
from perceiver_io.runtime import configuration, evaluation, training_run
from perceiver_io.storage import files_below, located
from perceiver_io.training.profiling import Profiler
from tests.helpers.experiments import learned_classifier
from tests.helpers.programs import (
    ROOT,
    arrays,
    command,
    environment,
    finish,
    records,
    saved_steps,
    step_of_signal,
    wait_for_checkpoint,
)

SHRUNK = (
    "--config.data.num_workers=0",
    "--config.model.encoder.num_latents=8",
    "--config.model.encoder.latent_dim=16",
    "--config.model.encoder.latent_stack.num_layers=2",
    "--config.training.batch_size=32",
    "--config.training.steps=100",
    "--config.training.ema_decay=0.9",
    "--config.evaluation.every=50",
    "--config.checkpoint.every=10",
    "--config.logging.every=10",
)


def training(workdir, *flags):
    return command("train", workdir, "--config=configs/quickstart.py", *SHRUNK, *flags)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """An uninterrupted run of 100 steps."""
    workdir = tmp_path_factory.mktemp("uninterrupted")
    done = subprocess.run(
        training(workdir), cwd=ROOT, env=environment(1), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir


@pytest.mark.slow
def test_a_run_that_is_killed_and_then_stopped_resumes_to_the_bit(tmp_path, start, uninterrupted):
    process = start(training(tmp_path))
    wait_for_checkpoint(tmp_path, 50, process)
    time.sleep(np.random.default_rng().uniform(0, 0.5))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    process = start(training(tmp_path, "--config.data.num_workers=1"))
    wait_for_checkpoint(tmp_path, max(saved_steps(tmp_path)) + 1, process)
    os.killpg(process.pid, signal.SIGTERM)  # The worker, too.
    out = finish(process, REPEAT)
    assert "resuming from the checkpoint of step" in out
    stopped = step_of_signal(out)
    assert stopped in saved_steps(tmp_path)
    whole = records(uninterrupted)
    assert records(tmp_path) == [record for record in whole if record[0] <= stopped]
    finish(start(training(tmp_path)))
    expected, resumed = arrays(uninterrupted, 100), arrays(tmp_path, 100)
    assert expected.keys() == resumed.keys() and len(expected) > 100
    for name in expected:
        np.testing.assert_array_equal(resumed[name], expected[name], name)
    assert validation(records(tmp_path)) == validation(whole)


@pytest.mark.slow
def test_a_run_in_a_bucket_that_is_killed_resumes_to_the_bit(bucket, start, uninterrupted):
    run = located("gs://bucket/runs/one")
    process = start(training(run))
    wait_for_checkpoint(run, 30, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    out = finish(start(training(run)))
    assert "resuming from the checkpoint of step" in out
    assert records(run) == records(uninterrupted)
    expected, resumed = arrays(uninterrupted, 100), arrays(run, 100)
    for name in expected:
        np.testing.assert_array_equal(resumed[name], expected[name], name)
    assert {"config.json", "curves.png"} < set(files_below(run))
    out = finish(start(command("evaluate", run, "--split=test", "--json")))
    found = json.loads(out.splitlines()[-1])
    local = evaluation.of_run(uninterrupted, "best", None, ["--config.evaluation.splits=('test',)"])
    expected = evaluation.evaluate(local, uninterrupted).summary["metrics"]
    assert found["metrics"]["test"] == pytest.approx(expected["test"], rel=1e-6)
    assert found["figures"].startswith(f"{run}/evaluation/")
    assert "evaluation/digits_100/test_examples.png" in files_below(run)
    last = json.loads((run / "goodput.jsonl").read_text().split("\n")[-1])
    assert last["attempt"] == 1


@pytest.mark.slow
def test_a_bucket_that_fails_ends_the_training_with_the_status_to_repeat_it(bucket, start):
    run = located("gs://bucket/runs/one")
    process = start(training(run))
    wait_for_checkpoint(run, 10, process)
    bucket.denied = True
    _, err = process.communicate(timeout=120)
    assert process.returncode == REPEAT
    assert "error: A bucket could not be used: Forbidden" in err and "Traceback" not in err
    bucket.denied = False
    finish(start(training(run)))


def validation(found):
    return [record for record in found if record[1] == "validation"]


def forward_flops():
    """FLOPs of the shrunk quickstart, product by product: 2 x rows x width x columns."""

    def cross_attend(queries, query_width, inputs, input_width):
        query = queries * query_width * input_width
        keys_and_values = 2 * inputs * input_width * input_width
        logits_and_sums = 2 * queries * inputs * input_width
        output = queries * input_width * query_width
        mlp = 2 * queries * query_width**2
        return query + keys_and_values + logits_and_sums + output + mlp

    patches, channels, latents, width = 16, 32, 8, 16
    positions = 2 + 2 * 2 * 4  # raw, and sine and cosine of 4 bands, along both axes
    return 2 * (
        patches * (2 * 2) * channels
        + cross_attend(latents, width, patches, channels + positions)
        + 2 * cross_attend(latents, width, latents, width)
        + cross_attend(1, width, latents, width)
        + width * 10
    )


def check_speeds(workdir, count, num_devices):
    """Recorded model FLOPs per second and device match the examples per second."""
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    speeds = [line["metrics"] for line in lines if line["split"] == "train"]
    assert len(speeds) == count
    for speed in speeds:
        expected = 3 * forward_flops() * speed["examples_per_second"] / num_devices / 1e12
        assert speed["tflops_per_device"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_the_speed_is_recorded_in_flops_too(uninterrupted):
    check_speeds(uninterrupted, 10, num_devices=1)


@pytest.mark.slow
def test_contents_of_a_run_folder_and_its_evaluation(start, uninterrupted):
    for name in ("config.json", "environment.json", "curves.png"):
        assert (uninterrupted / name).stat().st_size > 0
    figures = {path.name for path in (uninterrupted / "figures" / "100").iterdir()}
    assert figures == {"validation_confusion.png", "validation_examples.png"}
    recorded = {
        name: value
        for step, split, name, value in records(uninterrupted)
        if (step, split) == (100, "validation")
    }
    flags = ("--checkpoint=latest", "--split=test,validation", "--json")
    # Another number of devices and another batch size give the same metrics.
    flags += ("--config.evaluation.batch_size=70",)
    result = json.loads(finish(start(command("evaluate", uninterrupted, *flags), num_devices=4)))
    assert result["step"] == 100
    assert result["metrics"]["validation"] == pytest.approx(recorded, rel=1e-4)
    assert "top_1" in result["metrics"]["test"]
    assert (uninterrupted / "evaluation").is_dir()


def test_checkpoints_side_by_side():
    reports = {
        name: evaluation.Report(
            {"step": step, "metrics": {"test": {"top_1": share}}, "figures": f"DIR_{step}"}, ""
        )
        for name, step, share in (("best", 20, 0.75), ("latest", 30, 0.5))
    }
    both = evaluation.side_by_side(reports)
    assert both.summary["latest"] == reports["latest"].summary
    head, row, _, *lines = both.text.splitlines()
    assert head.split() == ["test", "best", "test", "latest"]
    assert row.split() == ["top_1", "0.7500", "0.5000"]
    assert lines == ["best, step 20: figures in DIR_20", "latest, step 30: figures in DIR_30"]
    assert evaluation.side_by_side({"best": reports["best"]}) is reports["best"]


@pytest.mark.slow
def test_a_run_in_a_folder_with_a_colon_and_no_space_for_pictures(tmp_path, uninterrupted):
    run = tmp_path / "run 10:30"
    run.mkdir()
    (run / "config.json").symlink_to(uninterrupted / "config.json")
    (run / "checkpoints").symlink_to(uninterrupted / "checkpoints")
    (run / "evaluation").write_text("")
    subject = evaluation.of_run(run, "best", None, ())
    with pytest.raises(UserError, match="cannot be written to: Not a directory") as error:
        evaluation.evaluate(subject, run)
    assert str(error.value).startswith(f"The folder {run}/evaluation/digits_")


@pytest.mark.slow
def test_a_dataset_that_does_not_fit_the_model_of_the_run(tmp_path, uninterrupted):
    overrides = ("--config.task.num_classes=5",)
    subject = evaluation.of_run(uninterrupted, "best", "configs/photos.py", overrides)
    with pytest.raises(UserError) as error:
        evaluation.evaluate(subject, tmp_path)
    message = str(error.value)
    assert "of shape (8, 8, 3), but the model takes float32 of shape (8, 8, 1)" in message
    assert "init_prefixes" not in message


@pytest.mark.slow
def test_warm_start_with_replaced_sections_and_a_profile(tmp_path, start, uninterrupted):
    flags = (
        "--config.parallel.fsdp=2",
        "--config.optimizer={'name': 'sgd', 'weight_decay': 0.0, 'decay_positions': True, "
        "'clip_norm': 1.0, 'momentum': 0.8}",
        "--config.optimizer.clip_norm=None",
        f"--config.init_from={uninterrupted}",
        "--config.init_prefixes=encoder",
        "--config.training.steps=4",
        "--profile_steps=2,3",
    )
    out = finish(start(training(tmp_path, *flags), num_devices=4))
    loaded, left = (
        next(line for line in out.splitlines() if line.startswith(f"warm start, {what}: "))
        for what in ("loaded", "left")
    )
    assert loaded.removeprefix("warm start, loaded: ") == "encoder (35 arrays)"
    assert "decoder (" in left and "encoder" not in left
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["optimizer"]["momentum"] == 0.8 and config["optimizer"]["clip_norm"] is None
    assert saved_steps(tmp_path) == [4]
    check_speeds(tmp_path, 1, num_devices=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.training.setps=1", "config.training.setps is not a key"),
        ("--no_such_flag", "no_such_flag"),
    ],
)
def test_bad_input_is_one_paragraph(tmp_path, start, flag, message):
    process = start(training(tmp_path, flag))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err.startswith("error: ") and err.count("\n") == 1, err
    assert message in err


@pytest.mark.slow
def test_a_workdir_of_another_model(uninterrupted):
    config = configuration.load(
        "configs/quickstart.py", [*SHRUNK, "--config.model.encoder.latent_dim=32"]
    )
    with pytest.raises(UserError, match=r"config.model.encoder.latent_dim was 16, is 32") as error:
        training_run.train(config, uninterrupted)
    start = f"The run in {uninterrupted} was started with another config: "
    assert str(error.value).startswith(start)


@pytest.mark.slow
def test_warm_start_from_published_weights(tmp_path, capsys):
    """With a new head, other channels, and learned positions at another resolution."""
    model = learned_classifier(10, (8, 8))
    model["inputs"]["image_channels"] = 1
    overrides = (
        f"--config.model={model}",
        "--config.data.num_workers=0",
        "--config.init_from=tests/goldens/huggingface/image_learned",
        "--config.init_prefixes=('!decoder/logits', '!conv_1x1/w')",
    )
    config = configuration.load("configs/quickstart.py", overrides)
    training_run.Run(config, tmp_path, Profiler(tmp_path, 0, 0), ()).close()
    out = capsys.readouterr().out
    assert "warm start, resized: positions\n" in out
    different = (
        "warm start, different setting: config.model.encoder.latent_stack.exact_gelu True there"
    )
    assert f"{different} and False here\n" in out
    left = "conv_1x1/w, decoder/logits (2 arrays)"
    assert f"warm start, left: {left}\n" in out
