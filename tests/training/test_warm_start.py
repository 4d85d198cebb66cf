"""Warm starts from another run: in full, in part, resized, refused."""

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.pretrained.formats.safetensors_files import read_folder, write_folder
from perceiver_io.training.parallel import Mesh
from perceiver_io.training.state import names
from perceiver_io.training.warm_start import (
    array_source,
    by_module,
    checkpoint_source,
    differing_settings,
    find_checkpoint,
    load_weights,
)
from tests.helpers import tiny
from tests.training.test_checkpoint import new_state, saved_run


@pytest.mark.slow
def test_warm_start_takes_the_moving_average(tmp_path):
    saved = saved_run(tmp_path, tiny.batch_norm, ema=True)
    _, state = new_state(Mesh(fsdp=1), tiny.batch_norm, seed=1)
    warm = load_weights(checkpoint_source(str(tmp_path)), state.params, state.model_state)
    for name, value in names(warm.params).items():
        np.testing.assert_array_equal(value, names(saved.ema_params)[name], name)
    for name, value in names(warm.model_state).items():
        np.testing.assert_array_equal(value, names(saved.model_state)[name], name)
    assert (
        "params/conv_stem/conv/w" in warm.loaded
        and "model_state/conv_stem/batch_norm/~/mean_ema/average" in (warm.loaded)
    )
    assert warm.left == warm.unused == ()


def test_weights_that_are_not_finite_are_named():
    params = {"linear": {"w": np.array([1.0, np.nan], np.float32), "b": np.ones(2, np.float32)}}
    source = array_source("file x", params, {"count": {"n": np.int32(3)}})
    _, state = new_state(Mesh(fsdp=1), tiny.mlp, seed=1)
    place = next(iter(names(state.params).values())).sharding
    template = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=place),
        (params, {"count": {"n": np.int32(3)}}),
    )
    with pytest.raises(UserError, match="file x has NaN or infinity in 1 of 3 .*params/linear/w:"):
        load_weights(source, *template)


def test_warm_start_in_part(tmp_path):
    """The last layers differ only in their values; only the first layer is loaded."""
    saved = saved_run(tmp_path, tiny.mlp, ema=False)
    _, state = new_state(Mesh(fsdp=1), tiny.mlp, seed=1)
    path = str(tmp_path / "checkpoints" / "0")
    warm = load_weights(
        checkpoint_source(path), state.params, state.model_state, ("mlp/~/linear_0",)
    )
    first, second = "mlp/~/linear_0", "mlp/~/linear_1"
    np.testing.assert_array_equal(warm.params[first]["w"], saved.params[first]["w"])
    np.testing.assert_array_equal(warm.params[second]["w"], state.params[second]["w"])
    assert warm.loaded == (f"params/{first}/b", f"params/{first}/w")
    assert warm.left == warm.unused == (f"params/{second}/b", f"params/{second}/w")


def test_warm_start_except_for_a_part(tmp_path):
    saved = saved_run(tmp_path, tiny.mlp, ema=False)
    _, state = new_state(Mesh(fsdp=1), tiny.mlp, seed=1)
    source = checkpoint_source(str(tmp_path))
    warm = load_weights(source, state.params, state.model_state, ("mlp", "!mlp/~/linear_1/w"))
    last = "mlp/~/linear_1"
    np.testing.assert_array_equal(warm.params[last]["b"], saved.params[last]["b"])
    np.testing.assert_array_equal(warm.params[last]["w"], state.params[last]["w"])
    assert warm.left == warm.unused == (f"params/{last}/w",)


def test_names_are_reported_by_module():
    loaded = [f"params/{name}" for name in ("a/b/w", "a/b/o", "a/c/w", "d/w")]
    left = ["params/a/c/o", "params/e"]
    assert by_module([*loaded, "model_state/f/g"], left) == ["a/b (2 arrays)", "a/c/w", "d", "f"]
    assert by_module(left, loaded) == ["a/c/o", "e"]
    assert by_module(loaded, ()) == ["a (3 arrays)", "d"]


@pytest.mark.parametrize("fsdp", [1, 4])
def test_warm_start_resizes_positions(tmp_path, fsdp):
    name = "positions/embeddings"
    rows, columns = np.meshgrid(np.arange(2.0), np.arange(3.0), indexing="ij")
    old = {"positions": {"embeddings": np.stack([rows, columns], -1).reshape(6, 2)}}
    new = Mesh(fsdp=fsdp).template({"positions": {"embeddings": np.zeros((24, 2), np.float32)}})
    grids = {name: (2, 3)}, {name: (4, 6)}
    source = array_source("file", old, {})
    warm = load_weights(source, new, {}, grids=grids)
    resized = np.asarray(warm.params["positions"]["embeddings"]).reshape(4, 6, 2)
    assert warm.loaded == warm.resized == (f"params/{name}",)
    # Linear in between, constant beyond the outermost positions.
    np.testing.assert_allclose(resized[:, 0, 0], [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(resized[0, :, 1], [0, 0.25, 0.75, 1.25, 1.75, 2])
    with pytest.raises(UserError, match=r"embeddings \(6, 2\) instead of \(24, 2\)"):
        load_weights(source, new, {}, grids=({name: (2, 3)}, {name: (5, 5)}))
    with pytest.raises(UserError, match=r"embeddings \(6, 2\) instead of \(24, 2\)"):
        load_weights(source, new, {}, grids=({name: (2, 3)}, {"other": (4, 6)}))


def test_tables_are_resized_in_the_same_order_in_every_process():
    modules = [f"positions_{index}" for index in range(8)]
    old, new = (
        {module: {"embeddings": np.zeros((length, 2), np.float32)} for module in modules}
        for length in (2, 3)
    )
    grids = tuple({f"{module}/embeddings": (length,) for module in modules} for length in (2, 3))
    template = Mesh(fsdp=1).template(new)
    warm = load_weights(array_source("file", old, {}), template, {}, grids=grids)
    assert warm.resized == tuple(f"params/{module}/embeddings" for module in modules)


def test_settings_that_differ():
    there = {"model.num_heads": 8, "model.num_blocks": 2, "model.resolution": None}
    here = {"model.num_heads": 4, "model.num_blocks": 2, "model.exact_gelu": True}
    assert differing_settings(there, here) == ["model.num_heads 8 there and 4 here"]


def test_warm_start_refuses_mismatches(tmp_path):
    saved_run(tmp_path, tiny.mlp, ema=False)
    _, wide = new_state(Mesh(fsdp=1), tiny.wide_mlp)
    with pytest.raises(UserError, match=r"missing: params/mlp/~/linear_2/b.*config.init_prefixes"):
        load_weights(checkpoint_source(str(tmp_path)), wide.params, wide.model_state)
    with pytest.raises(UserError, match="has 'encoder', but no name in the model starts"):
        load_weights(checkpoint_source(str(tmp_path)), wide.params, wide.model_state, ("encoder",))
    with pytest.raises(UserError, match="No checkpoint at"):
        find_checkpoint(str(tmp_path / "nowhere"))


def test_arrays_of_a_file_go_to_their_shards(tmp_path):
    """Without a copy in memory of the whole."""
    values = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    write_folder(tmp_path / "model", {}, {"w": values, "half": values.astype(np.float16)})
    _, found = read_folder(tmp_path / "model")
    assert not found["w"].flags.owndata and not found["w"].flags.writeable
    assert found["half"].dtype == np.float32
    params = {"linear": {"w": found["w"]}}
    template = Mesh(fsdp=4).template({"params": jax.eval_shape(lambda: params)})["params"]
    loaded = load_weights(array_source("file", params, {}), template, {}).params["linear"]["w"]
    assert {shard.data.shape for shard in loaded.addressable_shards} == {(16, 32)}
    np.testing.assert_array_equal(loaded, values)
