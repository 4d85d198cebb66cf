"""Classification of point clouds: voting against NumPy, figures, predictions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perceiver_io.data.points.clouds import AugmentedCopies
from perceiver_io.data.points.furniture import furniture
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.tasks.evaluation import BatchEvaluator
from perceiver_io.tasks.point_cloud_classification.figures import view
from perceiver_io.tasks.point_cloud_classification.prediction import PointCloudClassifier
from perceiver_io.tasks.point_cloud_classification.task import PointCloudClassification
from perceiver_io.tasks.point_cloud_classification.voting import voting_evaluator
from perceiver_io.tasks.predictor import Trained
from tests.helpers import oracles
from tests.helpers.meshes import BOX
from tests.helpers.sections import core
from tests.helpers.strategies import mesh_of_one_device

pytestmark = pytest.mark.usefixtures("for_cpu")

SECTION = dict(
    name="perceiver_io_classifier",
    num_classes=11,
    inputs=dict(name="fourier_points", num_points=16, num_bands=3, max_frequency=4),
    **core(num_layers=1),
)
TASK = PointCloudClassification(11)


@pytest.fixture(scope="module")
def dataset():
    return furniture(num_points=16, max_rotation=30.0, axis_scale=(0.5, 2.0))


@pytest.fixture(scope="module")
def trained(dataset):
    model = build(SECTION)
    params, state = oracles.random_params_and_state(model.init, inputs=jnp.zeros((1, 16, 3)))
    preparation = dataset.for_prediction()
    return Trained(model, params, state, SECTION, dataset.class_names, preparation)


def logits_of(trained, points):
    model, params, state = trained[:3]
    apply = jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False)[0])
    return apply(points)


@pytest.mark.slow
def test_votes_are_the_mean_of_probabilities(dataset, trained):
    strategy = mesh_of_one_device()
    single = BatchEvaluator(TASK, dataset, "validation", 16)
    parts = (trained.model, trained.params, trained.state, strategy)
    alone = single(*parts).metrics
    result = voting_evaluator(single, 3)(*parts)
    assert set(result.metrics) == set(alone) <= set(single.metric_names(trained.model))
    assert result.metrics != alone and "examples" not in result.figures

    copies = dataclasses.replace(dataset, preparation=AugmentedCopies(dataset.preparation, 3))
    (batch,) = copies.load("validation", batch_size=52, training=False, seed=0, shard=(0, 1))
    logits = logits_of(trained, batch["points"].reshape(-1, 16, 3)).reshape(52, 3, 11)
    mean = scipy.special.softmax(logits, -1).mean(1)
    label = batch["label"]
    assert result.metrics["top_1"] == pytest.approx((mean.argmax(-1) == label).mean())
    targets = 0.9 * np.eye(11)[label] + 0.1 / 11
    expected = -(targets * np.log(mean)).sum(-1).mean()
    assert result.metrics["loss"] == pytest.approx(expected, rel=1e-5)


def test_splits_are_evaluated_apart_from_votes(dataset):
    config = {"data": {"name": "furniture"}, "evaluation": {"splits": ("test",), "batch_size": 8}}
    assert set(TASK.evaluators(config)) == {"test"}
    voting = dataclasses.replace(TASK, votes=10).evaluators(config)
    assert set(voting) == {"test", "test_voting"}
    assert voting["test_voting"].batches.dataset.preparation.copies == 10


def test_figure_of_clouds_with_answers(dataset):
    batch = next(iter(dataset.load("test", batch_size=8, training=False, seed=0, shard=(0, 1))))
    batch["valid"][6:] = False
    logits = 5 * np.eye(11)[batch["label"]]
    figure = TASK.figure(logits, batch, dataset)
    FigureCanvasAgg(figure).draw()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 6
    assert titles[0].startswith(f"\N{CHECK MARK} {dataset.class_names[batch['label'][0]]}")
    for axes in figure.axes[:6]:
        assert len(axes.collections[0].get_offsets()) == 16


@pytest.mark.parametrize(("up", "axis"), [("y", 1), ("z", 2)])
def test_clouds_are_drawn_upright(up, axis):
    basis = np.eye(3)
    right, height, away = view(basis, up)
    assert height[axis] == max(height) > 0.9 and right[axis] == 0
    np.testing.assert_allclose(np.stack([right, height, away]) @ np.stack([right, height, away]).T,
                               np.eye(3), atol=1e-12)  # fmt: skip
    # Seen from above, what is higher is nearer; the handedness is kept.
    assert away[axis] < 0 and np.linalg.det(np.stack([right, height, -away])) > 0.99


@pytest.mark.slow
def test_predictions_of_arrays_and_files_agree(dataset, trained, tmp_path):
    clouds = [cloud.points for cloud in dataset.source("test")[:3]]
    predictor = PointCloudClassifier(trained)
    top = predictor.predict(clouds, top_k=2, batch_size=2)
    assert top.classes.shape == top.probabilities.shape == (3, 2)
    batch = next(iter(dataset.load("test", batch_size=3, training=False, seed=0, shard=(0, 1))))
    probabilities = scipy.special.softmax(logits_of(trained, batch["points"]), -1)
    np.testing.assert_array_equal(top.classes[:, 0], probabilities.argmax(-1))
    np.testing.assert_allclose(top.probabilities[:, 0], probabilities.max(-1), rtol=1e-5)
    np.save(tmp_path / "cloud.npy", clouds[1])
    one = predictor.predict(tmp_path / "cloud.npy", top_k=2)
    np.testing.assert_array_equal(one.classes, top.classes[1:2])
    assert predictor.predict(np.stack(clouds)).classes.shape == (3, 5)


def test_predictions_are_written_for_meshes_and_folders(trained, tmp_path):
    folder = tmp_path / "clouds"
    folder.mkdir()
    (folder / "box.off").write_text(BOX)
    (folder / "bad.off").write_text("OFF")
    (folder / "notes.txt").write_text("")
    predictor = PointCloudClassifier(trained)
    report = predictor.write(tmp_path, inputs=[str(folder)], top_k=3)
    (answer,) = report.summary["clouds"]
    assert answer["input"].endswith("box.off") and len(answer["classes"]) == 3
    assert (tmp_path / "box_classes.png").stat().st_size > 5000
    assert report.summary["unreadable"] == [str(folder / "bad.off")]
    assert "skipped 1 of 2 clouds" in report.text
    with pytest.raises(UserError, match="Cannot read .*bad.off"):
        predictor.write(tmp_path, inputs=[str(folder / "bad.off")])
    with pytest.raises(UserError, match="There is no|no such file"):
        predictor.write(tmp_path, inputs=[str(tmp_path / "none")])
    with pytest.raises(UserError, match="has no files .obj, .off"):
        predictor.write(tmp_path, inputs=[str(tmp_path / "clouds" / "..")])
