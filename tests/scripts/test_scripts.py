"""The shell scripts, run in a copy with stand-ins for slow programs."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from packaging.requirements import Requirement

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path):
    """A folder with a space in its name, the scripts, and requirements that need no download."""
    folder = tmp_path / "a clone"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    (folder / "requirements.txt").write_text("# nothing\n")
    return folder


def run(script, *arguments, cwd="/", **environment):
    return subprocess.run(
        [script, *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def set_up(checkout, python=sys.executable):
    return run(checkout / "scripts/setup_env.sh", PYTHON=str(python))


def stand_in(path, body):
    """An executable shell script that replaces a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)
    return path


def pretend_environment(checkout, body=""):
    """A finished environment whose Python and ruff log their arguments."""
    log = checkout / "calls.txt"
    record = f'[[ "$1" == -c ]] && exit\necho "$(basename "$0") $*" >> "{log}"\n'
    stand_in(checkout / ".venv/bin/python", record + body)
    stand_in(checkout / ".venv/bin/ruff", record)
    requirements = (checkout / "requirements.txt").read_bytes()
    stamp = subprocess.run(["cksum"], input=requirements, capture_output=True, check=True).stdout
    (checkout / ".venv/requirements.cksum").write_bytes(stamp)
    return log


@pytest.mark.slow
def test_environment_is_created_kept_updated_and_repaired(checkout):
    first = set_up(checkout)
    assert first.returncode == 0, first.stderr
    assert "Creating .venv" in first.stdout
    assert set_up(checkout, python="/nowhere").stdout == ""

    mine = checkout / ".venv/mine"
    mine.touch()
    (checkout / "requirements.txt").write_text("# changed\n")
    changed = set_up(checkout, python="/nowhere")
    assert changed.returncode == 0
    assert "Installing" in changed.stdout
    assert mine.exists()

    (checkout / "requirements.txt").write_text("./there-is-no-such-folder\n")
    assert set_up(checkout).returncode != 0
    (checkout / "requirements.txt").write_text("# changed\n")
    mended = set_up(checkout)
    assert mended.returncode == 0
    assert "Creating .venv" in mended.stdout
    assert not mine.exists()


@pytest.mark.slow
def test_environment_with_a_missing_python_is_recreated(checkout):
    pretend_environment(checkout)
    (checkout / ".venv/bin/python").unlink()
    assert "Creating .venv" in set_up(checkout).stdout
    assert set_up(checkout).stdout == ""


@pytest.mark.parametrize("body", ["exit 1", None], ids=["too old", "missing"])
def test_without_a_usable_python_the_message_says_what_to_install(checkout, tmp_path, body):
    python = tmp_path / "python"
    if body:
        stand_in(python, body)
    result = set_up(checkout, python)
    assert result.returncode != 0
    assert str(python) in result.stderr
    assert "Python 3.11 or newer" in result.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize(
    ("arguments", "pytest_arguments"),
    [
        ([], ""),
        (["--fast"], " -m not slow"),
        (["--fast", "-k", "tasks"], " -m not slow -k tasks"),
        (["tests/experiments/test_setup.py"], " tests/experiments/test_setup.py"),
    ],
)
def test_test_script_passes_arguments_on(checkout, arguments, pytest_arguments):
    log = pretend_environment(checkout)
    result = run(checkout / "scripts/test.sh", *arguments)
    assert result.returncode == 0, result.stderr
    assert log.read_text().splitlines() == [
        "ruff check .",
        "ruff format --check .",
        "python -m mypy",
        f"python -m pytest -n 2 --dist worksteal{pytest_arguments}",
    ]


def test_ci_runs_the_test_script(checkout):
    log = pretend_environment(checkout, body='[[ "$2" != pytest ]] || exit 3')
    assert run(checkout / ".ci/run").returncode == 3
    assert "python -m pytest" in log.read_text()


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {line.split("==")[0].lower().replace("_", "-"): line for line in lines}


def test_every_requirement_is_pinned_without_an_index():
    for line in requirements().values():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line), line


def test_pins_are_within_the_ranges_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for dependency in map(Requirement, project["dependencies"] + extras["dev"]):
        pin = requirements()[dependency.name.lower().replace("_", "-")]
        assert dependency.specifier.contains(pin.split("==")[1]), f"{pin} against {dependency}"


def test_the_ranges_allow_the_next_jax():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    jax = next(r for r in map(Requirement, project["dependencies"]) if r.name == "jax")
    assert jax.specifier.contains("0.11.2")


@pytest.mark.parametrize("folder", [None, "my runs"])
def test_quickstart_trains_evaluates_and_ends_with_the_accuracy(checkout, folder):
    answer = '{"step": 3, "figures": "/some/where", "metrics": {"test": {"top_1": 0.97222}}}'
    body = f"""case "$*" in
      *evaluate*) echo '{answer}' ;;
      -\\ *) exec "{sys.executable}" "$@" ;;
    esac"""
    log = pretend_environment(checkout, body)
    arguments = [] if folder is None else [folder]
    result = run(checkout / "scripts/quickstart.sh", *arguments, cwd=checkout.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-2:] == ["pictures: /some/where", "test accuracy: 97.2%"]
    workdir = "runs/quickstart" if folder is None else checkout.parent / folder
    assert log.read_text().splitlines()[:2] == [
        f"python -m experiments.train --config=configs/quickstart.py --workdir={workdir}",
        f"python -m experiments.evaluate --workdir={workdir} --split=test --json",
    ]


def test_quickstart_stops_when_training_fails(checkout):
    log = pretend_environment(checkout, body="exit 2")
    result = run(checkout / "scripts/quickstart.sh")
    assert result.returncode == 2
    assert "evaluate" not in log.read_text()


def test_quickstart_says_that_it_resumes(checkout):
    pretend_environment(checkout, body="exit 2")
    (checkout / "runs/quickstart/checkpoints").mkdir(parents=True)
    assert "Resuming the run" in run(checkout / "scripts/quickstart.sh").stdout


PROGRAMS = [
    path
    for path in sorted((ROOT / "scripts").glob("[!_]*.py"))
    if "__main__" in path.read_text() and "\nfrom perceiver_io" in path.read_text()
]


@pytest.mark.slow
def test_programs_run_as_files_and_as_modules():
    as_file = [sys.executable, ROOT / "scripts/check_parity.py"]
    as_module = [sys.executable, "-m", "scripts.check_parity"]
    results = [run(*as_file, cwd="/"), run(*as_module, cwd=ROOT)]
    assert {result.stderr for result in results} == {
        "error: Nothing to check: give --deepmind, --huggingface or --trees.\n"
    }


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_every_program_finds_the_package_before_it_imports_it(path):
    before, found, _ = path.read_text().partition(
        "\nif not __package__:  # Run as a file: imports start at the repository's root.\n"
        "    sys.path[0] = str(Path(__file__).parents[1])\n"
    )
    assert found and "import jax" not in before and "from perceiver_io" not in before


def defined_flags(paths):
    found = (re.findall(r'flags\.DEFINE_\w+\(\s*"(\w+)"', path.read_text()) for path in paths)
    return set(sum(found, []))


def test_tests_import_no_script_with_the_flags_of_a_program():
    """They would stay defined, and the programs could not be imported any more."""
    imported = {
        ROOT / "scripts" / f"{name}.py"
        for path in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^from scripts(?: import |\.)(\w+)", path.read_text(), re.M)
    }
    programs = defined_flags([*(ROOT / "experiments").glob("*.py")])
    assert len(programs) > 20 and defined_flags(imported) and not defined_flags(imported) & programs


def test_pre_commit_has_the_ruff_of_the_requirements():
    config = (ROOT / ".pre-commit-config.yaml").read_text()
    version = requirements()["ruff"].split("==")[1]
    assert re.findall(r"ruff-pre-commit\n +rev: v(.*)", config) == [version]
