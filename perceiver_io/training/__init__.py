"""Training: state, step, optimizer, parallelism, checkpoints, evaluation, logging."""
