"""Reading and writing folders in Hugging Face's layout."""

import json
import shutil

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.safetensors_files import read_folder, write_folder
from tests.pretrained.formats.test_torch_files import REAL

CONFIG = {"model_type": "perceiver", "d_latents": 8, "mean": [0.5, 0.25], "label": None}


def arrays():
    rng = np.random.default_rng(0)
    return {
        "embeddings.latents": rng.normal(size=(4, 8)).astype(np.float32),
        "encoder.weight": rng.normal(size=(8, 16)).astype(np.float32),
        "encoder.bias": rng.normal(size=8),
        "num_batches": np.array(7),
    }


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name, strict=True)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def sharded(tmp_path):
    folder = tmp_path / "model"
    write_folder(folder, CONFIG, arrays(), max_shard_bytes=600)
    return folder


def edit_index(folder, change):
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def test_folders_round_trip(tmp_path):
    folder = tmp_path / "new/model"
    write_folder(folder, CONFIG, arrays())
    assert names_in(folder) == ["config.json", "model.safetensors"]
    config, found = read_folder(folder)
    assert config == CONFIG
    assert_same(found, arrays())
    assert_same(safetensors.numpy.load_file(folder / "model.safetensors"), arrays())
    with safetensors.safe_open(folder / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_shards(sharded):
    shards = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    assert names_in(sharded) == ["config.json", *shards, "model.safetensors.index.json"]
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 128 + 512 + 64 + 8}
    assert index["weight_map"] == {
        "embeddings.latents": shards[0],
        **dict.fromkeys(["encoder.weight", "encoder.bias", "num_batches"], shards[1]),
    }
    assert_same(read_folder(sharded)[1], arrays())


def test_an_array_larger_than_a_shard_has_its_own(tmp_path):
    write_folder(tmp_path / "model", CONFIG, arrays(), max_shard_bytes=1)
    assert len(names_in(tmp_path / "model")) == 2 + len(arrays())
    assert_same(read_folder(tmp_path / "model")[1], arrays())


def test_arrays_of_any_order_are_written_right(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    written = {
        "transposed": base.T,
        "strided": base[::2, ::3],
        "big": base.astype(">f4"),
        "jax": jnp.arange(3.0),
        "fortran": np.asfortranarray(base),
    }
    write_folder(tmp_path / "model", CONFIG, written)
    expected = {name: np.array(array, np.float32, order="C") for name, array in written.items()}
    assert_same(read_folder(tmp_path / "model")[1], expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_becomes_float32(dtype, tmp_path):
    half = np.array([1.5, -0.25, 0], dtype)
    write_folder(tmp_path / "model", CONFIG, {"w": half})
    assert (tmp_path / "model/model.safetensors").stat().st_size % 8 == 6
    assert_same(read_folder(tmp_path / "model")[1], {"w": half.astype(np.float32)})


def test_nothing_remains_of_a_failed_write(tmp_path):
    with pytest.raises(UserError, match="Cannot write the folder"):
        write_folder(tmp_path / "model", CONFIG, {"a": np.ones(3), "b": np.array(["text"])})
    with pytest.raises(TypeError):
        write_folder(tmp_path / "model", {"not JSON": object()}, arrays())
    assert names_in(tmp_path) == []


def test_only_an_empty_folder_is_written_into(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    write_folder(folder, CONFIG, arrays())
    for path in (folder, folder / "config.json"):
        with pytest.raises(UserError, match="not an empty folder"):
            write_folder(path, {}, {"other": np.ones(1)})
    assert read_folder(folder)[0] == CONFIG


def test_a_parent_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write the folder"):
        write_folder(tmp_path / "file/model", CONFIG, arrays())


def test_torch_files(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(REAL, tmp_path / "pytorch_model.bin")
    config, found = read_folder(tmp_path)
    assert config == CONFIG
    np.testing.assert_array_equal(found["bias"], np.array([0.5, -1], np.float32))


def test_torch_shards(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    shutil.copy(REAL, tmp_path / "pytorch_model-00001-of-00001.bin")
    (tmp_path / "other").mkdir()
    shutil.copy(REAL, tmp_path / "other/pytorch_model.bin")
    (tmp_path / "other/config.json").write_text("{}")
    whole = read_folder(tmp_path / "other")[1]
    index = {"weight_map": dict.fromkeys(whole, "pytorch_model-00001-of-00001.bin")}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert_same(read_folder(tmp_path)[1], whole)


def test_safetensors_take_precedence_over_torch(sharded):
    (sharded / "pytorch_model.bin").write_bytes(b"not read")
    assert_same(read_folder(sharded)[1], arrays())


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        read_folder(tmp_path / "absent")
    (tmp_path / "model").mkdir()
    with pytest.raises(UserError, match=r"Cannot read .*config.json: No such file"):
        read_folder(tmp_path / "model")
    (tmp_path / "model/config.json").write_text("{}")
    with pytest.raises(UserError, match="has no weights"):
        read_folder(tmp_path / "model")


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b"\xff\xfe{}", b"[" * 200_000])
def test_a_bad_config_is_named(text, sharded):
    (sharded / "config.json").write_bytes(text)
    with pytest.raises(UserError, match=r"Cannot read .*config.json"):
        read_folder(sharded)


@pytest.mark.parametrize(
    "shard",
    ["../model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "..", "", "x.bin", 3]
    + ["a\\b.safetensors", "c:b.safetensors", "a\0.safetensors", None, ["x.safetensors"]],
)
def test_an_index_refers_only_to_files_beside_it(shard, sharded, tmp_path):
    shutil.copy(sharded / "model-00002-of-00002.safetensors", tmp_path / "model.safetensors")
    edit_index(sharded, lambda index: index["weight_map"].update({"encoder.bias": shard}))
    with pytest.raises(UserError, match="not the plain name of a file"):
        read_folder(sharded)


@pytest.mark.parametrize("weight_map", [None, {}, [], "x"])
def test_an_index_without_its_map_is_named(weight_map, sharded):
    edit_index(sharded, lambda index: index.update(weight_map=weight_map))
    with pytest.raises(UserError, match="has no weight_map"):
        read_folder(sharded)


def test_a_missing_shard_is_named(sharded):
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match="model-00002-of-00002.safetensors"):
        read_folder(sharded)


def test_tensors_that_differ_from_the_index_are_named(sharded):
    edit_index(sharded, lambda index: index["weight_map"].pop("encoder.bias"))
    with pytest.raises(UserError, match="missing are none, unexpected encoder.bias"):
        read_folder(sharded)
    shard = "model-00001-of-00002.safetensors"
    edit_index(sharded, lambda index: index["weight_map"].update({"encoder.bias": shard}))
    with pytest.raises(UserError, match="00001.* missing are encoder.bias, unexpected none"):
        read_folder(sharded)


def test_truncated_weights_are_named(tmp_path):
    write_folder(tmp_path, CONFIG, arrays())
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for length in range(0, len(data), 37):
        path.write_bytes(data[:length])
        with pytest.raises(UserError, match=r"Cannot read .*model.safetensors"):
            read_folder(tmp_path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F4", "X"])
def test_dtypes_that_numpy_lacks_are_refused(dtype, tmp_path):
    header = json.dumps({"w": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"ab")
    with pytest.raises(UserError, match=r"Cannot read .*model.safetensors"):
        read_folder(tmp_path)
