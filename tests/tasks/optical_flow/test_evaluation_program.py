"""The program `evaluate`, and what it calls, for optical flow."""

import json
import socket

import jax.numpy as jnp
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained.published import Weights, save_huggingface
from perceiver_io.runtime import configuration, evaluation, setup
from perceiver_io.training.state import TrainState
from tests.helpers import experiments
from tests.helpers.predictions import FLOW, trained
from tests.helpers.programs import command, finish
from tests.helpers.runs import new_state, write_checkpoints, write_run
from tests.tasks.optical_flow.test_evaluation import evaluate, kitti

pytestmark = pytest.mark.usefixtures("for_cpu")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of a shrunk model with a checkpoint, and its metrics on a tiny KITTI."""
    folder = tmp_path_factory.mktemp("run")
    config = configuration.overridden(experiments.shrink(experiments.load("optical_flow", "small")))
    parts = setup.build_parts(config)
    state = new_state(parts)
    write_run(folder, config, [state])
    trained = parts.model, state.params, state.model_state
    dataset = kitti(folder / "kitti")
    result = evaluate(dataset, "train", trained, task=parts.task, tile_size=(16, 16))
    return folder, result.metrics


def of_kitti(folder):
    return f"--config.data.root={folder / 'kitti'}", "--config=configs/optical_flow.py:kitti_2015"


@pytest.mark.slow
def test_the_program_with_more_processes_than_pairs(run_folder, start):
    folder, expected = run_folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    several = [f"--coordinator_address=127.0.0.1:{port}", "--num_processes=3"]
    arguments = command("evaluate", folder, "--split=train", "--json", *of_kitti(folder), *several)
    processes = [start([*arguments, f"--process_id={i}"]) for i in range(3)]
    # Libraries log their connections.
    first, *others = [
        [line for line in finish(process).splitlines() if line.startswith("{")]
        for process in processes
    ]
    assert others == [[], []]
    result = json.loads(*first)
    assert result["step"] == 7
    assert result["metrics"]["train_whole"] == pytest.approx(expected, rel=1e-4)
    assert (folder / "evaluation" / "kitti_2015_7" / "train_whole_examples.png").is_file()


@pytest.mark.slow
def test_the_motorcycle(run_folder):
    folder, _ = run_folder
    config, overlap = "configs/optical_flow.py:motorcycle", "--config.task.overlap=0"
    subject = evaluation.of_run(folder, "best", config, [overlap])
    table = evaluation.evaluate(subject, folder).text.splitlines()
    assert table[2].split() == ["test", "test_whole"]
    _, crops, whole = next(line for line in table if line.startswith("epe ")).split()
    assert 0 < float(whole) != float(crops) > 0
    assert any(line.startswith("epe_s40 ") for line in table)
    assert (folder / "evaluation" / "motorcycle_overlap0_7" / "test_whole_examples.png").is_file()


@pytest.mark.slow
def test_the_program_writes_for_a_server(tmp_path, run_folder, start):
    folder, _ = run_folder
    flags = (*of_kitti(folder), "--split=test", f"--submission={tmp_path}", "--json")
    summary = json.loads(finish(start(command("evaluate", folder, *flags))))
    assert summary == {"step": 7, "submission": str(tmp_path), "files": 2}
    assert len(list(tmp_path.glob("flow/*.png"))) == 2


@pytest.mark.slow
def test_the_program_with_published_weights(tmp_path, start):
    given = trained(dict(FLOW, channels=64, num_bands=64))
    published = Weights(given.section, given.params, given.state, given.preparation)
    save_huggingface(tmp_path / "published", published)
    weights = f"--weights={tmp_path / 'published'}"
    expected = evaluate(kitti(tmp_path / "kitti"), "train", given[:3])
    data = f"--config.data.root={tmp_path / 'kitti'}"
    config = "--config=configs/optical_flow.py:kitti_2015"
    flags = (weights, config, data, "--config.evaluation.batch_size=8", "--json")
    result = json.loads(finish(start(command("evaluate", tmp_path / "run", *flags))))
    assert result["weights"] == str(tmp_path / "published")
    assert result["metrics"]["train_whole"] == pytest.approx(expected.metrics, rel=1e-4)
    assert list((tmp_path / "run" / "evaluation" / "kitti_2015_published").glob("*.png"))
    with pytest.raises(UserError, match="needs a dataset to be evaluated on: add --config"):
        evaluation.of_weights(str(tmp_path / "published"), "best", None, ())


def test_settings_of_another_task(tmp_path):
    config = experiments.load("quickstart", None)
    (tmp_path / "config.json").write_text(config.to_json())
    state = TrainState(jnp.int32(0), {"linear": {"w": jnp.ones(3)}}, {}, (), None)
    write_checkpoints(tmp_path, config, [state])
    with pytest.raises(UserError, match="config.task.overlap is not a key of the config"):
        evaluation.of_run(tmp_path, "best", None, ["--config.task.overlap=3"])
    with pytest.raises(UserError, match="is none for the task image_classification: leave it out"):
        evaluation.submit(evaluation.of_run(tmp_path, "best", None, ()), tmp_path / "answers")
