#!/usr/bin/env bash
# Two nodes with eight GPUs, a process for each, on a SLURM cluster:
#   sbatch scripts/launch/slurm.sh
# BUCKET is a folder that all nodes share, with the data and the runs.
#SBATCH --job-name=perceiver-io
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -u
BUCKET=${BUCKET:-/shared}
# SIGTERM is for the processes of the step, which save; this script waits for them.
trap : TERM

# The processes end each other, and say why; srun would not let them save.
srun --kill-on-bad-exit=0 .venv/bin/python -m experiments.train \
    --config=configs/imagenet.py:fourier \
    --config.data.root="$BUCKET/tfds" \
    --workdir="$BUCKET/runs/fourier" \
    --config.checkpoint.minutes=10 \
    --coordinator_address=auto
status=$?

# Of these statuses, see docs/reliability.md, SLURM requeues only those of nodes that fail.
if [[ $status =~ ^(75|134|137|143)$ && ${SLURM_RESTART_COUNT:-0} -lt 100 ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
