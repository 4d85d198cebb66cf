"""The optical flow task: losses and metrics against numbers computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.motorcycle import motorcycle
from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss, measures
from perceiver_io.tasks.optical_flow.task import OpticalFlow

TASK = OpticalFlow(loss_name="end_point")
MOTORCYCLE = motorcycle(
    num_workers=0, image_size=(4, 6), plain_examples=0, growth_examples=0, augmentation=None
)


def batch_of(flow, valid=None, examples=None, **more):
    flow = np.asarray(flow, np.float32)
    return {
        "frames": np.zeros((len(flow), 2, *flow.shape[1:3], 3), np.uint8),
        "flow": flow,
        "flow_valid": np.ones(flow.shape[:3], bool) if valid is None else np.array(valid),
        "valid": np.ones(len(flow), bool) if examples is None else np.array(examples),
        **more,
    }


def means(outputs, batch, task=TASK):
    return {
        name: float(total / count) if count else None
        for name, (total, count) in measures(task, jnp.asarray(outputs, jnp.float32), batch).items()
    }


def test_metrics_of_four_pixels():
    # Lengths 0, 20, 50 and 100; errors 5, 0.5, 2 and 4 pixels.
    flow = np.array([[[[0, 0], [20, 0], [30, 40], [0, 100]]]])
    outputs = flow + np.array([[3, 4], [0, 0.5], [-2, 0], [0, 4]])
    occluded = np.array([[[True, False, False, False]]])
    result = means(outputs, batch_of(flow, occluded=occluded))
    expected = dict(
        loss=11.5 / 4 / 20,
        epe=11.5 / 4,
        epe_per_pair=11.5 / 4,
        **{"1px": 0.75, "3px": 0.5, "5px": 0.0},
        # 4 pixels are less than 5% of 100.
        fl_all=0.25,
        epe_s0_10=5,
        epe_s10_40=0.5,
        epe_s40=3,
        epe_matched=6.5 / 3,
        epe_unmatched=5,
    )
    assert result == pytest.approx(expected, abs=1e-6)


def test_unknown_pixels_and_padding_are_ignored():
    flow = np.zeros((3, 1, 2, 2))
    flow[0, 0, 1] = np.nan
    flow[2] = np.inf
    outputs = np.zeros((3, 1, 2, 2))
    outputs[0, 0, 0] = (0, 6)
    outputs[1, 0] = (2, 0)
    valid = [[[True, False]], [[True, True]], [[True, True]]]
    batch = batch_of(flow, valid, examples=[True, True, False])
    result = means(outputs, batch)
    assert result["epe"] == pytest.approx((6 + 2 + 2) / 3)
    assert result["epe_per_pair"] == pytest.approx((6 + 2) / 2)
    assert result["epe_s40"] is None
    gradient = jax.grad(lambda x: batch_loss(TASK, x, batch))(jnp.asarray(outputs, jnp.float32))
    assert np.isfinite(gradient).all()
    assert not gradient[2].any() and not gradient[0, 0, 1].any()
    np.testing.assert_allclose(gradient[0, 0, 0], (0, 1 / 3 / 20), atol=1e-6)


@pytest.mark.parametrize(
    "name,loss", [("end_point", 0.25), ("l1", 0.35), ("robust", (0.35 + 0.01) ** 0.4)]
)
def test_losses(name, loss):
    task = OpticalFlow(loss_name=name)
    batch = batch_of(np.zeros((1, 1, 1, 2)))
    value = batch_loss(task, jnp.array([[[[3.0, -4.0]]]]), batch)
    assert float(value) == pytest.approx(loss, rel=1e-5)
    perfect = jax.grad(lambda x: batch_loss(task, x, batch))(jnp.zeros((1, 1, 1, 2)))
    assert np.isfinite(perfect).all()


def test_frames_are_scaled():
    batch = batch_of(np.zeros((1, 2, 2, 2)))
    batch["frames"][0, 1] = 255
    inputs = TASK.model_inputs(batch)["inputs"]
    assert inputs.shape == (1, 2, 2, 2, 3)
    assert float(inputs[0, 0].max()) == -1 and float(inputs[0, 1].min()) == 1


def test_unknown_loss():
    with pytest.raises(UserError, match="'robus', which must be one of end_point, l1, robust"):
        construct(OpticalFlow, dict(loss_name="robus"), "config.task")


def test_figure_shows_pairs_with_their_errors():
    flow = np.zeros((5, 4, 6, 2))
    outputs = np.zeros((5, 4, 6, 2), np.float32)
    outputs[4] = (3, 4)
    valid = np.ones((5, 4, 6), bool)
    valid[0] = False
    batch = batch_of(flow, valid, examples=[True, True, False, True, True])
    figure = TASK.figure(outputs, batch, MOTORCYCLE)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title().startswith("error")]
    assert titles == [
        "error, unknown",
        "error, 0.00 px on average",
        "error, 0.00 px on average",
        "error, 5.00 px on average",
    ]
