"""The model of sounds that comes with the package: `bundled:sound`."""

import pytest

from perceiver_io.runtime import configuration, evaluation, weights

pytestmark = pytest.mark.usefixtures("for_cpu")

CONFIG = configuration.load("configs/audioset.py:small", ["--config.data.num_workers=0"])


@pytest.mark.slow
def test_it_is_the_model_of_its_config():
    loaded = weights.load("bundled:sound")
    assert loaded.model == CONFIG.model.to_dict()
    files = list(weights.locate("bundled:sound").iterdir())
    assert sum(file.stat().st_size for file in files) < 1e6


@pytest.mark.slow
def test_it_tags_sounds_that_it_was_not_trained_on(tmp_path):
    subject = evaluation.of_weights("bundled:sound", "best", "configs/audioset.py:small", ())
    subject.config.evaluation.splits = ("test",)
    subject.config.data.num_workers = 0
    metrics = evaluation.evaluate(subject, tmp_path).summary["metrics"]["test"]
    assert metrics["map"] == pytest.approx(0.6216, abs=0.01)
    # The most frequent of the eight kinds is a fifth of the sounds.
    assert metrics["top_1"] == pytest.approx(0.517, abs=0.05)
