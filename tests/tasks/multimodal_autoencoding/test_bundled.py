"""The autoencoder that comes with the package: `bundled:autoencoder`."""

import pytest

from perceiver_io.runtime import configuration, evaluation, weights

pytestmark = pytest.mark.usefixtures("for_cpu")

CONFIG = configuration.load("configs/kinetics.py:small", ["--config.data.num_workers=0"])


@pytest.mark.slow
def test_it_is_the_model_of_its_config():
    loaded = weights.load("bundled:autoencoder")
    assert loaded.model == CONFIG.model.to_dict()
    files = list(weights.locate("bundled:autoencoder").iterdir())
    assert sum(file.stat().st_size for file in files) < 2e6


@pytest.mark.slow
def test_it_reconstructs_clips_that_it_was_not_trained_on(tmp_path):
    subject = evaluation.of_weights("bundled:autoencoder", "best", "configs/kinetics.py:small", ())
    subject.config.evaluation.splits = ("test",)
    subject.config.task.also_given = ()
    subject.config.data.num_workers = 0
    metrics = evaluation.evaluate(subject, tmp_path).summary["metrics"]["test"]
    # The mean frame of each video's training clips has 18.3 dB, silence 35.8 dB.
    assert metrics["video_psnr"] == pytest.approx(19.58, abs=0.05)
    assert metrics["audio_psnr"] == pytest.approx(37.18, abs=0.05)
