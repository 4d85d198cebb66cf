"""Attention figures of each task's predictions."""

import numpy as np
import pytest
from PIL import Image

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.tasks.image_classification.prediction import ImageClassifier
from perceiver_io.tasks.masked_lm.prediction import MaskFiller
from perceiver_io.tasks.multimodal_autoencoding.prediction import VideoAutoencoder
from perceiver_io.tasks.optical_flow.prediction import FlowEstimator
from perceiver_io.tasks.optical_flow.tiling import TiledFlow
from tests.helpers.predictions import (
    AUTOENCODER,
    CLASSIFIER,
    FLOW,
    LANGUAGE,
    picture,
    size_of,
    trained,
    untrained,
    video_file,
)
from tests.tasks.test_attention import ORIGINAL

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("for_cpu")]

CONVNET = dict(name="convnet_classifier", num_classes=5, widths=(4, 4), image_size=(8, 8))


def images_in(folder, *sizes):
    paths = [folder / f"{index}.png" for index in range(len(sizes))]
    for seed, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        Image.fromarray(picture(*size, seed)).save(path)
    return list(map(str, paths))


def is_picture(path, folder, name):
    with Image.open(path) as image:
        assert len(np.unique(np.asarray(image.convert("L")))) > 20
    return path == str(folder / f"{name}.png") and min(size_of(path)) > 200


@pytest.mark.parametrize("section", [CLASSIFIER, ORIGINAL])
def test_attention_of_classifiers(tmp_path, section):
    inputs = images_in(tmp_path, (30, 20), (16, 40))
    result = ImageClassifier(trained(section)).write(tmp_path, inputs=inputs, attention=True)
    for index, answer in enumerate(result.summary["images"]):
        assert is_picture(answer["attention"], tmp_path, f"attention_{index}")


def test_a_model_without_cross_attention(tmp_path):
    section = dict(CONVNET, inputs=dict(image_size=(8, 8)))
    model = ImageClassifier(untrained(section, build(CONVNET)))
    with pytest.raises(UserError, match="convnet_classifier has no cross-attention"):
        model.write(tmp_path, inputs=images_in(tmp_path, (9, 9)), attention=True)


def test_attention_of_flow(tmp_path):
    section = dict(FLOW, name="perceiver_io_flow_conv")
    del section["neighbourhood"]
    inputs = images_in(tmp_path, (11, 40), (11, 40))
    result = FlowEstimator(trained(section)).write(tmp_path, inputs=inputs, attention=True)
    assert is_picture(result.summary["attention"], tmp_path, "attention_0")
    assert result.summary["attention"] in result.text


def test_attention_of_flow_with_separate_frames(tmp_path):
    section = dict(FLOW, name="perceiver_io_flow_separate")
    inputs = images_in(tmp_path, (16, 24), (16, 24))
    result = FlowEstimator(trained(section)).write(tmp_path, inputs=inputs, attention=True)
    height = size_of(result.summary["attention"])[1]
    result = FlowEstimator(trained(FLOW)).write(tmp_path, inputs=inputs, attention=True)
    assert is_picture(result.summary["attention"], tmp_path, "attention_0")
    assert height > size_of(result.summary["attention"])[1] + 100


def test_the_middle_tile():
    frames = np.stack([picture(20, 60, seed) for seed in (0, 1)])
    tiled = TiledFlow(None, {}, {}, tile_size=(8, 16), batch_size=1, overlap=0)
    tile, place = tiled.middle_tile(*frames)
    assert place == (slice(8, 16), slice(16, 32))
    np.testing.assert_allclose(tile, frames[:, *place] / 127.5 - 1, atol=1e-6)


def test_attention_of_texts(tmp_path):
    """A long text has several lines."""
    lengths = [words * "words " + "[MASK:4]" for words in (10, 30)]
    texts = ["a [MASK:3] $b_{}^2$", "\u00dcber\x1b [MASK:30]" + 20 * "x", *lengths]
    model = MaskFiller(trained(dict(LANGUAGE, max_length=256)))
    answers = model.write(tmp_path, text=texts, attention=True).summary["texts"]
    for number, answer in enumerate(answers, 1):
        assert is_picture(answer["attention"], tmp_path, f"attention_{number}")
    shorter, longer = (size_of(answer["attention"])[1] for answer in answers[2:])
    assert longer > 1.8 * shorter


def test_attention_of_an_autoencoder(tmp_path):
    source = video_file(tmp_path / "video.mp4", 6)
    result = VideoAutoencoder(trained(AUTOENCODER)).write(tmp_path, inputs=[source], attention=True)
    (answer,) = result.summary["videos"]
    assert is_picture(answer["attention"], tmp_path, "attention_video")
    assert answer["attention"] in result.text
