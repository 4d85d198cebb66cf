"""Your own images: any folder with one sub-folder of images for each class.

    python -m experiments.train --config=configs/image_folder.py --workdir=DIR \
        --config.data.root=FOLDER --config.task.num_classes=NUMBER

The layout is FOLDER/CLASS/*.jpg, which is split into train, validation and test here, or has a
folder for each split: FOLDER/train/CLASS/*.jpg and so on. The presets are model sizes: `small` (the
default; a CPU is enough) and `large` (the papers' config A with the convolutional stem, 224
pixels).
"""

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder


def get_config(preset: str = "small") -> ConfigDict:
    """Perceiver IO with a convolutional stem, in the size named by `preset`."""
    size = PRESETS[preset]
    batch_size = FieldReference(32)
    peak = 1e-3 * batch_size.to_float() / 32  # Linear scaling.
    num_classes = FieldReference(10)
    steps = FieldReference(10_000)

    config = ConfigDict()
    config.seed = 0
    config.init_from = placeholder(str)
    config.init_prefixes = ()
    config.model = dict(
        name="perceiver_io_classifier",
        num_classes=num_classes,
        inputs=dict(
            name="conv_features",
            pytorch_padding=False,
            image_size=size["image_size"],
            channels=64,
            num_bands=size["num_bands"],
        ),
        encoder=size["encoder"],
        decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=True)),
    )
    config.task = dict(name="image_classification", num_classes=num_classes, label_smoothing=0.1)
    config.data = dict(
        name="image_folder",
        root="path/to/images",
        split_fractions=(0.8, 0.1, 0.1),
        image_size=config.model.inputs.get_ref("image_size"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_area=(0.3, 1.0),
        crop_aspect=(3 / 4, 4 / 3),
        evaluation_crop=0.875,
        flip=True,
        randaugment_layers=2,
        randaugment_magnitude=5.0,
        mixup_alpha=0.2,
        cutmix_alpha=0.2,
        num_workers=2,
    )
    config.optimizer = dict(name="adamw", weight_decay=0.1, decay_positions=False, clip_norm=1.0)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=500, total_steps=steps)
    config.training = dict(
        split="train",
        batch_size=batch_size,
        steps=steps,
        accumulate=1,
        ema_decay=0.999,
    )
    config.evaluation = dict(splits=("validation",), batch_size=64, every=1000)
    config.checkpoint = dict(every=1000, keep=2, best_metric="validation/top_1", best_mode="max")
    config.logging = dict(every=100, histograms=False)
    config.parallel = dict(name="mesh", fsdp=1)
    return config


PRESETS = {
    "small": dict(
        image_size=(64, 64),
        num_bands=8,
        encoder=dict(
            num_latents=64,
            latent_dim=256,
            num_blocks=1,
            cross_attend=dict(num_heads=1, use_query_residual=True),
            latent_stack=dict(num_layers=6, num_heads=8),
        ),
    ),
    "large": dict(
        image_size=(224, 224),
        num_bands=64,
        encoder=dict(
            num_latents=512,
            latent_dim=1024,
            num_blocks=8,
            cross_attend=dict(num_heads=1, use_query_residual=True),
            latent_stack=dict(num_layers=6, num_heads=8, remat="all"),
        ),
    ),
}
