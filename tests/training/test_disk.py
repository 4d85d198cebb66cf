"""Run folders that are not writable."""

import errno
import os

import pytest
from jax.errors import JaxRuntimeError

from perceiver_io.errors import UserError
from perceiver_io.training.disk import check_space, disk_errors_explained, make_workdir


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run cannot be written to: Not a directory"):
        make_workdir(tmp_path / "file" / "run")


def test_a_workdir_that_is_not_utf8(tmp_path):
    with pytest.raises(UserError, match="is not UTF-8, which checkpoints need"):
        make_workdir(tmp_path / os.fsdecode(b"\xff"))
    assert not list(tmp_path.iterdir())


def test_disk_too_small_for_the_checkpoints(tmp_path):
    check_space(tmp_path, needed_bytes=10, available_bytes=10)
    with pytest.raises(UserError, match="has 1 GB for .*, but they need 2.5 GB"):
        check_space(tmp_path, needed_bytes=2_500_000_000, available_bytes=1_000_000_000)


def test_a_path_of_the_folder_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "figures").write_text("")
    named = pytest.raises(UserError, match="figures/1 cannot be used: Not a directory")
    with named, disk_errors_explained(tmp_path):
        (tmp_path / "figures" / "1").mkdir()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: write failed"),
    ],
)
def test_a_full_disk_is_explained(tmp_path, error):
    full = pytest.raises(UserError, match=f"The disk of {tmp_path} is full")
    with full, disk_errors_explained(tmp_path):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        ValueError("other"),
        JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
    ],
)
def test_other_errors_are_not_caught(tmp_path, error):
    with pytest.raises(type(error)) as raised, disk_errors_explained(tmp_path):
        raise error
    assert raised.value is error
