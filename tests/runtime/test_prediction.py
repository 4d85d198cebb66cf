"""Trained weights in Python: `perceiver_io.load` against `experiments.predict`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import perceiver_io
from perceiver_io.data.flow.files import read_flo
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.data.text.tokenizers import encode_masked
from perceiver_io.data.video.clips import pieces
from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.safetensors_files import read_folder, write_folder
from perceiver_io.runtime import evaluation, prediction, weights
from perceiver_io.runtime.export import export
from scripts import check_parity
from tests.helpers import oracles
from tests.helpers.predictions import picture, video_file

pytestmark = pytest.mark.slow

GOLDENS = Path(__file__).parents[1] / "goldens" / "huggingface"


def written(task, golden, folder, **flags):
    """The results of `experiments.predict` for files."""
    path = str(GOLDENS / golden)
    return prediction.write(task, path, str(folder / "out"), flags, {}).summary


def images(folder, *sizes):
    arrays = [picture(*size, seed) for seed, size in enumerate(sizes)]
    paths = [folder / f"{index}.png" for index in range(len(sizes))]
    for path, array in zip(paths, arrays, strict=True):
        Image.fromarray(array).save(path)
    return arrays, list(map(str, paths))


def test_arrays_and_files_give_the_same_classes(tmp_path):
    model = perceiver_io.load(GOLDENS / "image_learned")
    arrays, paths = images(tmp_path, (30, 40), (50, 20), (24, 24))
    answers = written("classify", "image_learned", tmp_path, inputs=paths, top_k=3)["images"]
    expected = [[entry["probability"] for entry in answer["classes"]] for answer in answers]
    for given in (arrays, paths):
        found = model.predict(given, top_k=3, batch_size=2)
        oracles.assert_close(found.probabilities, np.float32(expected))
        names = [[model.class_names[index] for index in row] for row in found.classes]
        assert names == [[entry["name"] for entry in answer["classes"]] for answer in answers]
    single = model.predict(arrays[1], top_k=99)
    assert single.classes.shape == (1, 7)  # all classes
    oracles.assert_close(single.probabilities[0, :3], np.float32(expected[1]))
    assert model.predict([]).probabilities.shape == (0, 5)


def test_grey_images_are_images_and_other_arrays_are_not():
    model = perceiver_io.load(GOLDENS / "image_learned")
    grey = picture(30, 40)[..., 0]
    both = model.predict([grey, np.repeat(grey[..., None], 3, axis=2)])
    oracles.assert_close(both.probabilities[0], both.probabilities[1])
    for wrong in (grey[..., None] / 255, picture(30, 40)[..., :2], np.zeros((0, 3, 3), np.uint8)):
        with pytest.raises(UserError, match=r"must be uint8 \[height, width, 3\]"):
            model.predict([wrong])


def test_arrays_and_files_give_the_same_flow(tmp_path):
    model = perceiver_io.load(GOLDENS / "optical_flow")
    arrays, paths = images(tmp_path, (20, 30), (20, 30))
    (file,) = written("flow", "optical_flow", tmp_path, inputs=paths, overlap=5)["flow"]
    expected = read_flo(file).flow
    for given in (arrays, np.stack(arrays), paths, [x / np.float32(127.5) - 1 for x in arrays]):
        found = model.predict(given, overlap=5, batch_size=2)
        assert found.shape == (1, 20, 30, 2)
        oracles.assert_close(found[0], expected)
    video = model.predict([*arrays, arrays[0]], overlap=5)
    assert video.shape == (2, 20, 30, 2)
    oracles.assert_close(video[0], expected)
    for one in (arrays[:1], paths[0]):
        with pytest.raises(UserError, match="only one frame|FFmpeg cannot read"):
            model.predict(one)


def test_arrays_and_texts_are_filled_in_alike(tmp_path):
    model = perceiver_io.load(GOLDENS / "masked_lm")
    texts = ["The sky is [MASK:4].", "[MASK] \u00dcbermut"]
    answers = written("fill_mask", "masked_lm", tmp_path, text=texts, top_k=2, steps=3)["texts"]
    (tmp_path / "lines.txt").write_text("\n".join(texts), encoding="utf-8")
    ids = [encode_masked(ByteTokenizer(), text) for text in texts]
    for given in (texts, ids, tmp_path / "lines.txt", [texts[0], ids[1]]):
        for found, answer in zip(model.predict(given, top_k=2, steps=3), answers, strict=True):
            places = answer["candidates"]
            assert found.text == ByteTokenizer().decode(found.ids) == answer["filled"]
            assert found.positions.tolist() == [place["position"] for place in places]
            expected = [[x["byte"] for x in place["bytes"]] for place in places]
            np.testing.assert_array_equal(found.candidates, expected)
            expected = [[x["probability"] for x in place["bytes"]] for place in places]
            oracles.assert_close(found.probabilities, np.float32(expected))


def test_arrays_and_files_give_the_same_video(tmp_path):
    model = perceiver_io.load(GOLDENS / "multimodal")
    source = video_file(tmp_path / "video.mp4", 6)
    (answer,) = written("autoencode", "multimodal", tmp_path, inputs=[source])["videos"]
    found = model.predict(source)
    clips = list(pieces(source, size=(16, 16), num_frames=4, samples_per_frame=32))
    frames = np.concatenate([clip.frames[: clip.num_frames] for clip in clips])
    sound = np.concatenate([clip.audio[: 32 * clip.num_frames] for clip in clips])
    for one, other in zip(found, model.predict(frames, sound, chunk_size=100), strict=True):
        oracles.assert_close(one, other)
    assert found.image.shape == (6, 16, 16, 3) and found.audio.shape == (192, 1)
    assert found.label.sum() == pytest.approx(1, abs=1e-5)
    originals = {"image": (frames / 255, found.image, 0), "audio": (sound, found.audio, -1)}
    for name, (original, ours, least) in originals.items():
        error = np.mean((np.clip(ours, least, 1) - original) ** 2)
        assert answer["psnr"][name] == pytest.approx(-10 * np.log10(error), abs=1e-3)
    # The mask tokens of published weights were never trained.
    silent, without = model.predict(frames, np.zeros_like(sound)), model.predict(frames)
    for one, other in zip(silent, without, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match=r"the model takes uint8 \[any number, 16, 16, 3\]"):
        model.predict(frames[:, 1:])
    with pytest.raises(UserError, match=r"\[5, 1\], but 6 frames need \[192, 1\]"):
        model.predict(frames, sound[:5])
    with pytest.raises(UserError, match="whose own sound is used"):
        model.predict(source, sound)


def test_images_are_prepared_as_the_folder_says(tmp_path):
    """The same numbers by hand: whole pixels, bilinear, its own mean and deviation."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDENS / "image_learned", folder, copy_function=shutil.copyfile)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    processor = dict(
        image_processor_type="PerceiverImageProcessor",
        size={"height": 24, "width": 24},
        crop_size={"height": 32, "width": 32},
        resample=2,
        image_mean=mean,
        image_std=std,
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    image = picture(45, 61)
    seen = Image.fromarray(image[6:39, 14:47]).resize((24, 24), Image.Resampling.BILINEAR)
    inputs = ((np.asarray(seen) / 255 - mean) / std).astype(np.float32)
    golden = weights.load(GOLDENS / "image_learned")
    logits = check_parity.run(golden, inputs[None])
    expected = np.asarray(jax.nn.softmax(logits[0]))
    found = perceiver_io.load(folder).predict(image, top_k=7)
    oracles.assert_close(found.probabilities[0], expected[found.classes[0]])
    other = perceiver_io.load(GOLDENS / "image_learned").predict(image, top_k=7)
    assert np.abs(found.probabilities - other.probabilities).max() > 1e-3
    processor["size"] = processor["crop_size"]
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    with pytest.raises(UserError, match=r"as \[32, 32, 3\], but the model takes \[24, 24, 3\]"):
        perceiver_io.load(folder)


def test_an_export_says_how_images_are_prepared(tmp_path):
    """What is said of images passes on, ImageNet's numbers where nothing was said."""
    first, second = tmp_path / "first", tmp_path / "second"
    export(str(GOLDENS / "image_learned"), str(first))
    export(str(first), str(second))
    files = [json.loads((x / "preprocessor_config.json").read_text()) for x in (first, second)]
    assert files[0]["image_mean"] == files[1]["image_mean"] == [0.485, 0.456, 0.406]
    assert files[0]["resample"] == files[1]["resample"] == 3


def test_weights_that_are_not_finite(tmp_path):
    config, arrays = read_folder(GOLDENS / "image_learned")
    name = "perceiver.embeddings.latents"
    arrays[name] = np.full_like(arrays[name], np.nan)
    write_folder(tmp_path / "model", config, arrays)
    for load in (perceiver_io.load, weights.load):
        with pytest.raises(UserError, match=r"NaN or infinity in 1 of \d+ .*encoder/latents"):
            load(tmp_path / "model")


def test_weights_determine_their_task(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="perceiver_io_flow, .* use --task=optical_flow"):
        prediction.load(GOLDENS / "optical_flow", "classify")
    for name in ("flow", "optical_flow", None):
        assert prediction.load(GOLDENS / "optical_flow", name).trained.class_names is None
    texts = GOLDENS / "sequence_classification"
    assert prediction.load(texts, "classify_text").predict("A text.").probabilities.shape[0] == 1
    monkeypatch.delitem(prediction.PREDICTORS, "text_classification")
    with pytest.raises(UserError, match="perceiver_io_text_classifier, which no task takes"):
        perceiver_io.load(texts)
    with pytest.raises(UserError, match="no weights at"):
        perceiver_io.load(tmp_path / "nowhere")


def test_bundled_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path)
    with pytest.raises(UserError, match=r"no bundled weights 'flow'; there are none\."):
        perceiver_io.load("bundled:flow")
    shutil.copytree(GOLDENS / "optical_flow", tmp_path / "flow")
    frames = np.stack([picture(16, 24, seed) for seed in (0, 1)])
    found = perceiver_io.load("bundled:flow").predict(frames)
    expected = perceiver_io.load(GOLDENS / "optical_flow").predict(frames)
    np.testing.assert_array_equal(found, expected)
    config = "configs/optical_flow.py:motorcycle"
    subject = evaluation.of_weights("bundled:flow", "best", config, ())
    assert subject.path == tmp_path / "flow" and subject.config.model.image_size == (16, 24)
    with pytest.raises(UserError, match=r"'flwo' \(did you mean 'flow'\?\); there are flow\."):
        perceiver_io.load("bundled:flwo")


def test_importing_the_package_is_light():
    code = "import sys, perceiver_io; print([x for x in ('jax', 'numpy') if x in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
