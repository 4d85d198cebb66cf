"""Run folders that are not writable."""

import errno

import pytest
from jax.errors import JaxRuntimeError

from perceiver_io.errors import UserError
from perceiver_io.training.disk import check_space, full_disk_explained, make_workdir


def test_unwritable_workdir(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file/run cannot be written to: Not a directory"):
        make_workdir(tmp_path / "file" / "run")


def test_disk_too_small_for_the_checkpoints(tmp_path):
    check_space(tmp_path, needed_bytes=10, free_bytes=10)
    with pytest.raises(UserError, match="has 1 GB free, but .* need 2.5 GB"):
        check_space(tmp_path, needed_bytes=2_500_000_000, free_bytes=1_000_000_000)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("RESOURCE_EXHAUSTED: write failed"),
    ],
)
def test_a_full_disk_is_explained(tmp_path, error):
    full = pytest.raises(UserError, match=f"The disk of {tmp_path} is full")
    with full, full_disk_explained(tmp_path):
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
    with pytest.raises(type(error)) as raised, full_disk_explained(tmp_path):
        raise error
    assert raised.value is error
