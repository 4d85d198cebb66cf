"""Your own images: any folder with one sub-folder of images for each class.

    python -m experiments.train --config=configs/image_folder.py --workdir=DIR \
        --config.data.root=FOLDER --config.task.num_classes=NUMBER

The layout is FOLDER/CLASS/*.jpg, which is split into train, validation and test here, or has a
folder for each split: FOLDER/train/CLASS/*.jpg and so on. The presets are model sizes: `small` (the
default; a CPU is enough) and `large` (the papers' config A with the convolutional stem, 224
pixels).

`experiments.export` requires `large`, trained with --config.model.inputs.pytorch_padding=True:
Hugging Face's transformers has the stem only for 224x224 pixels and 64 bands, so that `small`
cannot be exported.
"""

from ml_collections import ConfigDict, FieldReference


def get_config(preset: str = "small") -> ConfigDict:
    """Perceiver IO with a convolutional stem, in the size named by `preset`."""
    size = PRESETS[preset]
    batch_size = FieldReference(32)
    peak = 1e-3 * batch_size.to_float() / 32  # Linear scaling.
    num_classes = FieldReference(10)
    steps = FieldReference(10_000)

    config = ConfigDict()
    config.model = dict(
        name="perceiver_io_classifier",
        num_classes=num_classes,
        inputs=dict(
            name="conv_features",
            image_size=size["image_size"],
            channels=64,
            num_bands=size["num_bands"],
        ),
        encoder=size["encoder"],
    )
    config.task = dict(name="image_classification", num_classes=num_classes)
    config.data = dict(
        name="image_folder",
        root="path/to/images",
        image_size=config.model.inputs.get_ref("image_size"),
        crop_area=(0.3, 1.0),
        randaugment_layers=2,
        num_workers=2,
    )
    config.optimizer = dict(name="adamw", weight_decay=0.1)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 20, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps, ema_decay=0.999)
    config.evaluation = dict(splits=("validation",))
    config.checkpoint = dict(best_metric="validation/top_1", best_mode="max")
    return config


PRESETS = {
    "small": dict(
        image_size=(64, 64),
        num_bands=8,
        encoder=dict(
            num_latents=64,
            latent_dim=256,
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
            latent_stack=dict(num_layers=6, num_heads=8, remat="all"),
        ),
    ),
}
