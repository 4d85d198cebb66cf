"""Bundled photographs of 5 kinds of fruit: a small classification task on real images.

    python -m experiments.train --config=configs/photos.py --workdir=runs/photos

Presets: `conv` (Perceiver IO with a convolutional stem, the default), `fourier` (Perceiver IO on
pixels) and `convnet` (a plain convolutional network as a baseline). Data: photos of 64 pixels, 675
for training, 57 for selecting the checkpoint, 661 for testing. Hardware: two CPU cores.
"""

from ml_collections import ConfigDict, FieldReference

IMAGE_SIZE = (64, 64)


def get_config(preset: str = "conv") -> ConfigDict:
    """The experiment with the model named by `preset`."""
    batch_size = FieldReference(32)
    peak = 1e-3 * batch_size.to_float() / 32  # Linear scaling.
    num_classes = FieldReference(5)
    steps = FieldReference(3000)

    config = ConfigDict()
    config.model = dict(PRESETS[preset], num_classes=num_classes)
    config.task = dict(name="image_classification", num_classes=num_classes)
    config.data = dict(
        name="photos",
        labels="coarse",
        image_size=IMAGE_SIZE,
        crop_area=(0.3, 1.0),
        evaluation_crop=1.0,
        randaugment_layers=1,
    )
    pixels = config.model.inputs if "inputs" in config.model else config.model
    pixels.image_size = config.data.get_ref("image_size")
    config.optimizer = dict(name="adamw", weight_decay=0.1)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 15, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps, ema_decay=0.995)
    config.evaluation = dict(splits=("validation",), every=500)
    config.checkpoint = dict(every=500, best_metric="validation/loss", best_mode="min")
    config.logging = dict(every=50)
    return config


def _perceiver_io(inputs: dict) -> dict:
    return dict(
        name="perceiver_io_classifier",
        inputs=inputs,
        encoder=dict(
            num_latents=64,
            latent_dim=128,
            latent_stack=dict(num_layers=4, num_heads=4, dropout=0.1),
        ),
    )


PRESETS = {
    "conv": _perceiver_io(
        dict(name="conv_features", image_size=IMAGE_SIZE, channels=64, num_bands=8)
    ),
    "fourier": _perceiver_io(dict(name="fourier_pixels", image_size=IMAGE_SIZE, num_bands=16)),
    "convnet": dict(name="convnet_classifier", image_size=IMAGE_SIZE, widths=(32, 64, 128, 128)),
}
