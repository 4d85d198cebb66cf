"""Folders on a disk and in a bucket."""

import importlib.util
import json
import re

import pytest
from etils.epath import gpath
from etils.epath.backend import fsspec_backend
from google.protobuf import json_format, struct_pb2

from perceiver_io.errors import UserError
from perceiver_io.storage import (
    BucketError,
    WorkingCopy,
    bucket_errors_explained,
    checksum,
    files_below,
    is_folder,
    located,
)
from perceiver_io.training.disk import make_workdir
from perceiver_io.training.logging import RunFolder

RUN = "gs://bucket/run"


def written(folder, texts):
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_files_below(bucket, tmp_path):
    texts = {"config.json": "{}", "checkpoints/1/a": "x", "checkpoints/1/b/c": "y"}
    for folder in (tmp_path, located(RUN)):
        assert files_below(written(folder, texts)) == sorted(texts)
    located("gs://bucket/run2/z").write_text("of another run")
    assert files_below(located(f"{RUN}/")) == sorted(texts)


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert located("runs/a") == tmp_path / "runs/a"
    assert located("~/a").is_absolute()


def test_a_checksum_is_that_of_the_content(bucket):
    file = located(RUN) / "a"
    file.write_text("123456789")
    assert checksum(file) == "crc32c 4waSgw=="  # 0xe3069283, the check value of CRC-32C
    file.write_text("other")
    assert checksum(file) != "crc32c 4waSgw=="
    with pytest.raises(FileNotFoundError):
        checksum(located(RUN) / "b")


def test_a_working_copy_on_a_disk_is_the_folder(tmp_path):
    copy = WorkingCopy(tmp_path)
    assert copy.path == tmp_path
    written(copy.path, {"a": "1"})
    copy.send()
    copy.remove()
    assert (tmp_path / "a").read_text() == "1"


def test_a_working_copy_of_a_bucket_sends_what_has_changed(bucket):
    run = written(located(RUN), {"metrics.jsonl": "before\n", "config.json": "{}"})
    copy = WorkingCopy(run, ("metrics.jsonl", "goodput.jsonl"))
    assert files_below(copy.path) == ["metrics.jsonl"]
    with (copy.path / "metrics.jsonl").open("a") as file:
        file.write("after\n")
    written(copy.path, {"figures/1/a.png": "picture"})
    copy.send()
    assert (run / "metrics.jsonl").read_text() == "before\nafter\n"
    assert (run / "figures/1/a.png").read_text() == "picture"
    sent = dict(bucket.objects)
    written(copy.path, {"figures/2/a.png": "another"})
    copy.send()
    assert {name for name in bucket.objects if name not in sent} == {"run/figures/2/a.png"}
    assert all(bucket.objects[name] == there for name, there in sent.items())
    copy.remove()
    assert not copy.path.exists()


@pytest.mark.parametrize(
    "address",
    ["s3://bucket/run", "gs:/bucket/run", "gs://", "gs://bucket", "gs://b/run*", "gs://b/[r]"],
)
def test_other_addresses_are_refused(address):
    with pytest.raises(UserError, match=f"^{re.escape(address)} is not an address .* gs://BUCKET"):
        located(address)


def test_folders(bucket, tmp_path):
    for folder in (tmp_path, located(RUN)):
        written(folder, {"a/b": "1"})
        assert is_folder(folder / "a") and not is_folder(folder / "c")
    bucket.denied = True
    with pytest.raises(OSError, match="Forbidden"):
        is_folder(located(RUN) / "a")
    message = "could not be used: Forbidden.* Repeat the same command"
    with pytest.raises(BucketError, match=message), bucket_errors_explained():
        is_folder(located(RUN) / "a")


def test_other_errors_are_not_those_of_a_bucket():
    with pytest.raises(OSError, match="of a disk"), bucket_errors_explained():
        raise OSError("of a disk")
    # From another of Google's libraries.
    with pytest.raises(json_format.ParseError), bucket_errors_explained():
        json_format.Parse("[", struct_pb2.Struct())


def test_tensorflow_is_not_used(bucket, monkeypatch):
    monkeypatch.setattr(gpath, "_is_tf_installed", lambda: gpath._epath_use_tf())
    monkeypatch.delenv("EPATH_USE_TF", raising=False)
    assert located(RUN)._backend is fsspec_backend


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gcsfs: pip install -e '\.\[gcs\]'"):
        located(RUN)


def test_a_bucket_that_cannot_be_written_to(bucket):
    make_workdir(located(RUN))
    assert not bucket.objects
    with pytest.raises(UserError, match="gs://other/run cannot be written to and read: .* service"):
        make_workdir(located("gs://other/run"))
    bucket.denied = True
    with pytest.raises(UserError, match="gs://bucket/run cannot be written to and read: Forbidden"):
        make_workdir(located(RUN))


def test_records_that_cannot_be_sent_are_kept_and_sent_later(bucket, capsys, monkeypatch):
    folder = RunFolder(located(RUN), {"config.json": "{}"}, None)
    monkeypatch.setattr(WorkingCopy, "age", lambda self: 61.0)
    bucket.denied = True
    folder.metrics(1, "train", {"loss": 1.0})
    assert "records could not be copied to the bucket" in capsys.readouterr().out
    bucket.denied = False
    folder.metrics(2, "train", {"loss": 0.5})
    lines = (located(RUN) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    folder.close()
    assert (located(RUN) / "config.json").read_text() == "{}\n"
    assert any(name.startswith("run/tensorboard/") for name in bucket.objects)
