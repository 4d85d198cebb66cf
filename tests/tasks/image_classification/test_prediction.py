"""Prediction of classes: batches, padding, order, and image files."""

from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from perceiver_io.data.vision.image_sequence import read_image
from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build
from perceiver_io.tasks.image_classification.figures import classified_image
from perceiver_io.tasks.image_classification.prediction import (
    ImageClassifier,
    class_names,
    classify,
)
from perceiver_io.tasks.predictor import Trained
from tests.helpers import experiments, oracles
from tests.helpers.predictions import CLASSIFIER, applied, picture, size_of, trained

pytestmark = pytest.mark.usefixtures("for_cpu")

IMAGES = np.random.default_rng(0).normal(size=(7, 4, 5, 3)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).normal(size=(60, 6)).astype(np.float32)


def linear_model(batch_shapes, bias=0.0):
    """A linear model; the shapes for which it is traced are appended to `batch_shapes`."""

    def apply(params, state, rng, *, inputs, is_training):
        assert rng is None and not is_training
        batch_shapes.append(inputs.shape)
        return inputs.reshape(len(inputs), -1) @ params + state, state

    return Trained(Architecture(apply, apply, apply, apply), WEIGHTS, bias, {})


def stacked(results):
    return jax.tree.map(lambda *rows: np.stack(rows), *results)


@pytest.mark.parametrize("batch_size,counts", [(3, [3, 3, 1]), (7, [7]), (20, [7]), (1, [1] * 7)])
def test_most_probable_classes_of_every_image(batch_size, counts):
    shapes, done = [], []
    bias = np.arange(6, dtype=np.float32)
    results = classify(
        linear_model(shapes, bias),
        IMAGES,
        top_k=4,
        batch_size=batch_size,
        advance=done.append,
    )
    result = stacked(results)
    logits = IMAGES.reshape(7, 60).astype(np.float64) @ WEIGHTS + bias
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    order = np.argsort(-logits, axis=1)[:, :4]
    np.testing.assert_array_equal(result.classes, order)
    expected = np.take_along_axis(probabilities, order, axis=1)
    np.testing.assert_allclose(result.probabilities, expected, rtol=1e-4, atol=1e-6)
    assert done == counts
    assert shapes == [(batch_size, 4, 5, 3)]


def test_a_second_call_compiles_nothing():
    shapes = []
    model = linear_model(shapes)
    for images in (IMAGES, IMAGES[:2]):
        found = classify(model, images, top_k=1, batch_size=3)
        assert len(list(found)) == len(images)
    assert len(shapes) == 1


def test_images_are_read_one_batch_at_a_time():
    taken = []
    images = (taken.append(index) or image for index, image in enumerate(IMAGES))
    found = classify(linear_model([]), images, top_k=1, batch_size=3)
    next(found)
    assert taken == [0, 1, 2]
    assert len(list(found)) == 6


def test_no_images_give_no_classes():
    assert not list(classify(linear_model([]), IMAGES[:0], top_k=1, batch_size=2))


def test_probabilities_that_are_not_numbers_are_an_error():
    with pytest.raises(UserError, match="not finite .*training diverged"):
        next(classify(linear_model([], bias=np.inf), IMAGES, top_k=1, batch_size=2))


@pytest.mark.parametrize("shape", [(8, 8, 3), (16, 16, 1)])
def test_images_must_be_prepared_in_the_size_of_the_model(shape):
    model = trained(CLASSIFIER)
    gray = dict(mean=(0.5,), std=(0.2,)) if shape[-1] == 1 else {}
    prepared = dict(model.preparation, image_shape=shape, **gray)
    with pytest.raises(UserError, match=r"as \[\d+, \d+, \d\], but the model takes \[16, 16, 3\]"):
        ImageClassifier(model._replace(preparation=prepared))


def test_with_a_model_of_the_project():
    config = experiments.shrink(experiments.load("imagenet", "conv")).model
    config.num_classes = 5
    model = build(config)
    images = np.random.default_rng(0).normal(size=(3, 16, 16, 3)).astype(np.float32)
    params, state = oracles.random_params_and_state(model.init, inputs=images)
    whole = Trained(model, params, state, config)
    result = stacked(classify(whole, images, top_k=5, batch_size=2))
    apply = jax.jit(lambda x: model.apply(params, state, None, inputs=x, is_training=False))
    logits, _ = apply(images)
    scattered = np.zeros((3, 5))
    np.put_along_axis(scattered, result.classes, result.probabilities, axis=1)
    np.testing.assert_allclose(scattered, jax.nn.softmax(logits), atol=1e-5)


@pytest.mark.parametrize(
    "top_k,batch_size,message",
    [
        (7, 2, "top_k=7 is more than the number of classes, 6"),
        (0, 2, "top_k=0 must be at least 1"),
        (1, 0, "batch_size=0 must be at least 1"),
        (
            1,
            10**9,
            "batch_size=1000000000 must be .* at most 4,096, since there is not enough memory",
        ),
    ],
)
def test_errors(top_k, batch_size, message):
    model = linear_model([])
    with pytest.raises(UserError, match=message):
        next(classify(model, IMAGES, top_k=top_k, batch_size=batch_size))


# Files.


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
    result = ImageClassifier(model).write(tmp_path, inputs=[str(tmp_path / "in")], batch_size=2)
    answers = {Path(x["input"]).name: x for x in result.summary["images"]}
    assert set(answers) == {*files, "shallow.png"}
    # Lossless file formats give the same result.
    found = {name: [x["probability"] for x in a["classes"]] for name, a in answers.items()}
    for one, other in (("a.png", "a.webp"), ("a.png", "a.bmp"), ("deep.png", "shallow.png")):
        oracles.assert_close(np.array(found[one]), np.array(found[other]))
    assert abs(found["deep.png"][0] - found["a.png"][0]) > 1e-4
    figure_paths = [x["figure"] for x in answers.values()]
    assert len(set(figure_paths)) == 5
    assert all(min(size_of(path)) > 200 for path in figure_paths)
    # The same by hand: the central seven eighths, resized like the published models' inputs and
    # normalised by ImageNet's mean and standard deviation.
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
    assert class_names(trained(few, class_names=("a", "b", "c"))) == ("a", "b", "c")
    assert class_names(trained(few)) == ("0", "1", "2")


def test_an_unreadable_image_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"Cannot decode image .*a\.png"):
        ImageClassifier(trained(CLASSIFIER)).write(tmp_path, inputs=[str(tmp_path / "a.png")])


def test_unreadable_images_of_a_folder_are_skipped(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        Image.fromarray(picture(20, 20, seed)).save(folder / name)
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:80])
    model = ImageClassifier(trained(CLASSIFIER))
    result = model.write(tmp_path, inputs=[str(folder)], batch_size=2)
    assert result.summary["unreadable"] == [str(folder / "b.png")]
    assert [Path(x["input"]).name for x in result.summary["images"]] == ["a.png", "c.png", "d.png"]
    for answer in result.summary["images"]:
        alone = model.write(tmp_path, inputs=[answer["input"]])
        found, expected = (
            np.array([x["probability"] for x in classes])
            for classes in (answer["classes"], alone.summary["images"][0]["classes"])
        )
        oracles.assert_close(found, expected)
        assert size_of(answer["figure"])[0] > 200
    assert alone.summary["unreadable"] == [] and "skipped" not in alone.text
    last_line = result.text.splitlines()[-1]
    assert last_line.startswith("warning: skipped 1 of 4 images") and "b.png" in last_line
    with pytest.raises(UserError, match=r"Cannot decode image .*b\.png"):  # if it is named as well
        model.write(tmp_path, inputs=[str(folder), str(folder / "b.png")])


def test_only_some_images_are_drawn(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(picture(20, 20)).save(folder / name)
    model = ImageClassifier(trained(CLASSIFIER))
    result = model.write(tmp_path, inputs=[str(folder)], pictures=1)
    assert ["figure" in answer for answer in result.summary["images"]] == [True, False, False]
    assert [path.name for path in tmp_path.glob("*.png")] == ["a_classes.png"]
    assert result.text.endswith("figures of the first 1 of 3 images; --pictures=NUMBER for more")
    with pytest.raises(UserError, match="pictures=-1 must be at least 0"):
        model.write(tmp_path, inputs=[str(folder)], pictures=-1)


def test_a_folder_without_a_readable_image(tmp_path):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"None of the 2 images can be read, such as .*a\.png"):
        ImageClassifier(trained(CLASSIFIER)).write(tmp_path, inputs=[str(tmp_path)])


def test_transparency_is_white_and_rotated_images_are_upright(tmp_path):
    pixels = np.concatenate([picture(10, 20), np.zeros((10, 20, 1), np.uint8)], axis=-1)
    pixels[5:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image[:5] == 255).all()
    np.testing.assert_array_equal(image[5:], pixels[5:, :, :3])
    orientation = Image.Exif()
    orientation[0x0112] = 6  # rotated by 90 degrees to the left in the file
    turned = Image.fromarray(np.rot90(pixels[..., :3]))
    turned.save(tmp_path / "b.png", exif=orientation)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), pixels[..., :3])


def test_long_names_stay_inside_the_figure():
    words = "American Staffordshire terrier, Staffordshire terrier, American pit bull terrier"
    figure = classified_image(
        picture(50, 300), seen=(0, 0, 50, 50), title="a_$b$.png", probabilities=[(words, 0.5)]
    )
    _, bars = figure.axes
    (label,) = bars.get_yticklabels()
    assert label.get_text().startswith("American Staffordshire")
    assert max(map(len, label.get_text().split("\n"))) <= 26
    figure.draw_without_rendering()
    assert label.get_window_extent().x0 > figure.axes[0].get_window_extent().x1
