"""The launch files of engines: what they start is a training that exists, and can be repeated."""

import math
import pathlib
import re
import shlex
import subprocess

import pytest
import yaml

from perceiver_io.errors import REPEAT
from perceiver_io.runtime import configuration

ROOT = pathlib.Path(__file__).parents[2]
LAUNCH = ROOT / "scripts" / "launch"


def jobset():
    return yaml.safe_load((LAUNCH / "jobset.yaml").read_text())


def sky():
    return yaml.safe_load((LAUNCH / "sky.yaml").read_text())


def slurm():
    return (LAUNCH / "slurm.sh").read_text()


def pod():
    (job,) = jobset()["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


def command(engine):
    """The arguments of the training program, with paths in the bucket as `/bucket/...`."""
    if engine == "jobset":
        words = pod()["containers"][0]["command"]
    else:
        text = slurm() if engine == "slurm" else sky()["run"]
        joined = text.replace("\\\n", " ").replace("$BUCKET", "/bucket")
        (line,) = [line for line in joined.splitlines() if "experiments.train" in line]
        words = shlex.split(line)
    return words[words.index("experiments.train") + 1 :]


@pytest.mark.parametrize("engine", ["jobset", "sky", "slurm"])
def test_all_start_the_same_training(engine):
    flags = [word for word in command(engine) if not word.startswith("--config.")]
    sources = (ROOT / "experiments" / "train.py", ROOT / "perceiver_io" / "runtime" / "program.py")
    known = re.findall(r'DEFINE_\w+\(\s*"(\w+)"', "".join(path.read_text() for path in sources))
    assert {flag.partition("=")[0].removeprefix("--") for flag in flags} <= set(known)
    settings = [word for word in command(engine) if word.startswith("--config.")]
    config = configuration.load("configs/imagenet.py:fourier", settings)
    assert config.checkpoint.minutes == 10 and config.data.root == "/bucket/tfds"
    assert flags[:2] == ["--config=configs/imagenet.py:fourier", "--workdir=/bucket/runs/fourier"]


def test_a_wrong_setting_is_not_tried_again_and_a_lost_host_is():
    (job,) = jobset()["spec"]["replicatedJobs"]
    (rule,) = job["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2]
    codes = sky()["resources"]["job_recovery"]["recover_on_exit_codes"]
    (listed,) = re.findall(r"\^\(([\d|]+)\)\$", slurm())
    assert REPEAT in codes and 2 not in codes and codes == [int(x) for x in listed.split("|")]


def test_the_pod_mounts_what_it_uses():
    (container,) = pod()["containers"]
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted == {"bucket": "/bucket", "memory": "/dev/shm"}
    assert mounted.keys() == {volume["name"] for volume in pod()["volumes"]}
    (job,) = jobset()["spec"]["replicatedJobs"]
    spec = job["template"]["spec"]
    # A v5e slice of 4x4 chips, of which each host has as many as the container asks for.
    chips = spec["parallelism"] * container["resources"]["limits"]["google.com/tpu"]
    topology = pod()["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    assert (
        chips == math.prod(map(int, topology.split("x")))
        and spec["completions"] == spec["parallelism"]
    )


def test_the_script_of_slurm_is_valid():
    subprocess.run(["bash", "-n", LAUNCH / "slurm.sh"], check=True)
    options = re.findall(r"^#SBATCH --([\w-]+)", slurm(), re.M)
    assert {"requeue", "signal", "open-mode"} <= set(options)
    # Options after the first command are ignored.
    assert slurm().rindex("#SBATCH") < slurm().index("\nset -u")
