"""A sample of what check_faults.py tries, and how it judges."""

import itertools
import pickle
import shutil
import time

import pytest

from perceiver_io.errors import UserError
from scripts._checkpoint_faults import checkpoint_cases
from scripts._fault_cases import FAILED, Case, WrongError, tried, try_all
from scripts._flag_faults import flag_cases
from scripts._setting_faults import setting_cases
from scripts._weight_faults import calls, weight_cases


def raising(error):
    def attempt():
        raise error

    return attempt


def failures(cases, every):
    """What fails of every Nth case, and how many were tried."""
    outcomes = [(case.name, *tried(case)) for case in itertools.islice(cases, 0, None, every)]
    return [found for found in outcomes if found[1] in FAILED], len(outcomes)


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        (lambda: "resumed", "resumed"),
        (raising(UserError("one paragraph")), "stopped"),
        (raising(UserError("two\nlines")), "WRONG"),
        (raising(WrongError("accepted")), "WRONG"),
        (raising(ValueError("any other")), "TRACEBACK"),
        (lambda: time.sleep(60), "HUNG"),
    ],
)
def test_outcomes(attempt, outcome):
    assert tried(Case("kind", "name", attempt, seconds=0.05))[0] == outcome


def test_the_table_counts_outcomes_by_kind(capsys):
    good, bad = Case("a", "x", lambda: "resumed"), Case("bb", "y", raising(KeyError("z")))
    assert try_all([good, good]) and not try_all([good, bad, good])
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["TRACEBACK", "bb", "y", "KeyError('z')"]
    assert [line.split() for line in lines[4:]] == [
        ["resumed", "WRONG", "TRACEBACK", "HUNG"],
        ["a", "2", "0", "0", "0"],
        ["bb", "0", "0", "1", "0"],
        ["all", "2", "0", "1", "0"],
    ]


def test_settings(tmp_path):
    found, count = failures(setting_cases(tmp_path), 29)
    assert found == [] and count > 40


@pytest.mark.slow
def test_flags(tmp_path):
    found, count = failures(flag_cases(tmp_path), 11)
    assert found == [] and count > 20


@pytest.mark.slow
def test_weights(tmp_path):
    found, count = failures(weight_cases(tmp_path), 23)
    assert found == [] and count > 15


@pytest.mark.slow
def test_checkpoints(tmp_path):
    found, count = failures(checkpoint_cases(tmp_path), 32)
    assert found == [] and count >= 3


def test_pickles_that_call_something_leave_a_trace_elsewhere(tmp_path):
    """Python's own reader executes all of them."""
    trace = tmp_path / "trace"
    for name, call in calls(trace).items():
        pickle.loads(pickle.dumps(call))
        assert trace.exists(), name
        shutil.rmtree(trace) if trace.is_dir() else trace.unlink()
