"""Brightness of digits: the quickstart's data and model for another task."""

from configs import quickstart


def get_config():
    """A tiny model with one output, for a few steps."""
    config = quickstart.get_config()
    config.model.num_classes = 1
    config.model.encoder.update(num_latents=4, latent_dim=16)
    config.model.encoder.latent_stack.num_layers = 1
    config.task = dict(name="brightness", tolerance=0.05)
    config.training.update(batch_size=32, steps=60)
    config.schedule.warmup_steps = 10
    config.evaluation.every = 60
    config.checkpoint.update(every=60, best_metric="flat/largest_error", best_mode="min")
    return config
