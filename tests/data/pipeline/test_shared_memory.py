"""What a killed job leaves in shared memory."""

import fcntl

from perceiver_io.data.pipeline import shared_memory


def test_segments_of_processes_that_have_ended_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path)
    for name in ("pdead00_.perceiver_io", "pdead00_1f2e", "plive00_.perceiver_io", "plive00_3d4c"):
        (tmp_path / name).write_text("")
    (tmp_path / "psm_12345678").write_text("")  # Of another program.
    with (tmp_path / "plive00_.perceiver_io").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        shared_memory.remove_abandoned()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"plive00_.perceiver_io", "plive00_3d4c", "psm_12345678"}
