"""A mixture of pairs, as a config describes it."""

import itertools

import numpy as np
import pytest

from perceiver_io.config import files
from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, setup
from tests.helpers import experiments
from tests.helpers.procedural_scenes import EASY


def config(tmp_path, *overrides):
    """Read back from JSON, like that of a run."""
    whole = experiments.load("optical_flow", "small")
    drawn = dict(frame_size=(64, 64), num_train=8, num_validation=8, num_test=8, scene=EASY)
    parts = dict(
        drawn=dict(drawn, weight=3.0, name="procedural_flow"),
        real=dict(weight=1.0, name="motorcycle"),
    )
    preparation = {
        name: whole.data[name]
        for name in ("image_size", "plain_examples", "growth_examples", "augmentation")
    }
    whole.data = dict(preparation, name="mixture", parts=parts, num_workers=0)
    (tmp_path / "config.json").write_text(configuration.overridden(whole).to_json())
    return configuration.overridden(files.read(str(tmp_path / "config.json")), overrides)


@pytest.mark.parametrize("weight, share", [(1.0, 0.25), (3.0, 0.5)])
def test_pairs_come_in_proportion_to_the_weights(tmp_path, weight, share):
    read = config(tmp_path, f"--config.data.parts.real.weight={weight}")
    dataset = setup.build_dataset(read, setup.build_task(read))
    assert dataset.source.splits == ("test",) and dataset.num_examples("test") == 9
    stream = iter(dataset.load("test", batch_size=4, training=True, seed=0, shard=(0, 1)))
    down = np.concatenate([batch["flow"][..., 1] for batch in itertools.islice(stream, 4)])
    # The motorcycle only moves sideways.
    assert np.mean([not pair.any() for pair in down]) == share


def test_a_wrong_part_is_named(tmp_path):
    with pytest.raises(UserError, match="config.data.parts.real.root is not a key"):
        config(tmp_path, "--config.data.parts.real.root=/nowhere")
    read = config(tmp_path, "--config.data.parts.drawn.num_test=0")
    with pytest.raises(UserError, match="parts.drawn.num_test is 0, which must be at least 1"):
        setup.build_dataset(read, setup.build_task(read))
