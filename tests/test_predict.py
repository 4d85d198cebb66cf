"""Predictions for a person: tiny models of random weights, inputs that are made here."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from experiments import setup, weights
from experiments.predictions import autoencode, classify, figures, fill_mask, flow
from experiments.predictions.common import Progress, Trained, create_folder, unique_names
from experiments.predictions.film_record import FilmRecord, SquaredError, envelope
from experiments.predictions.kinds import KINDS, check_flags, check_model
from perceiver_io.data.flow_files import read_flo
from perceiver_io.data.image_sequence import read_image
from perceiver_io.data.imagenet_classes import imagenet_class_names
from perceiver_io.data.video import Clip, pieces, read_frames
from perceiver_io.data.video_writer import VideoWriter
from perceiver_io.errors import UserError
from perceiver_io.inference.autoencode import Reconstruction, reconstruct
from perceiver_io.models.builders import build
from perceiver_io.pretrained.weights import Weights, example_inputs
from perceiver_io.training.checkpoint import Checkpoints
from perceiver_io.training.state import initial_state, names
from tests import experiments, oracles, tiny

GOLDENS = Path(__file__).parent / "goldens"
ROOT = Path(__file__).parent.parent

CORE = dict(
    encoder=dict(
        num_latents=6,
        latent_dim=16,
        num_blocks=1,
        cross_attend=dict(num_heads=1, use_query_residual=True),
        latent_stack=dict(num_layers=1, num_heads=2),
    ),
    decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=False)),
    attention=dict(key_chunk_size=None, fold_projections=True),
    compute_dtype="float32",
)
CLASSIFIER = dict(
    CORE,
    name="perceiver_io_classifier",
    num_classes=1000,
    inputs=dict(name="fourier_pixels", image_size=(16, 16), num_bands=3),
)
LANGUAGE = dict(
    CORE, name="perceiver_io_masked_lm", vocab_size=262, max_length=64, embedding_dim=12
)
FLOW = dict(
    CORE, name="perceiver_io_flow", image_size=(16, 24), neighbourhood=3, channels=8, num_bands=3
)
AUTOENCODER = dict(
    CORE,
    name="perceiver_io_autoencoder",
    image=dict(shape=(4, 8, 12), patch_size=(4, 4), resolution=(4, 8, 12), num_bands=2),
    audio=dict(num_samples=160, samples_per_patch=8, num_bands=2),
    label=dict(num_classes=6, query_dim=8),
    output_dim=12,
)


def trained(section, **settings):
    model = build(section)
    params, state = oracles.random_params_and_state(model.init, inputs=example_inputs(section))
    names = settings.pop("class_names", None)
    return Trained(model, Weights(section, params, state, names), settings.pop("dataset", None))


def applied(model, inputs):
    def apply(params, state, inputs):
        return model.model.apply(params, state, None, inputs=inputs, is_training=False)[0]

    return jax.jit(apply)(model.weights.params, model.weights.model_state, inputs)


def picture(height, width, seed=0):
    """Smooth colours, so that a resized image is hardly another one."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [np.sin(3 * x + seed), np.cos(4 * y + seed), np.sin(5 * (x + y))]
    return np.rint(127.5 + 127.5 * np.stack(waves, -1)).astype(np.uint8)


def film(path, num_frames, height=20, width=30):
    frames = np.stack([picture(height, width, seed=0.2 * i) for i in range(num_frames)])
    tone = 0.5 * np.sin(2 * np.pi * 200 * np.arange(num_frames * 1920) / 48_000)
    with VideoWriter(path, frame_rate=25) as writer:
        writer.write(frames, tone.astype(np.float32)[:, None])
    return str(path)


def size_of(path):
    with Image.open(path) as image:
        return image.size


# Classification.


def test_classes_of_images_of_all_kinds(tmp_path):
    pixels = picture(90, 120)
    image = Image.fromarray(pixels)
    files = {name: tmp_path / "in" / name for name in ("a.png", "a.webp", "a.bmp", "deep.png")}
    (tmp_path / "in").mkdir()
    for path in files.values():
        image.save(path, **({"lossless": True} if path.suffix == ".webp" else {}))
    gray = np.asarray(image.convert("L"))
    Image.fromarray(gray.astype(np.uint16) * 257).save(files["deep.png"])
    Image.fromarray(gray).save(tmp_path / "in" / "shallow.png")
    model = trained(CLASSIFIER)
    result = classify.predict(model, tmp_path, inputs=[str(tmp_path / "in")], batch_size=2)
    answers = {Path(x["input"]).name: x for x in result.summary["images"]}
    assert set(answers) == {*files, "shallow.png"}
    # Kinds of file that keep all pixels give the same.
    found = {name: [x["probability"] for x in a["classes"]] for name, a in answers.items()}
    for one, other in (("a.png", "a.webp"), ("a.png", "a.bmp"), ("deep.png", "shallow.png")):
        oracles.assert_close(np.array(found[one]), np.array(found[other]))
    assert abs(found["deep.png"][0] - found["a.png"][0]) > 1e-4
    figure_paths = [x["figure"] for x in answers.values()]
    assert len(set(figure_paths)) == 5
    assert all(min(size_of(path)) > 200 for path in figure_paths)
    # The same by hand: the central seven eighths, resized as the publishers do, normalised by
    # ImageNet's mean and deviation.
    box = (60 - 39.375, 45 - 39.375, 60 + 39.375, 45 + 39.375)
    seen = np.asarray(image.resize((16, 16), Image.Resampling.BICUBIC, box=box)) / 255
    inputs = (seen - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = jax.nn.softmax(applied(model, inputs[None].astype(np.float32))[0])
    best = np.argsort(-expected)[:5]
    assert [x["index"] for x in answers["a.png"]["classes"]] == list(best)
    assert [x["name"] for x in answers["a.png"]["classes"]] == [
        imagenet_class_names()[k] for k in best
    ]
    oracles.assert_close(np.array(found["a.png"]), expected[best])
    assert f"{expected[best[0]]:.1%}" in result.text


def test_class_names_of_the_weights_come_first_and_numbers_last():
    few = dict(CLASSIFIER, num_classes=3)
    assert classify.class_names(trained(few, class_names=("a", "b", "c"))) == ("a", "b", "c")
    assert classify.class_names(trained(few)) == ("0", "1", "2")


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"Cannot decode image .*a\.png"):
        classify.predict(trained(CLASSIFIER), tmp_path, inputs=[str(tmp_path / "a.png")])


def test_transparent_parts_are_white_and_turned_images_upright(tmp_path):
    pixels = np.concatenate([picture(10, 20), np.zeros((10, 20, 1), np.uint8)], axis=-1)
    pixels[5:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:5] == 255).all()
    np.testing.assert_array_equal(image[5:], pixels[5:, :, :3])
    orientation = Image.Exif()
    orientation[0x0112] = 6  # turned a quarter to the left in the file
    turned = Image.fromarray(np.rot90(pixels[..., :3]))
    turned.save(tmp_path / "b.png", exif=orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), pixels[..., :3])


def test_long_names_stay_inside_the_figure():
    words = "American Staffordshire terrier, Staffordshire terrier, American pit bull terrier"
    figure = figures.classified_image(
        picture(50, 300), seen=(0, 0, 50, 50), title="a_$b$.png", probabilities=[(words, 0.5)]
    )
    _, bars = figure.axes
    (label,) = bars.get_yticklabels()
    assert label.get_text().startswith("American Staffordshire")
    assert max(map(len, label.get_text().split("\n"))) <= 26
    figure.draw_without_rendering()
    assert label.get_window_extent().x0 > figure.axes[0].get_window_extent().x1


# Filling masks.


def test_masks_are_filled_and_all_else_is_kept(tmp_path):
    lines = tmp_path / "texts.txt"
    lines.write_text("Übermut [MASK:2]!\n\n[MASK] end\n", encoding="utf-8")
    result = fill_mask.predict(
        trained(LANGUAGE),
        tmp_path,
        text=["The sky is [MASK:4]."],
        inputs=[str(lines)],
        top_k=3,
        batch_size=2,
    )
    texts = result.summary["texts"]
    assert [x["text"] for x in texts] == ["The sky is [MASK:4].", "Übermut [MASK:2]!", "[MASK] end"]
    assert [[p["is_filled"] for p in x["parts"]] for x in texts] == [
        [False, True, False],
        [False, True, False],
        [True, False],
    ]
    assert [p["text"] for p in texts[1]["parts"] if not p["is_filled"]] == ["Übermut ", "!"]
    # Places count bytes, of which Ü has two.
    assert [x["position"] for x in texts[1]["candidates"]] == [9, 10]
    best = bytes(x["bytes"][0]["byte"] for x in texts[0]["candidates"])
    assert texts[0]["filled"] == f"The sky is {best.decode(errors='replace')}."
    probabilities = [x["probability"] for x in texts[0]["candidates"][0]["bytes"]]
    assert len(probabilities) == 3 and probabilities == sorted(probabilities, reverse=True)
    assert result.text.startswith("The sky is «")


def test_batches_fill_as_single_texts_do(tmp_path):
    model = trained(LANGUAGE)
    texts = ["a [MASK]", "a longer text with [MASK:3]", "[MASK:2] b"]
    results = [
        fill_mask.predict(model, tmp_path, text=texts, batch_size=size).summary["texts"]
        for size in (1, 3)
    ]
    assert [x["filled"] for x in results[0]] == [x["filled"] for x in results[1]]


def test_what_is_filled_in_cannot_steer_the_terminal():
    place = {"position": 0, "bytes": [{"byte": 27, "probability": 1.0}]}
    part = {"text": "\x1b", "is_filled": True}
    shown = fill_mask._shown({"parts": [part], "candidates": [place]})
    assert shown.splitlines()[0] == "«\\x1B»" and "\x1b" not in shown
    assert "1Bh 100.0%" in shown


@pytest.mark.parametrize(
    "section, arguments, message",
    [
        (LANGUAGE, {}, "needs a text"),
        (LANGUAGE, {"text": ["abc"]}, "'abc' has nothing to fill in"),
        (LANGUAGE, {"text": ["a" * 60 + "[MASK:5]"]}, "Text 0 has 65 bytes, but at most 64"),
        (LANGUAGE, {"inputs": ["nowhere.txt"]}, "nowhere.txt: there is no such file"),
        (LANGUAGE, {"inputs": [str(ROOT)]}, "as text"),
        (LANGUAGE, {"text": ["[MASK]"], "batch_size": 0}, "batch_size=0"),
        (dict(LANGUAGE, vocab_size=300), {"text": ["[MASK]"]}, "300 token ids"),
    ],
)
def test_texts_that_cannot_be_filled(tmp_path, section, arguments, message):
    with pytest.raises(UserError, match=message):
        fill_mask.predict(Trained(None, Weights(section, {}, {}), None), tmp_path, **arguments)


# Flow.


def test_flow_of_two_images_smaller_than_a_tile(tmp_path):
    paths = [tmp_path / name for name in ("one.png", "two.png")]
    for seed, path in enumerate(paths):
        Image.fromarray(picture(11, 13, seed)).save(path)
    before = [path.read_bytes() for path in paths]
    model = trained(FLOW)
    result = flow.predict(model, tmp_path, inputs=list(map(str, paths)))
    assert result.summary["flow"] == [str(tmp_path / "one_flow.flo")]
    found = read_flo(tmp_path / "one_flow.flo").flow
    padded = [np.pad(picture(11, 13, s), ((0, 5), (0, 11), (0, 0)), "edge") for s in (0, 1)]
    inputs = np.stack(padded)[None].astype(np.float32) / 127.5 - 1
    expected = applied(model, inputs)
    oracles.assert_close(found, expected[0, :11, :13])
    assert size_of(tmp_path / "one_flow.png") == (13, 11)
    assert min(size_of(tmp_path / "one_figure.png")) > 200
    assert "film" not in result.summary
    # In the folder of its inputs it overwrites none.
    assert [path.read_bytes() for path in paths] == before


@pytest.mark.parametrize("as_folder", [True, False])
@pytest.mark.slow
def test_flow_of_a_film(tmp_path, as_folder):
    if as_folder:
        source = tmp_path / "film"
        source.mkdir()
        for index in range(4):
            Image.fromarray(picture(20, 30, 0.2 * index)).save(source / f"{index + 8}.png")
    else:
        source = film(tmp_path / "film.mp4", 4)
    frames = list(read_frames(source).frames)
    model = trained(FLOW)
    result = flow.predict(model, tmp_path, inputs=[str(source)], batch_size=3)
    assert len(result.summary["flow"]) == 3
    measured = flow._tiled_flow(model, 1)(frames[1], frames[2])
    oracles.assert_close(read_flo(tmp_path / "film_flow" / "00002.flo").flow, measured)
    beside = list(read_frames(result.summary["film"]).frames)
    assert [frame.shape for frame in beside] == [(20, 60, 3)] * 3
    left, right = np.split(beside[1].astype(int), 2, axis=1)
    with Image.open(tmp_path / "film_flow" / "00002.png") as colors:
        assert np.abs(right - np.asarray(colors)).mean() < 12
    assert np.abs(left - frames[1]).mean() < 12


@pytest.mark.parametrize(
    "inputs, message",
    [
        (["a.png", "b.png"], "different sizes: 8x9 and 8x10"),
        (["a.png"], "one frame only"),
        (["a.png", "b.png", "a.png"], "3 inputs"),
        (["a.png", "."], "2 inputs"),
        (["c.png", "a.png"], r"c\.png: there is no such"),
    ],
)
def test_no_flow(tmp_path, monkeypatch, inputs, message):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(8, 9)).save("a.png")
    Image.fromarray(picture(8, 10)).save("b.png")
    with pytest.raises(UserError, match=message):
        flow.predict(trained(FLOW), tmp_path, inputs=inputs)


# Autoencoding.


@pytest.mark.slow
def test_a_film_and_its_reconstruction(tmp_path):
    source = film(tmp_path / "film.mp4", 10)
    model = trained(AUTOENCODER, class_names=tuple("abcdef"))
    result = autoencode.predict(model, tmp_path, inputs=[source], chunk_size=100)
    (answer,) = result.summary["films"]
    assert answer["num_frames"] == 10 and answer["seconds"] == 0.4
    image, audio, label = [], [], []
    clips = list(pieces(source, size=(8, 12), num_frames=4, samples_per_frame=40))
    for clip in clips:
        inputs = {"image": clip.frames / np.float32(255), "audio": clip.audio}
        whole = reconstruct(
            model.model, *model.weights[1:3], inputs, audio_patches=20, chunk_size=100
        )
        image.append(np.clip(whole.image, 0, 1)[: clip.num_frames])
        audio.append(np.clip(whole.audio[:, 0], -1, 1)[: 40 * clip.num_frames])
        label.append(whole.label)
    frames = np.concatenate([clip.frames[: clip.num_frames] for clip in clips])
    sound = np.concatenate([clip.audio[: 40 * clip.num_frames, 0] for clip in clips])
    image, audio = np.concatenate(image), np.concatenate(audio)
    expected = [
        -10 * np.log10(np.mean((found - wanted) ** 2))
        for found, wanted in ((image, frames / 255), (audio, sound))
    ]
    assert list(answer["psnr"].values()) == pytest.approx(expected, abs=1e-3)
    assert [x["name"] for x in answer["classes"]] == [
        "abcdef"[k] for k in np.argsort(-np.mean(label, axis=0))[:5]
    ]
    # The film: the original, the reconstruction, and its sound.
    written = list(pieces(answer["film"], size=(8, 24), num_frames=10))
    assert len(written) == 1 and written[0].num_frames == 10
    left, right = np.split(written[0].frames.astype(int), 2, axis=2)
    assert np.abs(left - frames).mean() < 12
    assert np.abs(right - 255 * image).mean() < 25
    loudness = np.sqrt(np.mean(written[0].audio ** 2)), np.sqrt(np.mean(audio**2))
    assert loudness[0] == pytest.approx(loudness[1], rel=0.3)
    assert size_of(answer["sheet"])[0] > 500
    assert f"{expected[0]:.2f} dB" in result.text


def test_pieces_of_other_lengths_and_coarser_sound(tmp_path):
    source = film(tmp_path / "film.mp4", 10)
    usual = list(pieces(source, size=(8, 12)))
    other = list(pieces(source, size=(8, 12), num_frames=4, samples_per_frame=40))
    assert [clip.num_frames for clip in other] == [4, 4, 2]
    assert {clip.audio.shape for clip in other} == {(160, 1)}
    frames = np.concatenate([clip.frames for clip in other])[:10]
    np.testing.assert_array_equal(frames, usual[0].frames[:10])
    # Every 48th sample of a slow tone, but for the ends, where filters have less to go by.
    coarse = np.concatenate([clip.audio for clip in other])[20:380, 0]
    fine = usual[0].audio[: 10 * 1920 : 48][20:380, 0]
    assert np.abs(coarse - fine).max() < 0.05
    with pytest.raises(UserError, match="num_frames=0"):
        next(pieces(source, size=(8, 12), num_frames=0))


def test_an_autoencoder_that_cuts_frames_apart(tmp_path):
    section = dict(AUTOENCODER, audio=dict(AUTOENCODER["audio"], num_samples=162))
    with pytest.raises(UserError, match="162 samples of sound for 4 frames"):
        autoencode.predict(Trained(None, Weights(section, {}, {}), None), tmp_path, inputs=["."])


def test_a_record_keeps_a_few_frames_at_equal_distances():
    record = FilmRecord(4)
    rng = np.random.default_rng(0)
    sounds = []
    for _ in range(3):
        frames = rng.integers(0, 256, (4, 2, 2, 3), np.uint8)
        clip = Clip(frames, rng.uniform(-1, 1, (20, 1)).astype(np.float32), 3)
        record.add(clip, Reconstruction(frames / np.float32(255), 2 * clip.audio, np.ones(1)))
        sounds.append(clip.audio[:15])
    assert record.num_frames == 9
    assert [frame.index for frame in record.kept] == [0, 4, 8]
    np.testing.assert_array_equal(record.kept[0].original, record.kept[0].reconstruction)
    found = np.concatenate(record.envelopes["original"])
    assert len(found) == 9 * 4
    assert found[:, 0].min() == np.min(sounds) and found[:, 1].max() == np.max(sounds)
    sound = np.concatenate(sounds)
    error = np.mean((np.clip(2 * sound, -1, 1) - sound) ** 2)
    assert record.psnr()["audio"] == pytest.approx(-10 * np.log10(error), abs=1e-4)


def test_an_envelope_follows_the_sound():
    sound = np.array([[1, 2, 3, 4], [-1, 5, 0, 7]])
    found = envelope(np.repeat(sound, 2, axis=1) * np.tile([1, -1], 4))
    np.testing.assert_array_equal(
        found, [[-1, 1], [-2, 2], [-3, 3], [-4, 4], [-1, 1], [-5, 5], [0, 0], [-7, 7]]
    )
    assert envelope(sound[:, :1]).shape == (2, 2)


def test_psnr_of_equal_arrays_is_infinite():
    error = SquaredError()
    error.add(np.ones(3), np.ones(3))
    assert error.psnr() == np.inf


# Weights.


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """A run of the quickstart, shrunk, with two checkpoints of which the first is the better."""
    folder = tmp_path_factory.mktemp("run")
    config = experiments.shrink(experiments.load("quickstart", None))
    config = setup.overridden(config)
    (folder / "config.json").write_text(config.to_json())
    parts = setup.build_parts(config)
    checkpoints = Checkpoints(folder, **config.checkpoint)
    data = tiny.Dataset().load("train", batch_size=8, training=True, seed=0, shard=(0, 1))
    initialise = jax.jit(lambda seed: setup.initialise(parts, seed))
    states = {}
    for step, score in ((1, 0.9), (2, 0.5)):
        state = initial_state(*initialise(step), optax.sgd(0.1), ema=True)
        average = jax.tree.map(lambda x: x + 1, state.params)
        states[step] = state._replace(step=jnp.int32(step), ema_params=average)
        checkpoints.save(states[step], iter(data), {"validation/top_1": score})
    checkpoints.close()
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
        assert weights.load_dataset(path).image_shape == (8, 8, 1)


def test_a_digit_is_prepared_as_in_evaluation(run_folder, tmp_path):
    folder, _ = run_folder
    dataset = weights.load_dataset(folder)
    raw = dataset.source("test")[0]
    digit = np.rint(raw.image).astype(np.uint8)
    Image.fromarray(digit).save(tmp_path / "digit.png")
    loaded = weights.load(folder)
    model = Trained(build(loaded.model), loaded, dataset)
    found = classify.preparation(model)(tmp_path / "digit.png")
    expected = dataset.collate([{"image": digit[..., None], "label": 0}], training=False)
    oracles.assert_close(found, expected["image"][0])
    result = classify.predict(model, tmp_path, inputs=[str(tmp_path / "digit.png")], top_k=20)
    (answer,) = result.summary["images"]
    assert sum(x["probability"] for x in answer["classes"]) == pytest.approx(1, abs=1e-5)


def test_class_names_without_the_dataset_on_disk():
    config = setup.overridden(experiments.load("imagenet", "fourier"))
    config.data.root = "/nowhere"
    dataset = weights._dataset(config)
    assert weights._class_names(dataset, config.model) == imagenet_class_names()
    config = setup.overridden(experiments.load("cifar10", "fourier"))
    config.data.root = "/nowhere"
    assert weights._class_names(weights._dataset(config), config.model) is None


def test_published_weights_of_both_families():
    folder = weights.load(GOLDENS / "huggingface" / "optical_flow")
    assert folder.model["name"] == "perceiver_io_flow"
    settings = weights.parse_settings(["num_heads=4", "image_size=(16,24)"])
    pickle = weights.load(GOLDENS / "deepmind" / "optical_flow.params.pkl", **settings)
    assert pickle.model["image_size"] == (16, 24)
    assert pickle.model["encoder"]["latent_stack"]["num_heads"] == 4
    assert weights.load_dataset(GOLDENS / "huggingface" / "optical_flow") is None


def test_settings_that_cannot_be(run_folder):
    for text in ("num_heads", "=4", "num heads=4"):
        with pytest.raises(UserError, match="must be --setting=NAME=VALUE"):
            weights.parse_settings([text])
    with pytest.raises(UserError, match="heads is not a setting.*image_size, num_heads"):
        weights.load(GOLDENS / "deepmind" / "optical_flow.params.pkl", heads=4)
    for path in (GOLDENS / "huggingface" / "optical_flow", run_folder[0]):
        with pytest.raises(UserError, match="config.json has all settings"):
            weights.load(path, num_heads=4)


def test_weights_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match="no weights at"):
        weights.load(tmp_path / "nowhere")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="config lacks .*checkpoint"):
        weights.load(tmp_path)


# The program.


def test_flags_and_models_fit_the_task():
    check_flags("fill_mask", {"text": ["a"], "top_k": 3})
    with pytest.raises(UserError, match="--task=flow does not use --top_k; it takes --inputs"):
        check_flags("flow", {"inputs": ["a"], "top_k": 3})
    with pytest.raises(UserError, match="--task=classify needs --inputs"):
        check_flags("classify", {})
    check_model("flow", "w", "perceiver_io_flow")
    with pytest.raises(UserError, match="perceiver_io_flow, but --task=classify.*--task=flow"):
        check_model("classify", "w", "perceiver_io_flow")
    with pytest.raises(UserError, match="No task takes it"):
        check_model("classify", "w", "perceiver_io_text_classifier")
    assert all(len(set(kind.models)) == len(kind.models) for kind in KINDS.values())


def test_folders_that_cannot_be_written_to(tmp_path):
    assert create_folder(str(tmp_path / "a" / "b")).is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is no folder that can be written"):
        create_folder(str(tmp_path / "file"))


def test_names_of_results_are_unique():
    paths = [Path("x/a.png"), Path("y/a.png"), Path("a.jpg"), Path("b.png")]
    assert unique_names(paths) == ["a", "a_2", "a_3", "b"]


def test_progress_without_a_terminal_is_lines(capsys):
    with Progress(10, "tiles") as progress:
        progress.advance(4)
        progress.advance(6)
    captured = capsys.readouterr()
    assert captured.err.startswith("10 of 10 tiles") and not captured.out
    with contextlib.suppress(UserError), Progress(10, "tiles"):
        raise UserError("no")
    assert not capsys.readouterr().err


def run_program(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.predict", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_the_program_prints_json_and_errors_of_one_paragraph(run_folder, tmp_path):
    Image.fromarray(picture(30, 20)).save(tmp_path / "a.png")
    flags = ["--task=classify", f"--inputs={tmp_path}", f"--output={tmp_path / 'out'}"]
    result = run_program(*flags, f"--weights={run_folder[0]}", "--top_k=2", "--json")
    assert result.returncode == 0, result.stderr
    summary = json.loads(result.stdout)
    assert len(summary["images"][0]["classes"]) == 2
    assert json.loads((tmp_path / "out" / "predictions.json").read_text()) == summary
    result = run_program(*flags, f"--weights={GOLDENS / 'huggingface' / 'optical_flow'}")
    assert result.returncode == 2 and not result.stdout
    assert result.stderr.startswith("error: The weights in") and result.stderr.count("\n") == 1
