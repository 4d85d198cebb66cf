"""One training at a time in a run folder."""

import os
import platform

import pytest

from perceiver_io.errors import UserError
from perceiver_io.training.lock import LOCK, locked


def test_a_second_training_is_refused_and_told_who_is_there(tmp_path):
    with locked(tmp_path):
        holder = f"process {os.getpid()} on {platform.node()}, since 20"
        with (
            pytest.raises(UserError, match=f"is writing to {tmp_path}: {holder}"),
            locked(tmp_path),
        ):
            pass
    with locked(tmp_path):
        pass


def test_what_a_process_that_ended_left_is_no_lock(tmp_path):
    (tmp_path / LOCK).write_text("process 1 on elsewhere, since 2020-01-01 00:00:00\n")
    with locked(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} on ")
