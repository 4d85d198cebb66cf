"""How the seconds of a run were spent."""

import pytest

from perceiver_io.training import goodput
from perceiver_io.training.goodput import Ledger, Record, as_line, as_table, read, totals


def test_each_second_belongs_to_one_activity(monkeypatch):
    clock = iter([0, 5, 65, 66, 68])
    monkeypatch.setattr(goodput.time, "perf_counter", lambda: next(clock))
    ledger = Ledger()
    for activity in ("start", "compile", "data", "step"):
        ledger.spent(activity)
    assert ledger.seconds == {"start": 5, "compile": 60, "data": 1, "step": 2}


# Started at 100 s; a checkpoint at step 20; killed after step 30. Started again at 200 s.
KILLED = [
    Record(0, 0, 110, {"start": 10}),
    Record(0, 20, 132, {"start": 10, "step": 20, "checkpoint": 2}),
    Record(0, 30, 145, {"start": 10, "step": 30, "data": 3, "checkpoint": 2}),
]
RESUMED = [
    Record(1, 20, 205, {"start": 5}),
    Record(1, 30, 218, {"start": 5, "step": 11, "data": 2}),
]


def test_work_after_the_last_checkpoint_and_the_time_until_the_next_start_are_lost():
    found = totals(KILLED + RESUMED)
    assert found == {
        "start": 15,
        "step": 31,
        "checkpoint": 2,
        "data": 2,
        "repeated": 13,
        "stopped": 55,
        "compile": 0,
        "evaluation": 0,
    }
    assert sum(found.values()) == 218 - 100


def test_an_attempt_killed_before_its_first_checkpoint_is_lost_as_a_whole():
    found = totals([KILLED[0]._replace(step=0), KILLED[2], Record(1, 0, 160, {"start": 5})])
    assert (found["repeated"], found["stopped"], found["start"]) == (35, 10, 15)


def test_records_are_read_after_an_attempt_that_was_killed_while_writing(tmp_path):
    path = tmp_path / goodput.FILE
    assert read(path) == []
    assert sum(totals([]).values()) == 0
    goodput.append(path, KILLED[0])
    with path.open("a") as file:
        file.write('\n{"attempt": 0, "st')
    goodput.append(path, RESUMED[0])
    assert read(path) == [KILLED[0], RESUMED[0]]


def test_shares_are_shown():
    found = totals(KILLED + RESUMED)
    assert as_line(found) == (
        "of 118 seconds: stopped 47%, step 26%, start 13%, repeated 11%, data 2%, checkpoint 2%"
    )
    assert as_table(found).splitlines()[1].split()[-2:] == ["31.0", "26.3%"]


@pytest.mark.parametrize("table", [as_line, as_table])
def test_a_run_without_records_has_no_shares(table):
    assert "0" in table(totals([]))
