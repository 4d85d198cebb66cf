"""Prediction of brightness, in Python and with `experiments.predict`."""

import functools

import jax
import numpy as np

from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.tasks.predictor import Predictor, Report


class BrightnessEstimator(Predictor):
    """Predicts the brightness of grey images of 8x8 pixels."""

    def predict(self, images):
        """The brightness [N] of images [N, 8, 8, 1]."""
        return estimate(self.trained.model, self.trained.params, self.trained.state, images)

    def write(self, output, *, inputs):
        """Only the summary, for files of 8x8 pixels."""
        del output
        found = self.predict(np.stack([read_image(path)[..., :1] for path in inputs])).tolist()
        return Report("\n".join(map(str, found)), {"brightness": found})


def estimate(model, params, state, images):
    """The function shared by evaluation and prediction."""
    return np.asarray(_outputs(model, params, state, images.astype(np.float32))[:, 0])


@functools.partial(jax.jit, static_argnums=0)
def _outputs(model, params, state, images):
    return model.apply(params, state, None, inputs=images, is_training=False)[0]
