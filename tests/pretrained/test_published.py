"""Published weights: same numbers as the published implementations, unchanged by a round trip."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest

from perceiver_io.config import files
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.pretrained.formats.pickles import read_pickle
from perceiver_io.pretrained.formats.safetensors_files import read_folder, write_folder
from perceiver_io.pretrained.published import from_tree, load, save_huggingface, to_tree
from perceiver_io.runtime import configuration
from scripts import check_parity

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"
DEEPMIND = check_parity.deepmind_cases(GOLDENS / "deepmind")
HUGGINGFACE = check_parity.huggingface_cases(GOLDENS / "huggingface")
TREES = json.loads((GOLDENS / "deepmind" / "published_trees.json").read_text())


def name_of(path):
    return path.name.removesuffix(".params.pkl")


def sizes_of(pickle):
    sizes = pickle.with_name(f"{name_of(pickle)}.config.json").read_text()
    return check_parity.settings(json.loads(sizes))


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert x.shape == y.shape
        np.testing.assert_array_equal(x, y)


@pytest.fixture(autouse=True)
def highest_precision():
    with jax.default_matmul_precision("highest"):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("case", DEEPMIND, ids=name_of)
def test_original_models_compute_the_same(case):
    found = list(check_parity.check_deepmind(case))
    assert found
    for difference in found:
        assert difference.relative < 1e-5, difference


@pytest.mark.slow
@pytest.mark.parametrize("case", HUGGINGFACE, ids=name_of)
def test_hugging_face_models_compute_the_same(case):
    found = list(check_parity.check_huggingface(case))
    assert found
    for difference in found:
        assert difference.relative < 1e-5, difference


@pytest.mark.parametrize("case", DEEPMIND, ids=name_of)
def test_original_trees_round_trip(case):
    tree = read_pickle(case)
    assert_equal(to_tree(load(case, **sizes_of(case)), name_of(case)), tree)


@pytest.mark.slow
@pytest.mark.parametrize("case", HUGGINGFACE, ids=name_of)
def test_hugging_face_folders_round_trip(case, tmp_path):
    weights = load(case)
    save_huggingface(tmp_path / "written", weights)
    again = load(tmp_path / "written")
    assert_equal((again.params, again.model_state), (weights.params, weights.model_state))
    assert (again.model, again.class_names) == (weights.model, weights.class_names)
    assert weights.class_names is None  # The goldens have generic names that transformers made up.
    (config, arrays), (expected_config, expected) = map(read_folder, (tmp_path / "written", case))
    # Only Haiku uses the count of steps; image models of a fixed size do not use image_size.
    arrays = {n: x for n, x in arrays.items() if not n.endswith("num_batches_tracked")}
    expected = {n: x for n, x in expected.items() if not n.endswith("num_batches_tracked")}
    assert_equal(arrays, expected)
    fixed_size = case.name in ("image_fourier", "image_conv")
    for key in config.keys() - ({"image_size"} if fixed_size else set()):
        assert config[key] == expected_config[key], key


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TREES.keys() - {"language_bytes"}))
def test_full_size_models_have_the_published_trees(name):
    assert check_parity.same_tree(name, TREES[name])


@pytest.mark.slow
def test_the_full_size_language_model_has_the_published_tree():
    assert check_parity.same_tree("language_bytes", TREES["language_bytes"])


def test_a_tree_with_another_count_differs():
    tree = TREES["video_autoencoding"]
    assert not check_parity.same_tree("video_autoencoding", tree | {"num_params": 1})


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["learned", "fourier", "conv"])
def test_imagenet_configs_are_the_published_models(preset):
    tree = TREES[f"imagenet_{preset}"]
    zeros = {part: check_parity.zeros(tree[part]) for part in ("params", "state")}
    published = from_tree(zeros, preset).model
    config = configuration.overridden(
        files.read(f"configs/imagenet.py:{preset}"), ()
    ).model.to_dict()

    def assert_agree(ours, theirs):
        for key in ours.keys() & theirs.keys():
            if isinstance(ours[key], dict):
                assert_agree(ours[key], theirs[key])
            elif ours[key] is not None:
                assert ours[key] == theirs[key], key

    def shapes(section):
        images = jax.ShapeDtypeStruct((1, *section["inputs"]["image_size"], 3), np.float32)
        init = build(section).init
        key = jax.random.key(0)
        return jax.eval_shape(lambda images: init(key, inputs=images), images)

    # Widths that a config leaves to be inferred are taken from the arrays.
    assert shapes(config) == shapes(published)
    # Settings that weights do not determine have their defaults.
    assert published.keys() == config.keys() - {"attention", "compute_dtype"}
    assert_agree(config, published)


def damaged(case, change):
    tree = {module: dict(arrays) for module, arrays in read_pickle(case).items()}
    change(tree)
    return tree


LANGUAGE = next(case for case in DEEPMIND if "language" in case.name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["embed"].clear(), "1 missing: params/embed/embeddings"),
        (lambda t: t["embed"].update(extra=np.zeros(2)), "1 unexpected: params/embed/extra"),
        (
            lambda t: t["embedding_decoder"].update(bias=np.zeros(9)),
            r"1 of different shape: params/embedding_decoder/bias has \(9,\) instead of \(262,\)",
        ),
        (
            lambda t: t["perceiver_encoder/~/self_attention_1/layer_norm"].update(
                scale=np.zeros(9)
            ),
            "of wrong shape: .*self_attention_1/layer_norm/scale",
        ),
        (lambda t: t["embed"].update(embeddings=np.zeros(9)), "sizes of the model in file"),
        (lambda t: t.update(embed=np.zeros(3)), "not a tree of Haiku parameters"),
    ],
)
def test_damaged_trees_are_explained_by_name(change, message):
    with pytest.raises(UserError, match=message):
        from_tree(damaged(LANGUAGE, change), "file", num_heads=4)


def test_a_setting_that_does_not_match():
    with pytest.raises(UserError, match="qk_dim=16 does not divide into num_heads=3 heads"):
        load(LANGUAGE, num_heads=3)
    with pytest.raises(UserError, match="num_head.*did you mean 'num_heads'"):
        load(LANGUAGE, num_head=4)
    with pytest.raises(UserError, match="num_heads=0 must be a number of at least 1"):
        load(LANGUAGE, num_heads=0)


def test_other_models_are_not_recognised():
    with pytest.raises(UserError, match="none of the published models .language_bytes"):
        from_tree({"resnet/conv": {"w": np.zeros(3)}}, "file")


def changed_folder(case, folder, config=(), arrays=()):
    old_config, old_arrays = read_folder(case)
    write_folder(folder, old_config | dict(config), old_arrays | dict(arrays))
    return folder


MASKED_LM = GOLDENS / "huggingface" / "masked_lm"


@pytest.mark.parametrize(
    ("config", "arrays", "message"),
    [
        ({"architectures": 5}, {}, "architecture 5"),
        ({"hidden_act": None}, {}, "^config.json has hidden_act None"),
        ({"num_blocks": 0}, {}, "num_blocks=0"),
        ({"architectures": ["BertModel"]}, {}, r"architecture \['BertModel'\].*PerceiverForMasked"),
        ({"hidden_act": "relu"}, {}, "hidden_act 'relu'"),
        ({"num_self_attention_heads": "four"}, {}, "four"),
        ({}, {"embedding_decoder.bias": np.zeros(9, np.float32)}, "embedding_decoder.bias has"),
        ({}, {"other.bias": np.zeros(9, np.float32)}, "1 unexpected: other.bias"),
    ],
)
def test_damaged_folders_are_explained_by_name(tmp_path, config, arrays, message):
    with pytest.raises(UserError, match=message):
        load(changed_folder(MASKED_LM, tmp_path / "folder", config, arrays))


def test_settings_left_out_of_a_config_are_the_defaults(tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(MASKED_LM, folder, copy_function=shutil.copyfile)
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_act"], config["num_blocks"]
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).model == load(MASKED_LM).model


def with_entry(section, key, value):
    first, _, rest = key.partition(".")
    return section | {first: with_entry(section[first], rest, value) if rest else value}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "key", "value", "message"),
    [
        ("image_conv", "inputs.pytorch_padding", False, "pytorch_padding is False, but must"),
        ("image_learned", "decoder.cross_attend.use_query_residual", False, "use_query_residual"),
        ("masked_lm", "encoder.cross_attend.use_query_residual", False, None),
        ("masked_lm", "decoder.cross_attend.num_heads", 4, "num_heads is 4, but must be 8"),
        ("image_conv", "inputs.image_channels", 1, "image_channels is 1, but must be 3"),
        ("masked_lm", "encoder.cross_attend.exact_gelu", False, "exact_gelu is False"),
        ("optical_flow", "name", "perceiver_classifier", "no counterpart of perceiver_classifier"),
    ],
)
def test_models_that_transformers_lacks_are_not_written(tmp_path, case, key, value, message):
    weights = load(GOLDENS / "huggingface" / case)
    changed = weights._replace(model=with_entry(weights.model, key, value))
    if message is None:
        save_huggingface(tmp_path / "folder", changed)
        assert load(tmp_path / "folder").model == changed.model
        return
    with pytest.raises(UserError, match=message):
        save_huggingface(tmp_path / "folder", changed)


@pytest.mark.parametrize(("case", "layer"), [("masked_lm", "value"), ("image_learned", "key")])
def test_widths_that_transformers_lacks_are_not_written(tmp_path, case, layer):
    """The decoder's attention at half its width."""
    weights = load(GOLDENS / "huggingface" / case)
    attention = "decoder/cross_attend/attention"
    section, params = weights.model, dict(weights.params)
    names = ("value", "output") if layer == "value" else ("query", "key")
    key = {"value": "v_dim", "key": "qk_dim"}[layer]
    half = section["decoder"]["cross_attend"][key] // 2
    for name in names:
        w, b = params[f"{attention}/{name}"]["w"], params[f"{attention}/{name}"]["b"]
        narrow = {"w": w[:half], "b": b} if name == "output" else {"w": w[:, :half], "b": b[:half]}
        params[f"{attention}/{name}"] = narrow
    section = with_entry(section, f"decoder.cross_attend.{key}", half)
    with pytest.raises(UserError, match=f"model.decoder.cross_attend.{key} is {half}, but must be"):
        save_huggingface(tmp_path / "folder", weights._replace(model=section, params=params))


@pytest.mark.parametrize("names", [["a"], {"0": "a"}, {str(i): "a" for i in range(8)}, {"a": "b"}])
def test_class_names_that_do_not_fit(tmp_path, names):
    case = GOLDENS / "huggingface" / "image_learned"
    with pytest.raises(UserError, match="id2label"):
        load(changed_folder(case, tmp_path / "folder", {"id2label": names}))


def test_dropout_of_attention_is_kept(tmp_path):
    rate = {"attention_probs_dropout_prob": 0.25}
    folder = changed_folder(GOLDENS / "huggingface" / "masked_lm", tmp_path / "folder", rate)
    weights = load(folder)
    assert weights.model["encoder"]["latent_stack"]["attention_dropout"] == 0.25
    save_huggingface(tmp_path / "written", weights)
    assert read_folder(tmp_path / "written")[0]["attention_probs_dropout_prob"] == 0.25


def test_size_of_learned_positions_is_read_from_the_file():
    case = next(case for case in DEEPMIND if "learned" in case.name)
    assert load(case, num_heads=4).model["inputs"]["image_size"] == (24, 24)


def test_original_models_are_exported_where_transformers_has_them(tmp_path):
    flow = next(case for case in DEEPMIND if "optical_flow" in case.name)
    weights = load(flow, **sizes_of(flow))
    with pytest.raises(UserError, match="num_bands is 6, but must be 64"):
        save_huggingface(tmp_path / "folder", weights)


def test_paths_without_weights(tmp_path):
    with pytest.raises(UserError, match="no weights at"):
        load(tmp_path / "nothing")
    with pytest.raises(UserError, match="give the folder"):
        load(MASKED_LM / "model.safetensors")


def test_folders_without_cases(tmp_path):
    with pytest.raises(UserError, match="has no cases"):
        check_parity.deepmind_cases(tmp_path)
