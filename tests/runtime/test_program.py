"""Flags of the programs: help, missing and empty flags."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import program
from tests.helpers.programs import ROOT


@pytest.fixture
def parse(monkeypatch):
    """Parses a command line of a program with two required flags and an optional one."""
    own = flags.FlagValues()
    monkeypatch.setattr(program.flags, "FLAGS", own)
    monkeypatch.setattr(sys, "argv", ["program.py"])
    required = [
        flags.DEFINE_string("config", None, "Config file: FILE.py.", flag_values=own),
        flags.DEFINE_string("workdir", None, "Run folder.", flag_values=own),
    ]
    flags.DEFINE_list("split", None, "Splits.", flag_values=own)
    flags.DEFINE_multi_string("setting", [], "NAME=VALUE of a model; repeatable.", flag_values=own)
    return lambda *arguments: program.parse(required, ["program.py", *arguments])


def test_flags_beside_overrides(parse):
    assert parse("--config=a", "--config.training.steps=3", "--workdir=b") == ["program.py"]
    assert program.flags.FLAGS.config == "a" and program.flags.FLAGS.workdir == "b"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_takes_precedence_over_missing_flags(parse, capsys, flag):
    with pytest.raises(SystemExit) as end:
        parse("--config=a", flag)
    assert end.value.code == 0 and capsys.readouterr().err == ""


def test_help_shows_what_a_program_does_and_its_flags():
    command = [sys.executable, "-m", "experiments.train", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Trains a model.\n")
    assert (
        "  --workdir: Run folder, or gs://BUCKET/FOLDER.\n" in done.stdout
        and "  --process_id: " in done.stdout
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Give --config (config file: FILE.py) and --workdir (run folder). --help lists all"),
        (["--config=a"], "Give --workdir (run folder). --help lists all flags."),
        (["--config=a", "--workdir="], "--workdir is empty: give it a value (run folder)."),
        (["--config=a", "--workdir=b", "--split="], "--split is empty: give it a value (splits)."),
        (
            ["--config=a", "--workdir=b", "--split=a,"],
            "--split is empty: give it a value (splits).",
        ),
        (
            ["--config=a", "--workdir=b", "--setting=x", "--setting="],
            "--setting is empty: give it a value (NAME=VALUE of a model; repeatable).",
        ),
        (["--config=a", "--workdir=b", "c"], "'c' is not a flag; flags look like --name=value."),
        (["--config=a", "--wrokdir=b"], "Unknown command line flag 'wrokdir'. Did you mean: work"),
    ],
)
def test_wrong_flags_are_one_sentence(parse, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        parse(*arguments)
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith(f"error: {message}") and error.count("\n") == 1


def test_a_name_that_is_too_long_for_a_file():
    named = pytest.raises(UserError, match="^x{100}[.]{3} is too long for the name of a file")
    with named, program.long_names_explained():
        Path("x" * 10_000).exists()
    with pytest.raises(FileNotFoundError), program.long_names_explained():
        Path("nowhere").stat()


def test_an_address_is_no_folder():
    flag = SimpleNamespace(name="workdir", value="~/run")
    assert program.folder(flag) == Path.home() / "run"
    flag.value = "gs://bucket/run"
    with pytest.raises(UserError, match="--workdir=gs://bucket/run is an address, .* mount the"):
        program.folder(flag)


@pytest.fixture
def cache(monkeypatch):
    """Sets the flag of the compilation cache, as if it were given."""
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)

    def give(value):
        own = SimpleNamespace(name="compilation_cache", present=True, value=value)
        monkeypatch.setattr(program, "_CACHE", own)
        for name in ("_COORDINATOR", "_NUM_PROCESSES", "_PROCESS_ID"):
            monkeypatch.setattr(program, name, SimpleNamespace(value=None))

    return give


def test_the_folder_of_the_compilation_cache(cache, tmp_path):
    cache(str(tmp_path / "new" / "cache"))
    program.start_jax()
    assert (tmp_path / "new" / "cache").is_dir()
    (tmp_path / "file").write_text("")
    cache(str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="--compilation_cache=.* that can be created .Not a dir"):
        program.start_jax()
    for unchecked in ("", "gs://bucket/cache"):
        cache(unchecked)
        program.start_jax()
