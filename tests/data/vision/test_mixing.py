"""The random parameters of mixing, drawn with the examples."""

import numpy as np
import pytest

from perceiver_io.data.vision import mixing

SIZE = (12, 10)


def draw(seed, mixup_alpha=0.5, cutmix_alpha=0.5):
    rng = np.random.default_rng(seed)
    drawn = mixing.draw(rng, SIZE, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha)
    assert {name: (x.shape, x.dtype) for name, x in drawn.items()} == mixing.SPEC
    return drawn["mixup_weight"], drawn["cutmix_box"]


def test_each_method_alone_and_both_equally_often():
    # A box may be empty, but a weight is almost never 1.
    seeds = range(400)
    assert all(draw(s, mixup_alpha=0.0)[0] == 1 for s in seeds)
    assert not any(draw(s, cutmix_alpha=0.0)[1].any() for s in seeds)
    assert 0.42 < np.mean([draw(s)[0] == 1 for s in seeds]) < 0.58
    assert all(weight == 1 or not box.any() for weight, box in map(draw, seeds))


def test_weights_follow_the_beta_distribution():
    weights = [draw(s, mixup_alpha=2.0, cutmix_alpha=0.0)[0] for s in range(2000)]
    assert np.mean(weights) == pytest.approx(0.5, abs=0.02)
    assert np.var(weights) == pytest.approx(1 / 20, abs=0.005)  # of Beta(2, 2)


class _Fixed:
    """A generator that returns a fixed area and centre."""

    def __init__(self, kept, centre):
        self._kept, self._centre = kept, list(centre)

    def beta(self, a, b):
        return self._kept

    def integers(self, length):
        return self._centre.pop(0)


@pytest.mark.parametrize(
    "kept, centre, box",
    [
        (0.75, (6, 5), (3, 9, 3, 8)),  # half of each side: 6 and 5
        (0.0, (6, 5), (0, 12, 0, 10)),
        (0.0, (0, 9), (0, 6, 4, 10)),  # clipped
        (1.0, (6, 5), (6, 6, 5, 5)),
    ],
)
def test_a_box_has_the_proportions_of_the_image_and_is_clipped_to_it(kept, centre, box):
    drawn = mixing.draw(_Fixed(kept, centre), SIZE, mixup_alpha=0.0, cutmix_alpha=1.0)
    np.testing.assert_array_equal(drawn["cutmix_box"], box)
