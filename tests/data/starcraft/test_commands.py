"""Commands as examples: slots, labels, the bundled game, folders of games."""

import numpy as np
import pytest

from perceiver_io.config.unit_features import COLUMN, UNIT_FEATURES
from perceiver_io.data.starcraft.commands import (
    NONE,
    UNKNOWN,
    CommandPreparation,
    Moment,
    UnitInput,
)
from perceiver_io.data.starcraft.games import Command, Observation
from perceiver_io.data.starcraft.sources import BUNDLED, bundled_game, game_folder
from perceiver_io.errors import UserError

# Own, enemy, neutral, own in a transport, own, ally.
ALLIANCE, IN_CARGO = [1, 4, 3, 1, 1, 2], [0, 0, 0, 1, 0, 0]
TAGS = np.array([11, 12, 13, 14, 15, 16], np.uint64)


def observed():
    units = np.zeros((6, len(UNIT_FEATURES)), np.float32)
    units[:, COLUMN["alliance"]] = ALLIANCE
    units[:, COLUMN["in_cargo"]] = IN_CARGO
    units[:, COLUMN["x"]] = TAGS
    units[:, COLUMN["selected"]] = 1
    return Observation(units, TAGS, 1, 50, (32, 32), "test")


def example(selected, target=None, slots=8, max_selected=3, action=2, **settings):
    kind = 0 if target is None else 2
    point = np.zeros(2, np.float32)
    command = Command(1, kind, np.array(selected, np.uint64), target or 0, point, 60)
    preparation = CommandPreparation(slots=slots, max_selected=max_selected, **settings)
    return preparation.evaluation_example(
        Moment(observed(), command, action), np.random.default_rng(0)
    )


def test_slots():
    row = example([11])
    assert row["units"][:6, COLUMN["x"]].tolist() == [11, 14, 15, 12, 16, 13]
    assert row["unit_mask"].tolist() == [True] * 6 + [False] * 2
    assert row["selectable"].tolist() == [True, False, True] + [False] * 5
    assert not row["units"][6:].any()


def test_own_units_keep_their_slots_if_there_are_too_many():
    row = example([15, 11], target=12, slots=3)
    assert row["units"][:, COLUMN["x"]].tolist() == [11, 14, 15] and row["unit_mask"].all()
    assert row["selected"].tolist() == [2, 0, NONE] and row["target"] == UNKNOWN
    preparation = CommandPreparation(slots=3)
    command = Command(1, 0, TAGS, 0, np.zeros(2, np.float32), 60)
    assert preparation.notice([Moment(observed(), command, 0)] * 2) == "2 with more than 3 units"
    assert CommandPreparation(slots=6).notice([Moment(observed(), command, 0)]) is None


@pytest.mark.parametrize(
    ("selected", "target", "expected"),
    [
        ([15, 11], None, ([2, 0, NONE], NONE)),
        ([15, 99, 11], 13, ([2, 0, NONE], 5)),  # A unit that is not observed is left out,
        ([14, 15], 99, ([2, NONE, NONE], UNKNOWN)),  # and one that cannot be selected.
        ([14, 99], 14, ([UNKNOWN, NONE, NONE], 1)),
    ],
)
def test_labels(selected, target, expected):
    row = example(selected, target)
    assert (row["selected"].tolist(), int(row["target"])) == expected
    assert row["action"] == 2


def test_long_selections_are_cut():
    assert example([15, 11], max_selected=1)["selected"].tolist() == [2]


def test_hidden_features_are_not_seen():
    row = example([11], hidden=("selected",))
    assert not row["units"][:, COLUMN["selected"]].any()
    assert row["units"][0, COLUMN["alliance"]] == 1
    with pytest.raises(UserError, match="hidden has 'selectd' .did you mean 'selected'"):
        CommandPreparation(hidden=("selectd",))
    assert UnitInput(8, ()).kept(observed()).tolist() == [0, 3, 4, 1, 5, 2]


SIZES = {"train": 62, "validation": 13, "test": 29}


def test_the_bundled_game():
    dataset = bundled_game(slots=336, max_selected=40)
    loops = {}
    for split, size in SIZES.items():
        moments = dataset.source(split)
        assert len(moments) == size
        loops[split] = [moment.observation.loop for moment in moments]
        for moment in moments:
            delay = moment.command.loop - moment.observation.loop
            assert -50 <= delay <= 0 and moment.observation.map_size == (168, 184)
            assert np.isfinite(moment.observation.units).all()
            assert 171 <= len(moment.observation.tags) <= 354
        rows = [dataset.preparation.evaluation_example(x, None) for x in moments]
        assert all(row["selected"][0] >= 0 for row in rows)
        assert all((row["action"] == UNKNOWN) <= (split != "train") for row in rows)
    assert max(loops["train"]) < min(loops["validation"])
    assert max(loops["validation"]) < min(loops["test"])
    assert len(dataset.class_names) == 10 and dataset.class_names[0] == "1 at a point"


def test_folders_of_games(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "game.npz").write_bytes(BUNDLED.read_bytes())
    dataset = game_folder(root=str(tmp_path), slots=64)
    assert dataset.source.splits == ("train", "test") and dataset.num_examples("train") == 104
    batch = next(iter(dataset.load("test", batch_size=2, training=False, seed=0, shard=(0, 1))))
    assert batch["units"].shape == (2, 64, len(UNIT_FEATURES))
    assert "104 with more than 64 units" in dataset.summary(["train"])
    (tmp_path / "val").mkdir()
    with pytest.raises(UserError, match="val has no .npz files"):
        dataset.num_examples("validation")
    with pytest.raises(UserError, match="has no folder `train`"):
        game_folder(root=str(tmp_path / "test")).num_examples("train")
