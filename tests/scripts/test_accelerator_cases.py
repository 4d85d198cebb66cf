"""Cases of `scripts.benchmark --cases=accelerator`: shapes at full size, runs at tiny size."""

import re

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.losses import batch_loss
from scripts import _accelerator
from scripts.accelerator_cases import FORMS, ITEMS, MaskedBytes, arguments, case, model_flops
from tests.helpers import experiments


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
@pytest.mark.parametrize("form", FORMS)
def test_published_sizes(form):
    (state, batch) = case("language_128", form).shapes
    assert experiments.num_parameters(state.params) == 201_108_230
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    assert batch["inputs"].shape == (128, 2048)
    assert case("imagenet_32", form).shapes[1]["image"].shape == (32, 224, 224, 3)
    assert case("flow_2", form).shapes[1]["frames"].shape == (2, 2, 368, 496, 3)
    assert case("flow_forward_1", form).shapes[1]["frames"].shape == (1, 2, 368, 496, 3)


def test_model_flops():
    # Rows: projections, logits and weighted values, output, and MLP of every attention.
    encoder = 256 * 1280 * 256 + 2048 * 768 * (256 + 1280) + 256 * 2048 * (256 + 1280)
    encoder += 3 * 256 * 1280 * 1280
    layer = 256 * 1280 * (2 * 256 + 1280) + 256 * 256 * (256 + 1280) + 3 * 256 * 1280 * 1280
    decoder = 2048 * 768 * 256 + 256 * 1280 * (256 + 768) + 2048 * 256 * (256 + 768)
    decoder += 3 * 2048 * 768 * 768
    logits = 2048 * 768 * 262
    forward = 2 * (encoder + 26 * layer + decoder + logits)
    assert model_flops("language_32", "full") == 3 * 32 * forward
    assert model_flops("language_128", "full") == 3 * 128 * forward
    assert model_flops("imagenet_32", "full") == pytest.approx(3 * 32 * 407e9, rel=0.005)
    # Flow: one pair in a forward pass, two pairs in a training step.
    assert model_flops("flow_2", "full") == 6 * model_flops("flow_forward_1", "full")


@pytest.mark.slow
def test_full_size_computes_in_bfloat16_and_tiny_size_in_float32():
    for scale, is_in_half in (("full", True), ("tiny", False)):
        function, shapes, _ = case("flow_forward_1", scale=scale)
        assert ("bf16[" in str(jax.make_jaxpr(function)(*shapes))) == is_in_half


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
def test_all_forms_compute_the_same():
    name = "flow_forward_1"
    results = []
    for form in FORMS:
        function, _, _ = case(name, form, "tiny")
        results.append(jax.device_get(jax.jit(function)(*arguments(name, "tiny"))))
    for other in results[1:]:
        np.testing.assert_allclose(results[0], other, rtol=2e-3, atol=1e-5)
    assert np.abs(results[0]).max() > 0


def test_a_name_that_does_not_exist():
    with pytest.raises(UserError, match="no 'language_64'; choose from .*language_32"):
        case("language_64")
    with pytest.raises(UserError, match="no 'fast'; choose from default, plain, stored"):
        case("language_32", "fast")


def test_the_masked_loss_is_the_weighted_mean():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 3, 5)).astype(np.float32)
    targets, weights = rng.integers(0, 5, (2, 3)), rng.random((2, 3)).astype(np.float32)
    loss = batch_loss(MaskedBytes(5, 3), logits, {"targets": targets, "weights": weights})
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    nats = -np.log(np.take_along_axis(p, targets[..., None], -1)[..., 0])
    assert loss == pytest.approx((nats * weights).sum() / weights.sum(), rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
def test_the_table_has_a_row_for_each_case_and_form(monkeypatch, capsys):
    names = ("language_32", "flow_forward_1")
    monkeypatch.setattr(_accelerator, "ITEMS", {name: ITEMS[name] for name in names})
    _accelerator.print_table(["default"], "tiny", repeats=1)
    head, _, *lines = capsys.readouterr().out.strip().split("\n")
    assert re.search(r"products .*: [\d.]+ TFLOP/s in bfloat16, [\d.]+ in float32", head)
    rows = [line.split() for line in lines]
    assert [tuple(row[:2]) for row in rows] == [(name, "default") for name in names]
    for row in rows:
        time, unit, rate, share, _, memory_unit, compile_time, seconds = row[2:]
        assert (unit, share[-1], memory_unit, seconds) == ("ms", "%", "GiB", "s")
        assert min(map(float, (time, rate, compile_time))) > 0


def test_cases_that_do_not_fit_are_reported(monkeypatch):
    monkeypatch.setattr(_accelerator, "free_memory", lambda: 2**10)
    with pytest.raises(_accelerator.DoesNotFitError, match="needs .* 0.0 GiB are free"):
        _accelerator.measure("flow_forward_1", "default", "tiny", 1)
