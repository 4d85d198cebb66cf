"""Perceiver IO on handwritten digits: a complete experiment in one minute.

    python -m experiments.train --config=configs/quickstart.py --workdir=runs/quickstart

Data: scikit-learn's 1797 digits of 8x8 pixels; nothing to download. Hardware: two CPU cores.
"""

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder


def get_config() -> ConfigDict:
    """A small Perceiver IO: 16 patches of 2x2 pixels as inputs, 32 latents, one query."""
    batch_size = FieldReference(64)
    peak = 3e-3 * batch_size.to_float() / 64  # Linear scaling.
    num_classes = FieldReference(10)
    steps = FieldReference(2400)

    config = ConfigDict()
    config.seed = 0
    config.init_from = placeholder(str)
    config.init_prefixes = ()
    config.model = dict(
        name="perceiver_io_classifier",
        num_classes=num_classes,
        inputs=dict(
            name="linear_patches",
            image_size=(8, 8),
            image_channels=1,
            patch_size=(2, 2),
            channels=32,
            num_bands=4,
        ),
        encoder=dict(
            num_latents=32,
            latent_dim=64,
            num_blocks=1,
            cross_attend=dict(num_heads=1, use_query_residual=True),
            latent_stack=dict(num_layers=3, num_heads=4, dropout=0.1),
        ),
        decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=True)),
    )
    config.task = dict(name="image_classification", num_classes=num_classes, label_smoothing=0.1)
    config.data = dict(
        name="digits",
        mean=(0.3,),
        std=(0.38,),
        max_shift=0.4,
        max_rotation=8.0,
        max_zoom=0.08,
        num_workers=0,
    )
    config.optimizer = dict(name="adamw", weight_decay=0.05, decay_positions=False, clip_norm=1.0)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=100, total_steps=steps)
    config.training = dict(
        split="train",
        batch_size=batch_size,
        steps=steps,
        accumulate=1,
        ema_decay=placeholder(float),
    )
    config.evaluation = dict(splits=("validation",), batch_size=120, every=600)
    config.checkpoint = dict(every=600, keep=2, best_metric="validation/top_1", best_mode="max")
    config.logging = dict(every=50, histograms=False)
    config.parallel = dict(name="mesh", fsdp=1)
    return config
