"""The pipeline that all datasets share: order, randomness, sharding, padding, resuming."""

import dataclasses
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from typing import ClassVar

import grain
import numpy as np
import pytest
from absl import flags

from perceiver_io.data.pipeline import batch_stream
from perceiver_io.data.pipeline.dataset import Composed, Numbered, Preparation
from perceiver_io.data.pipeline.mixture import mixture_of
from perceiver_io.data.pipeline.shared_memory import SHARED_MEMORY, own_prefix
from perceiver_io.data.pipeline.sources import (
    MixedExamples,
    Source,
    WeightedExamples,
    broken_of,
    names_of,
    without,
)
from perceiver_io.errors import UserError

SIZE = 10


@dataclasses.dataclass(frozen=True)
class Range(Source):
    """Numbers starting at `first`."""

    first: int = 0
    size: int = SIZE

    splits: ClassVar[tuple[str, ...]] = ("train", "test")

    def __call__(self, split):
        return range(self.first, self.first + self.size)


class WithNoise(Preparation):
    """Each number with a random one."""

    def training_example(self, raw, rng):
        return {"number": np.int64(raw), "noise": rng.random()}

    evaluation_example = training_example

    def example_spec(self):
        return {"number": ((), np.dtype(np.int64)), "noise": ((), np.dtype(np.float64))}


Numbers = Composed(Range, WithNoise)


def training_batches(count, *, batch_size=4, seed=0, shard=(0, 1), num_workers=0):
    dataset = Numbers(num_workers=num_workers)
    stream = dataset.load("train", batch_size=batch_size, training=True, seed=seed, shard=shard)
    iterator = iter(stream)
    batches = list(itertools.islice(iterator, count))
    iterator.close()
    return batches


def evaluation_batches(*, batch_size, shard=(0, 1), num_workers=0):
    dataset = Numbers(num_workers=num_workers)
    return list(dataset.load("test", batch_size=batch_size, training=False, seed=0, shard=shard))


def joined(batches, name="number"):
    return np.concatenate([batch[name] for batch in batches])


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture(autouse=True)
def parsed_flags():
    """Worker processes receive the parsed flags."""
    flags.FLAGS.mark_as_parsed()


def test_every_epoch_has_every_example_once_in_a_new_order():
    batches = training_batches(15)
    epochs = joined(batches).reshape(6, SIZE)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(SIZE), (6, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert all(batch["valid"].all() and batch["valid"].shape == (4,) for batch in batches)


def test_batches_of_one():
    batches = training_batches(10, batch_size=1)
    assert sorted(joined(batches).tolist()) == sorted(joined(training_batches(5, batch_size=2)))


def test_augmentation_differs_from_epoch_to_epoch_and_example_to_example():
    noise = joined(training_batches(15), "noise")
    assert len(set(noise)) == 60


def test_the_seed_decides():
    assert_same(training_batches(5, seed=3), training_batches(5, seed=3))
    assert (joined(training_batches(5, seed=3)) != joined(training_batches(5, seed=4))).any()
    third, fourth = (joined(training_batches(5, seed=s), "noise") for s in (3, 4))
    assert not set(third) & set(fourth)


@pytest.mark.slow
def test_workers_change_nothing():
    assert_same(training_batches(7), training_batches(7, num_workers=2))
    assert_same(evaluation_batches(batch_size=4), evaluation_batches(batch_size=4, num_workers=2))


@pytest.mark.slow
def test_workers_ended_by_sigterm_are_restarted():
    stream = Numbers(num_workers=2).load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
    iterator = iter(stream)
    batches = [next(iterator)]
    assert any(SHARED_MEMORY.glob(f"{own_prefix()}[0-9a-f]*"))
    for worker in multiprocessing.active_children():
        worker.terminate()
        worker.join()
    batches += itertools.islice(iterator, 19)  # More than were prepared ahead.
    iterator.close()
    assert_same(batches, training_batches(20))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGKILL, "worker process that prepares batches was killed, .*num_workers=0"),
        (signal.SIGBUS, "/dev/shm, .* is full: its size is .* MB.*num_workers=0"),
    ],
)
def test_a_worker_that_ends_by_itself_is_explained(number, message):
    stream = Numbers(num_workers=1).load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
    iterator = iter(stream)
    next(iterator)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, number)
    with pytest.raises(UserError, match=message):
        list(itertools.islice(iterator, 19))


@pytest.mark.parametrize(
    "batch_size, piece",
    [(1, 1), (2, 2), (64, 64), (100, 50), (202, 2), (1024, 64), (675, 45), (67, 1)],
)
def test_pieces_divide_the_batch(batch_size, piece):
    assert batch_stream._piece_size(batch_size) == piece


@pytest.mark.slow
def test_large_batches_are_assembled_from_pieces(monkeypatch):
    whole = training_batches(3, batch_size=10)
    monkeypatch.setattr(batch_stream, "_MAX_PIECE", 3)
    assert_same(whole, training_batches(3, batch_size=10, num_workers=2))
    assert_same(
        evaluation_batches(batch_size=4, shard=(1, 2)),
        evaluation_batches(batch_size=4, shard=(1, 2), num_workers=1),
    )
    assert_same(
        training_batches(3, batch_size=4, shard=(0, 2)),
        training_batches(3, batch_size=4, shard=(0, 2), num_workers=1),
    )


@pytest.mark.parametrize("num_shards", [2, 4])
def test_concatenated_shards_are_the_single_process_batches(num_shards):
    whole = training_batches(7, batch_size=8)
    parts = [
        training_batches(7, batch_size=8 // num_shards, shard=(index, num_shards))
        for index in range(num_shards)
    ]
    together = [{name: joined(step, name) for name in step[0]} for step in zip(*parts, strict=True)]
    assert_same(whole, together)


def iterate(num_workers, shard=(0, 1), batch_size=4):
    dataset = Numbers(num_workers=num_workers)
    local = batch_size // shard[1]
    return iter(dataset.load("train", batch_size=local, training=True, seed=0, shard=shard))


@pytest.mark.slow
@pytest.mark.parametrize("before, after", [(0, 2), (2, 0)])
def test_a_saved_iterator_continues_exactly_with_any_number_of_workers(before, after):
    iterator = iterate(before)
    for _ in range(4):  # into the second epoch
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(5)]
    assert iterator.get_state() != state
    iterator.close()

    resumed = iterate(after)
    resumed.set_state(json.loads(json.dumps(state)))
    assert resumed.get_state() == state
    assert_same(expected, [next(resumed) for _ in range(5)])
    resumed.close()


def test_the_position_of_a_running_iterator_can_be_set():
    iterator = iterate(0)
    batches = [next(iterator) for _ in range(6)]
    for position in (0, 5, 2):
        iterator.set_state({"position": position, "batch_size": 4})
        assert_same([batches[position]], [next(iterator)])


def test_a_saved_iterator_continues_on_another_number_of_processes():
    whole = training_batches(8)
    halves = [iterate(0, shard=(index, 2)) for index in range(2)]
    for half in halves:
        half.set_state({"position": 4, "batch_size": 4})
    for expected in whole[4:]:
        parts = [next(half) for half in halves]
        assert_same([expected], [{name: joined(parts, name) for name in expected}])


def test_a_position_in_batches_of_another_size_is_refused():
    state = iterate(0).get_state()
    assert state == {"position": 0, "examples": 0, "batch_size": 4}
    for shard in ((0, 1), (1, 2)):
        with pytest.raises(UserError, match="of 4 .*batch_size is now 8.*batch_size=4"):
            iterate(0, shard=shard, batch_size=8).set_state(state)


def test_grain_checkpoints_the_iterator(tmp_path):
    iterator = iterate(0)
    batches = [next(iterator) for _ in range(6)]
    iterator.set_state({"position": 3, "batch_size": 4})
    handler = grain.checkpoint.CheckpointHandler()
    handler.save(tmp_path, iterator)
    resumed = handler.restore(tmp_path, iterate(0))
    assert_same(batches[3:], [next(resumed) for _ in range(3)])


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10, 16])
@pytest.mark.parametrize("num_shards", [1, 2, 3])
def test_evaluation_sees_each_example_once_on_equally_many_batches(batch_size, num_shards):
    shards = [
        evaluation_batches(batch_size=batch_size, shard=(index, num_shards))
        for index in range(num_shards)
    ]
    counts = {len(batches) for batches in shards}
    assert counts == {-(-SIZE // (batch_size * num_shards))}
    spec = Numbers(num_workers=0).batch_spec(batch_size)
    for batch in itertools.chain(*shards):
        assert {name: (array.shape, array.dtype) for name, array in batch.items()} == spec
        assert not batch["number"][~batch["valid"]].any()
    seen = np.concatenate([batch["number"][batch["valid"]] for batch in itertools.chain(*shards)])
    np.testing.assert_array_equal(np.sort(seen), np.arange(SIZE))
    if num_shards == 1:
        np.testing.assert_array_equal(seen, np.arange(SIZE))


def test_randomness_in_evaluation_is_fixed_by_position():
    first, again = evaluation_batches(batch_size=4), evaluation_batches(batch_size=4)
    assert_same(first, again)
    noise = {4: first, 3: evaluation_batches(batch_size=3)}
    noise = {size: joined(batches, "noise")[:SIZE] for size, batches in noise.items()}
    assert len(set(noise[4])) == SIZE
    np.testing.assert_array_equal(noise[4], noise[3])


def test_examples_may_know_how_many_came_before():
    class Positions(WithNoise):
        numbered = True

        def training_example(self, raw, rng):
            assert isinstance(raw, Numbered)
            return {"number": np.int64(raw.position), "noise": np.float64(raw.raw)}

    dataset = Composed(Range, Positions)(num_workers=0)
    stream = dataset.load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
    batches = list(itertools.islice(iter(stream), 5))
    np.testing.assert_array_equal(joined(batches), np.arange(20))
    assert sorted(joined(batches, "noise")[:SIZE]) == list(range(SIZE))


# Mixtures.

SETS = {"numbers": Numbers}
Mixed = mixture_of(SETS, WithNoise)
SETS["mixture"] = Mixed
PART = {"name": "numbers", "weight": 1.0}


def nested(part, weight=1.0):
    """A mixture of numbers and a mixture with one part."""
    return {"a": PART, "x": {"name": "mixture", "weight": weight, "parts": {"y": part}}}


def mixed(first_weight=1.0, second_weight=3.0, second_size=7, num_workers=0):
    parts = {
        "small": {"name": "numbers", "weight": first_weight},
        "large": {
            "name": "numbers", "weight": second_weight, "first": 100, "size": second_size
        },
    }  # fmt: skip
    return Mixed(parts=parts, num_workers=num_workers)


def mixed_batches(dataset, count, *, batch_size=4, seed=0, shard=(0, 1)):
    stream = dataset.load("train", batch_size=batch_size, training=True, seed=seed, shard=shard)
    iterator = iter(stream)
    batches = list(itertools.islice(iterator, count))
    iterator.close()
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("weights", [(1.0, 3.0), (0.7, 0.1), (5, 5)])
def test_a_mixture_has_the_proportions_of_its_weights(weights):
    numbers = joined(mixed_batches(mixed(*weights), 100))
    share = weights[0] / sum(weights)
    for start in (0, 37, 200):
        assert (numbers[start : start + 160] < 100).mean() == pytest.approx(share, abs=1 / 80)


@pytest.mark.slow
def test_each_part_of_a_mixture_is_shuffled_and_repeated_independently():
    numbers = joined(mixed_batches(mixed(), 140))
    small, large = numbers[numbers < 100], numbers[numbers >= 100]
    epochs = small[:140].reshape(-1, SIZE), large[:420].reshape(-1, 7)
    for part, expected in zip(epochs, (np.arange(SIZE), 100 + np.arange(7)), strict=True):
        assert (np.sort(part, axis=1) == expected).all()
        assert len({tuple(epoch) for epoch in part}) == len(part)


def test_a_mixture_depends_on_the_seed_only():
    assert_same(mixed_batches(mixed(), 5), mixed_batches(mixed(), 5))
    other = mixed_batches(mixed(), 5, seed=1)
    assert (joined(other) != joined(mixed_batches(mixed(), 5))).any()
    assert not set(joined(other, "noise")) & set(joined(mixed_batches(mixed(), 5), "noise"))


@pytest.mark.slow
def test_workers_change_nothing_of_a_mixture():
    assert_same(mixed_batches(mixed(), 5), mixed_batches(mixed(num_workers=2), 5))


def test_concatenated_shards_of_a_mixture_are_the_single_process_batches():
    parts = [mixed_batches(mixed(), 5, batch_size=2, shard=(index, 2)) for index in range(2)]
    together = [{name: joined(step, name) for name in step[0]} for step in zip(*parts, strict=True)]
    assert_same(mixed_batches(mixed(), 5), together)


def test_broken_examples_of_a_mixture_are_left_out():
    class Files(list):
        broken: ClassVar = {1: "empty"}

    inner = MixedExamples([Files([10, 11]), [20]], [1, 1])
    whole = MixedExamples([Files([0, 1, 2]), inner], [3, 4])
    assert broken_of(whole) == {1: "empty", 4: "empty"}
    assert names_of(whole) == ["0/0", "0/1", "0/2", "1/0/0", "1/0/1", "1/1/0"]
    kept = without(whole, broken_of(whole))
    assert list(kept) == [0, 2, 10, 20] and kept.weights == [3, 4]
    assert list(map(list, kept.parts)) == [[0, 2], [10, 20]]
    with pytest.raises(UserError, match="All 1 examples are broken"):
        without(whole, {5})


def test_a_mixture_resumes():
    whole = mixed_batches(mixed(), 9)
    stream = mixed().load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
    resumed = iter(stream)
    resumed.set_state(json.loads(json.dumps({"position": 4, "batch_size": 4})))
    assert_same(whole[4:], [next(resumed) for _ in range(5)])


def test_a_mixture_is_evaluated_part_by_part():
    assert mixed().num_examples("test") == SIZE + 7
    stream = mixed().load("test", batch_size=4, training=False, seed=0, shard=(0, 1))
    batches = list(stream)
    numbers = np.concatenate([batch["number"][batch["valid"]] for batch in batches])
    np.testing.assert_array_equal(numbers, [*range(SIZE), *range(100, 107)])


def test_a_mixture_of_one_part_has_only_its_examples():
    dataset = Mixed(parts={"all": {"name": "numbers", "weight": 2.0}}, num_workers=0)
    assert sorted(joined(mixed_batches(dataset, 5))) == sorted([*range(SIZE)] * 2)


@pytest.mark.parametrize(
    "parts, message",
    [
        ({}, "config.data.parts is empty"),
        ({"a": {"name": "numbers"}}, r"config.data.parts.a lacks weight"),
        (3, r"config.data.parts is 3, but must be a section: write it as dict\(...\)"),
        ({"a": 3}, r"config.data.parts.a is 3, but must be a section"),
        ({"a": PART | {"weight": 0.0}}, r"parts.a.weight is 0.0, which must be above 0 and"),
        ({"a": PART | {"weight": np.inf}}, r"parts.a.weight is inf, which must be above 0 and"),
        ({"a": PART | {"weight": "1"}}, r"config.data.parts.a.weight is '1', but part needs int"),
        (nested(3), r"config.data.parts.x.parts.y is 3, but must be a section"),
        (nested(PART | {"weight": 0}), r"config.data.parts.x.parts.y.weight is 0, which must be"),
        (nested(PART | {"size": "a"}), r"config.data.parts.x.parts.y.size is 'a', but Range needs"),
        ({"x": {"name": "mixture", "weight": 1.0}}, r"config.data.parts.x lacks parts"),
        ({"a": {"name": "number", "weight": 1.0}}, r"parts.a.name is 'number'.*mean 'numbers'"),
        ({"a": {"name": "numbers", "weight": 1.0, "last": 1}}, r"parts.a.last is not a setting"),
    ],
)
def test_wrong_parts_are_named(parts, message):
    with pytest.raises(UserError, match=message):
        Mixed(parts=parts, num_workers=0)


def test_a_mixture_with_an_empty_part():
    with pytest.raises(UserError, match=r"'test' of config.data.parts.large has no examples"):
        mixed(second_size=0).num_examples("test")
    dataset = Mixed(parts=nested(PART | {"size": 0}), num_workers=0)
    with pytest.raises(UserError, match=r"'test' of config.data.parts.x.parts.y has no examples"):
        dataset.num_examples("test")


def test_a_mixture_of_a_mixture():
    dataset = Mixed(parts=nested(PART | {"first": 100}, weight=3.0), num_workers=0)
    numbers = joined(mixed_batches(dataset, 10))
    assert (numbers < 100).sum() == 10
    assert sorted(numbers[numbers >= 100]) == sorted([*range(100, 110)] * 3)


def test_parts_of_a_mixture_have_the_same_classes_and_splits():
    class Lettered(Range):
        class_names = ("a", "b")
        splits = ("train", "validation")

    both = {"numbers": Numbers, "letters": Composed(Lettered, WithNoise)}
    parts = {name: {"name": name, "weight": 1.0} for name in both}
    dataset = mixture_of(both, WithNoise)(parts=parts, num_workers=0)
    assert dataset.source.splits == ("train",)
    with pytest.raises(UserError, match=r"different classes: .*'letters': \('a', 'b'\)"):
        dataset.class_names  # noqa: B018
    twice = {"a": parts["letters"], "b": parts["letters"]}
    same = mixture_of(both, WithNoise)(parts=twice, num_workers=0)
    assert same.class_names == ("a", "b")


def test_an_empty_split():
    with pytest.raises(UserError, match="split 'test' of Range has no examples"):
        Numbers(num_workers=0, size=0).load(
            "test", batch_size=2, training=False, seed=0, shard=(0, 1)
        )


def test_num_examples():
    assert Numbers(num_workers=0).num_examples("test") == SIZE


def test_unknown_split():
    with pytest.raises(UserError, match="no split 'valid'; choose one of 'train', 'test'"):
        Numbers(num_workers=0).load("valid", batch_size=2, training=False, seed=0, shard=(0, 1))
    with pytest.raises(UserError, match="no split 'valid'"):
        Numbers(num_workers=0).num_examples("valid")


@pytest.mark.parametrize("batch_size, num_shards", [(11, 1), (6, 2)])
def test_a_training_batch_larger_than_the_split(batch_size, num_shards):
    with pytest.raises(UserError, match=f"batch of {batch_size * num_shards}.*which has 10"):
        training_batches(1, batch_size=batch_size, shard=(0, num_shards))


def test_the_pipeline_needs_neither_jax_nor_tensorflow():
    program = """
import sys
sys.modules["jax"] = None  # importing it fails
from perceiver_io.data.vision import cifar10
from perceiver_io.data.vision import digits
from perceiver_io.data.vision import image_folder
from perceiver_io.data.vision import imagenet
from perceiver_io.data.vision import photos
dataset = photos.photos(
    num_workers=0, mean=(0.5,) * 3, std=(0.5,) * 3, image_size=(16, 16), crop_area=(0.5, 1.0),
    crop_aspect=(0.75, 1.33), evaluation_crop=1.0, flip=True, randaugment_layers=2,
    randaugment_magnitude=5, mixup_alpha=0.2, cutmix_alpha=0.2, labels="coarse")
stream = dataset.load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
assert next(iter(stream))["image"].shape == (4, 16, 16, 3)
assert "tensorflow" not in sys.modules
print("done")
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "done", result.stderr


@dataclasses.dataclass(frozen=True)
class Weighted(Range):
    """Four numbers, of which training draws the last most often."""

    def __call__(self, split):
        return WeightedExamples(range(4), (0.0, 1.0, 2.0, 5.0))


def test_weighted_examples_are_drawn_in_proportion():
    dataset = Composed(Weighted, WithNoise)()
    batches = dataset.load("train", batch_size=4, training=True, seed=0, shard=(0, 1))
    drawn = list(itertools.islice(batches, 400))
    numbers = np.concatenate([batch["number"] for batch in drawn])
    shares = np.bincount(numbers, minlength=4) / len(numbers)
    np.testing.assert_allclose(shares, [0, 0.125, 0.25, 0.625], atol=0.04)
    assert len({float(x) for batch in drawn for x in batch["noise"]}) == len(numbers)
    iterator = iter(batches)
    iterator.set_state({"position": 7, "examples": 28, "batch_size": 4})
    np.testing.assert_array_equal(next(iterator)["number"], drawn[7]["number"])
    whole = dataset.load("train", batch_size=4, training=False, seed=0, shard=(0, 1))
    assert next(iter(whole))["number"].tolist() == [0, 1, 2, 3]


def test_weighted_examples_keep_their_weights_without_broken_ones():
    examples = WeightedExamples(["a", "b", "c"], (1.0, 2.0, 3.0))
    kept = without(examples, {1})
    assert list(kept) == ["a", "c"] and kept.weights.tolist() == [1, 3]
    assert names_of(examples) == ["0", "1", "2"] and broken_of(examples) == {}
