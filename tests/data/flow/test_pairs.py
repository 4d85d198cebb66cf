"""Pairs of frames: crops, reversal, and the two phases of training."""

import numpy as np
import pytest

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.augmentation import FlowAugmentation
from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair, cut, inverse_flow, reversed_pair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.errors import UserError
from tests.helpers.procedural_scenes import EASY, pairs

RNG = np.random.default_rng(0)
SHIFT = (2, -1)
NO_AUGMENTATION = dict(
    spatial_probability=0.0,
    log2_scale=(0.0, 0.0),
    log2_stretch=0.0,
    rotation=0.0,
    relative_log2_scale=0.0,
    relative_rotation=0.0,
    relative_translation=0.0,
    horizontal_flip=1.0,
    vertical_flip=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    log2_gamma=0.0,
    asymmetric_probability=0.0,
    noise=0.0,
    eraser_probability=0.0,
    eraser_boxes=0,
    eraser_sides=(1, 1),
)


def moved(index, size=(10, 14), backward=True):
    """A random picture that moves by SHIFT from frame to frame."""
    height, width = size
    rng = np.random.default_rng(index)
    frames = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(2)]
    flow = np.broadcast_to(np.float32(SHIFT), (height, width, 2))
    valid = np.ones(size, bool)
    back = Flow(-flow, valid) if backward else None
    return FlowPair(*frames, Flow(flow, valid), back, ~valid, f"pair {index}")


class Moved(Source):
    splits = ("train",)

    def __call__(self, split):
        return [moved(i) for i in range(12)]


def test_every_field_is_cropped():
    pair = moved(0)
    part = cut(pair, (3, 2), (4, 5))
    np.testing.assert_array_equal(part.first, pair.first[3:7, 2:7])
    np.testing.assert_array_equal(part.second, pair.second[3:7, 2:7])
    assert part.size == part.flow.valid.shape == part.backward.valid.shape == (4, 5)
    assert part.occluded.shape == (4, 5) and part.flow.flow.shape == (4, 5, 2)


def test_frames_smaller_than_the_crop():
    with pytest.raises(UserError, match="pair 0 has 10x14 pixels, too few for a crop of 11x14"):
        cut(moved(0), (0, 0), (11, 14))


def test_reversed_pairs_have_the_backward_flow():
    pair = reversed_pair(moved(0))
    np.testing.assert_array_equal(pair.first, moved(0).second)
    np.testing.assert_array_equal(pair.flow.flow[..., 0], -SHIFT[0])
    np.testing.assert_array_equal(pair.backward.flow[..., 0], SHIFT[0])
    # If the backward flow is not known, it is derived from the forward flow.
    made = reversed_pair(moved(0, backward=False))
    expected = np.zeros((10, 14), bool)
    expected[:9, 2:] = True
    np.testing.assert_array_equal(made.flow.valid, expected)
    np.testing.assert_array_equal(made.flow.flow[expected], np.tile(np.float32((-2, 1)), (108, 1)))


def test_inverse_flow_is_not_valid_where_surfaces_cover_each_other():
    flow = np.zeros((1, 6, 2), np.float32)
    flow[0, 0] = (3, 0)  # onto pixel 3, which stays
    valid = np.array([[True, True, False, True, True, True]])
    inverse = inverse_flow(Flow(flow, valid))
    np.testing.assert_array_equal(inverse.valid, [[False, True, False, False, True, True]])
    assert not inverse.flow.any()


@pytest.mark.parametrize("scale,shift", [(1.3, 0.0), (1.0, 12.5)])
def test_hidden_surfaces_do_not_show_through(scale, shift):
    """A square that grows, or moves by half pixels, has pixels where none of its flow ends."""
    y, x = np.mgrid[:96, :128].astype(np.float32)
    square = (abs(x - 48) < 24) & (abs(y - 48) < 24)
    moving = np.stack([(scale - 1) * (x - 48) + shift, (scale - 1) * (y - 48)], -1)
    flow = np.where(square[..., None], moving, 0).astype(np.float32)
    inverse = inverse_flow(Flow(flow, np.ones((96, 128), bool)))
    covered = (abs(x - 48 - shift) < 24 * scale - 2) & (abs(y - 48) < 24 * scale - 2)
    expected = np.stack(
        [(1 / scale - 1) * (x - 48 - shift) - shift, (1 / scale - 1) * (y - 48)], -1
    )
    error = np.linalg.norm(inverse.flow - np.where(covered[..., None], expected, 0), axis=-1)
    inside = inverse.valid & covered
    assert inside.sum() > 0.5 * covered.sum()
    assert error[inside].max() < 1


def test_inverse_flow_is_close_to_the_exact_one():
    errors, known, size = [], 0, 0
    for pair in pairs(EASY):
        inverse = inverse_flow(pair.flow)
        errors.append(np.linalg.norm(inverse.flow - pair.backward.flow, axis=-1)[inverse.valid])
        known, size = known + inverse.valid.sum(), size + inverse.valid.size
    errors = np.concatenate(errors)
    assert np.median(errors) < 0.05 and np.mean(errors > 0.5) < 0.05
    assert known > 0.7 * size


def dataset_of(**fields):
    plain = {"num_workers": 0, "image_size": (6, 8), "plain_examples": 0, "growth_examples": 0}
    section = plain | {"augmentation": None} | fields
    return construct(Composed(Moved, FlowPreparation), section, "config.data")


def batches(plain_examples, augmentation, growth_examples=0):
    dataset = dataset_of(
        plain_examples=plain_examples, growth_examples=growth_examples, augmentation=augmentation
    )
    stream = iter(dataset.load("train", batch_size=4, training=True, seed=1, shard=(0, 1)))
    return [next(stream) for _ in range(6)]


def test_plain_examples_come_first_and_are_reversed_half_of_the_time():
    found = batches(8, NO_AUGMENTATION)
    plain = np.concatenate([batch["flow"][:, 0, 0] for batch in found[:2]])
    forth = (plain == SHIFT).all(-1)
    assert (forth | (plain == np.negative(SHIFT)).all(-1)).all() and 0 < forth.sum() < 8
    # Here every augmented pair is mirrored, and none is reversed.
    for batch in found[2:]:
        assert (batch["flow"] == (-SHIFT[0], SHIFT[1])).all()


def test_augmentation_grows_linearly_after_the_plain_examples(monkeypatch):
    severities = set()

    def weakened(augmentation, severity):
        severities.add(severity)
        return augmentation

    monkeypatch.setattr(FlowAugmentation, "weakened", weakened)
    batches(8, NO_AUGMENTATION, growth_examples=10)
    assert sorted(severities) == pytest.approx([i / 10 for i in range(1, 11)])


def test_without_augmentation_all_examples_are_plain():
    assert all((np.abs(batch["flow"]) == np.abs(SHIFT)).all() for batch in batches(0, None))


def test_batches_match_their_spec():
    dataset = dataset_of()
    batch = next(iter(dataset.load("train", batch_size=4, training=False, seed=0, shard=(0, 1))))
    promised = {name: (shape, dtype) for name, (shape, dtype) in dataset.batch_spec(4).items()}
    assert {name: (x.shape, x.dtype) for name, x in batch.items()} == promised
    np.testing.assert_array_equal(batch["frames"][1, 0], moved(1).first[2:8, 3:11])


def test_evaluation_pads_small_pairs():
    dataset = dataset_of(image_size=(12, 8))
    batch = next(iter(dataset.load("train", batch_size=2, training=False, seed=0, shard=(0, 1))))
    assert batch["flow_valid"][:, :10].all() and not batch["flow_valid"][:, 10:].any()
    np.testing.assert_array_equal(batch["frames"][0, 0, :10], moved(0).first[:, 3:11])
    np.testing.assert_array_equal(batch["frames"][0, 0, 11], moved(0).first[9, 3:11])


def test_wrong_settings_are_found_at_once():
    for name in ("plain_examples", "growth_examples"):
        with pytest.raises(UserError, match=f"{name} is -1, which must be at least 0"):
            dataset_of(**{name: -1})
    with pytest.raises(UserError, match="config.data.augmentation.rotation is 999"):
        dataset_of(augmentation=NO_AUGMENTATION | {"rotation": 999.0})
