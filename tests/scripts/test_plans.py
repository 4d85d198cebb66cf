"""Tables of plans."""

from scripts import _plans
from tests.helpers import experiments


def test_experiments_exist():
    known = {f"{name}:{preset}" for name, preset in experiments.all_experiments()}
    assert set(_plans.experiments()) <= known
    assert set(_plans.PAPER) <= set(_plans.experiments())


def test_a_table_shows_the_last_plan():
    rejected = dict(fits=False, fsdp=1, remat="none", accumulate=1, seconds=None, bytes_sent=[])
    sent = [dict(name="all-reduce", times=2, amount=3e9), dict(name="all-gather", amount=1e9)]
    fitting = dict(
        memory=dict(parameters=2**30, temporary=2**31), fits=True, fsdp=8, remat=None,
        accumulate=2, seconds=0.25, bytes_sent=sent,
    )  # fmt: skip
    plans = {"masked_lm:bytes": dict(batch_size=512, plans=[rejected, fitting])}
    *_, row = _plans.as_table("v3:4x8", plans).splitlines()
    assert row == "| `masked_lm:bytes` | 512 | yes | 3.0 | 8 |  | 2 | 4.00 | 4.00 | 7.6 |"
    plans["masked_lm:bytes"]["plans"] = [rejected | dict(memory=dict(temporary=2**35))]
    *_, row = _plans.as_table("v3:4x8", plans).splitlines()
    assert row == "| `masked_lm:bytes` | 512 | no | 32.0 | 1 | none | 1 |  |  | 7.6 |"
