"""How inputs are prepared for published weights: the files beside them, in and out."""

import json

import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained import preparation
from tests.helpers.predictions import CLASSIFIER, FLOW, LANGUAGE

PREPARED = dict(
    image_shape=(16, 16, 3),
    mean=(0.4, 0.5, 0.6),
    std=(0.2, 0.25, 0.3),
    evaluation_crop=0.9,
    resample="bilinear",
)
# As the weights of 2021 have it.
PUBLISHED = dict(
    feature_extractor_type="PerceiverFeatureExtractor",
    do_center_crop=True,
    crop_size=256,
    do_resize=True,
    size=224,
    resample=3,
    do_normalize=True,
    image_mean=[0.485, 0.456, 0.406],
    image_std=[0.229, 0.224, 0.225],
)


def written(folder, content, name="preprocessor_config.json"):
    (folder / name).write_text(json.dumps(content))
    return folder


def test_an_image_processor_is_read_as_it_was_written(tmp_path):
    (content,) = preparation.files(CLASSIFIER, PREPARED).values()
    assert content["image_processor_type"] == "PerceiverImageProcessor"
    assert content["size"] == {"height": 16, "width": 16}
    assert content["crop_size"]["height"] == pytest.approx(16 / 0.9, rel=1e-11)
    assert (content["resample"], content["rescale_factor"]) == (2, 1 / 255)
    assert content["image_mean"] == [0.4, 0.5, 0.6] and content["image_std"] == [0.2, 0.25, 0.3]
    found = preparation.read(written(tmp_path, content), CLASSIFIER)
    own = {"whole_pixels": True, "normalization": (PREPARED["mean"], PREPARED["std"])}
    assert found == PREPARED | own | {"evaluation_crop": pytest.approx(0.9, rel=1e-11)}


def test_a_crop_is_never_a_pixel_too_small():
    """transformers cuts int(size / crop_size * side) pixels out of an image of that side."""
    for size in (24, 64, 224):
        for percent in range(5, 101):
            prepared = PREPARED | dict(image_shape=(size, size, 3), evaluation_crop=percent / 100)
            (content,) = preparation.files(CLASSIFIER, prepared).values()
            if isinstance(content["crop_size"]["height"], int):
                continue  # As whole numbers the published file has them.
            sides = np.arange(100, 2000, 100)
            found = (size / content["crop_size"]["height"] * sides).astype(int)
            np.testing.assert_array_equal(found, percent * (sides // 100))


def test_the_published_file_is_that_of_imagenet(tmp_path):
    default = preparation.default(dict(CLASSIFIER, inputs=dict(image_size=(224, 224))))
    found = preparation.read(written(tmp_path, PUBLISHED), CLASSIFIER)
    assert found == default | {"whole_pixels": True}
    (content,) = preparation.files(CLASSIFIER, found).values()
    assert content["crop_size"] == {"height": 256, "width": 256} and content["resample"] == 3


def test_pixels_that_are_not_rescaled_or_normalised(tmp_path):
    """(x * factor - mean) / std of bytes x, which here are (x / 255 - mean) / std."""
    pixels = np.arange(256)[:, None]
    for changes in (
        dict(do_rescale=False),
        dict(rescale_factor=0.5),
        dict(do_normalize=False),
        dict(do_normalize=False, do_rescale=False),
    ):
        mean, std = preparation.read(written(tmp_path, PUBLISHED | changes), CLASSIFIER)[
            "normalization"
        ]
        factor = changes.get("rescale_factor", 1 / 255) if "do_rescale" not in changes else 1
        theirs = (np.array(PUBLISHED[key]) for key in ("image_mean", "image_std"))
        their_mean, their_std = (0, 1) if "do_normalize" in changes else theirs
        expected = np.broadcast_to((pixels * factor - their_mean) / their_std, (256, 3))
        np.testing.assert_allclose((pixels / 255 - mean) / std, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(feature_extractor_type="ViTFeatureExtractor"), "image_processor_type 'ViT"),
        (dict(do_center_crop=False), "do_center_crop False, but .* only with true"),
        (dict(do_resize=0), "do_resize 0"),
        (dict(resample=0), r"resample 0, but .* 2 \(bilinear\) or 3 \(bicubic\)"),
        (dict(size={"shortest_edge": 224}), "size {'shortest_edge': 224}"),
        (dict(size={"height": 224, "width": 256}), "size .*both height and width"),
        (dict(crop_size=200), "crop_size 200, but .* only with 224 or more"),
        (dict(image_mean=[0.5]), r"image_mean \[0.5\], but .* three numbers"),
        (dict(image_std=[float("nan")] * 3), r"image_std \[nan, nan, nan\]"),
        (dict(rescale_factor=0), "rescale_factor 0"),
    ],
)
def test_image_processors_that_this_project_lacks(tmp_path, changes, message):
    with pytest.raises(UserError, match=f"preprocessor_config.json has {message}"):
        preparation.read(written(tmp_path, PUBLISHED | changes), CLASSIFIER)


def test_a_tokenizer_is_read_as_it_was_written(tmp_path):
    ((name, content),) = preparation.files(LANGUAGE, preparation.default(LANGUAGE)).items()
    assert name == "tokenizer_config.json"
    assert content["tokenizer_class"] == "PerceiverTokenizer"
    assert (content["model_max_length"], content["mask_token"]) == (64, "[MASK]")
    found = preparation.read(written(tmp_path, content, name), LANGUAGE)
    assert found == {"max_length": 64, "special_tokens": True, "normalization": None}
    for changes, message in (
        (dict(tokenizer_class="BertTokenizer"), "tokenizer_class 'BertTokenizer'"),
        (dict(model_max_length=2), "model_max_length 2"),
    ):
        with pytest.raises(UserError, match=message):
            preparation.read(written(tmp_path, content | changes, name), LANGUAGE)


def test_models_that_need_no_file_and_folders_that_lack_it(tmp_path):
    assert preparation.files(FLOW, {"normalization": None}) == {}
    for model in (FLOW, LANGUAGE, CLASSIFIER):
        assert preparation.read(tmp_path, model) == preparation.default(model)


IMAGES = dict(PREPARED, normalization=(PREPARED["mean"], PREPARED["std"]), class_names=("a", "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(mean=None), "preparation.mean is None, but"),
        (dict(std=(0.2, 0.0, 0.3)), r"preparation.std is \(0.2, 0.0, 0.3\), each of .* above 0"),
        (dict(mean=(np.nan,) * 3), "preparation.mean is .nan, nan, nan"),
        (dict(normalization=3), "preparation.normalization is 3, but"),
        (dict(normalization=((0.5,), (0.0,))), "preparation.normalization is .* above 0"),
        (dict(mean=(0.1, 0.2, 0.3)), "mean and std are .*, but normalization is "),
        (dict(class_names=3), "preparation.class_names is 3, but"),
        (dict(class_names="ab"), "preparation.class_names is 'ab', but"),
        (dict(image_shape=(10**9, 10**9, 3)), "preparation.image_shape is .* too much memory"),
        (dict(evaluation_crop=0), "preparation.evaluation_crop is 0, which must be above 0"),
        (dict(resample="nearest"), "preparation.resample is 'nearest', but"),
    ],
)
def test_a_preparation_with_wrong_entries(change, message):
    with pytest.raises(UserError, match=f"^file is damaged: {message}.* Remedy.$"):
        preparation.checked(IMAGES | change, "file", "Remedy.")


def test_a_preparation_is_completed():
    assert preparation.checked(IMAGES, "file", "") == IMAGES
    assert preparation.checked(PREPARED, "file", "") == IMAGES | {"class_names": None}
    assert preparation.checked({"own": 3}, "file", "") == {
        "own": 3,
        "normalization": None,
        "class_names": None,
    }
    for wrong in ([], None, 3):
        with pytest.raises(UserError, match="^file is damaged: preparation is "):
            preparation.checked(wrong, "file", "")
