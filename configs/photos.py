"""Bundled photographs of 5 kinds of fruit: a small classification task on real images.

    python -m experiments.train --config=configs/photos.py --workdir=runs/photos

Presets: `conv` (Perceiver IO with a convolutional stem, the default), `fourier` (Perceiver IO on
pixels) and `convnet` (a plain convolutional network as a baseline). Data: photos of 64 pixels, 675
for training, 57 for selecting the checkpoint, 661 for testing. Hardware: two CPU cores.
"""

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

IMAGE_SIZE = (64, 64)


def get_config(preset: str = "conv") -> ConfigDict:
    """The experiment with the model named by `preset`."""
    batch_size = FieldReference(32)
    peak = 1e-3 * batch_size.to_float() / 32  # Linear scaling.
    num_classes = FieldReference(5)
    steps = FieldReference(3000)

    config = ConfigDict()
    config.seed = 0
    config.init_from = placeholder(str)
    config.init_prefixes = ()
    config.model = dict(PRESETS[preset], num_classes=num_classes)
    config.task = dict(name="image_classification", num_classes=num_classes, label_smoothing=0.1)
    config.data = dict(
        name="photos",
        labels="coarse",
        image_size=IMAGE_SIZE,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_area=(0.3, 1.0),
        crop_aspect=(3 / 4, 4 / 3),
        evaluation_crop=1.0,
        flip=True,
        randaugment_layers=1,
        randaugment_magnitude=5.0,
        mixup_alpha=0.2,
        cutmix_alpha=0.2,
        num_workers=0,
    )
    pixels = config.model.inputs if "inputs" in config.model else config.model
    pixels.image_size = config.data.get_ref("image_size")
    config.optimizer = dict(name="adamw", weight_decay=0.1, decay_positions=False, clip_norm=1.0)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=200, total_steps=steps)
    config.training = dict(
        split="train", batch_size=batch_size, steps=steps, accumulate=1, ema_decay=0.995
    )
    config.evaluation = dict(splits=("validation",), batch_size=64, every=500)
    config.checkpoint = dict(every=500, keep=2, best_metric="validation/loss", best_mode="min")
    config.logging = dict(every=50, histograms=False)
    config.parallel = dict(name="mesh", fsdp=1)
    return config


def _perceiver_io(inputs: dict) -> dict:
    return dict(
        name="perceiver_io_classifier",
        inputs=inputs,
        encoder=dict(
            num_latents=64,
            latent_dim=128,
            num_blocks=1,
            cross_attend=dict(num_heads=1, use_query_residual=True),
            latent_stack=dict(num_layers=4, num_heads=4, dropout=0.1),
        ),
        decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=True)),
    )


PRESETS = {
    "conv": _perceiver_io(
        dict(name="conv_features", image_size=IMAGE_SIZE, channels=64, num_bands=8)
    ),
    "fourier": _perceiver_io(dict(name="fourier_pixels", image_size=IMAGE_SIZE, num_bands=16)),
    "convnet": dict(name="convnet_classifier", image_size=IMAGE_SIZE, widths=(32, 64, 128, 128)),
}
