"""Batches that grow in the course of training."""

import json

import grain
import numpy as np
import pytest

from perceiver_io.data.pipeline import batch_stream
from perceiver_io.data.pipeline.batch_ramp import BatchRamp
from tests.data.pipeline.test_dataset import Numbers, assert_same, joined

RAMP = BatchRamp(microbatches=4, steps=6)
SIZES = [2, 2, 4, 4, 6, 6, 8, 8]


def iterate(shard=(0, 1), num_workers=0):
    dataset = Numbers(num_workers=num_workers)
    settings = dict(batch_size=8 // shard[1], training=True, seed=0, shard=shard, ramp=RAMP)
    return iter(dataset.load("train", **settings))


@pytest.fixture(scope="module")
def batches():
    iterator = iterate()
    return [next(iterator) for _ in SIZES]


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        (RAMP, [1, 1, 2, 2, 3, 3, 4, 4]),
        (BatchRamp(3, 5), [1, 1, 1, 2, 2, 3, 3]),
        (BatchRamp(8, 2), [1, 4, 8, 8]),
        (BatchRamp(8, 0), [8, 8]),
        (BatchRamp(1, 2), [1, 1, 1]),
    ],
)
def test_the_number_of_microbatches_grows_linearly(ramp, expected):
    assert [ramp.num_microbatches(step) for step in range(len(expected))] == expected


def test_batches_that_grow_have_the_same_examples_in_the_same_order(batches):
    assert [len(batch["valid"]) for batch in batches] == SIZES
    full = iter(Numbers().load("train", batch_size=8, training=True, seed=0, shard=(0, 1)))
    whole = [next(full) for _ in range(sum(SIZES) // 8)]
    for name in whole[0]:
        np.testing.assert_array_equal(joined(batches, name), joined(whole, name))


def test_shards_of_batches_that_grow_are_the_single_process_batches(batches):
    shards = [iterate(shard=(index, 2)) for index in range(2)]
    for expected in batches:
        parts = [next(shard) for shard in shards]
        assert_same([expected], [{name: joined(parts, name) for name in expected}])


@pytest.mark.parametrize("served", [1, 3, 6])
def test_batches_continue_to_grow_on_another_number_of_processes(batches, served):
    halves = [iterate(shard=(index, 2)) for index in range(2)]
    for half in halves:
        for _ in range(served):
            next(half)
    state = halves[0].get_state()
    assert state == {"position": served, "examples": sum(SIZES[:served]), "batch_size": 8}
    resumed = iterate()
    resumed.set_state(json.loads(json.dumps(state)))
    assert_same(batches[served:], [next(resumed) for _ in SIZES[served:]])


def test_batches_that_grow_can_be_assembled_from_pieces(batches, monkeypatch):
    monkeypatch.setattr(batch_stream, "_MAX_PIECE", 3)
    # In this process instead of a worker's: starting one at every size would take long.
    monkeypatch.setattr(grain.IterDataset, "mp_prefetch", lambda stream, *_, **__: stream)
    iterator = iterate(num_workers=1)
    assert_same(batches, [next(iterator) for _ in SIZES])
