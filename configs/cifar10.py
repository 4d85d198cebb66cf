"""CIFAR-10: a small Perceiver IO on photographs of 32x32 pixels.

    python -m experiments.train --config=configs/cifar10.py --workdir=DIR \
        --config.data.root=TFDS_DATA_DIR

Presets: `fourier` (pixels with Fourier features, the default) and `conv` (convolutional stem). Not
an experiment of the papers; one GPU or TPU core is enough. Data: `cifar10` from TensorFlow
Datasets, prepared with --file_format=array_record.
"""

from ml_collections import ConfigDict, FieldReference

NUM_TRAIN = 50_000
IMAGE_SIZE = (32, 32)


def get_config(preset: str = "fourier") -> ConfigDict:
    """200 epochs with a weaker form of the papers' augmentation, for small images."""
    batch_size = FieldReference(256)
    peak = 4e-3 * batch_size.to_float() / 256  # Linear scaling.
    num_classes = FieldReference(10)
    steps = NUM_TRAIN * 200 // batch_size

    config = ConfigDict()
    config.model = dict(
        name="perceiver_io_classifier",
        num_classes=num_classes,
        inputs=PRESETS[preset],
        encoder=dict(
            num_latents=128,
            latent_dim=256,
            num_blocks=2,
            latent_stack=dict(num_layers=6, num_heads=8),
        ),
    )
    config.task = dict(name="image_classification", num_classes=num_classes)
    config.data = dict(
        name="cifar10",
        root="~/tensorflow_datasets",
        image_size=config.model.inputs.get_ref("image_size"),
        mean=(0.491, 0.482, 0.447),
        std=(0.247, 0.243, 0.262),
        crop_area=(0.3, 1.0),
        evaluation_crop=1.0,
        randaugment_layers=2,
        num_workers=4,
    )
    config.optimizer = dict(name="lamb", weight_decay=0.1)
    config.schedule = dict(
        name="flat_then_cosine",
        peak=peak,
        warmup_steps=steps // 78,
        flat_steps=steps // 2,
        total_steps=steps,
    )
    config.training = dict(split="train_reduced", batch_size=batch_size, steps=steps)
    config.evaluation = dict(splits=("held_out", "test"), batch_size=500, every=2000)
    config.checkpoint = dict(best_metric="held_out/top_1", best_mode="max")
    return config


PRESETS = {
    "fourier": dict(name="fourier_pixels", image_size=IMAGE_SIZE, num_bands=16),
    "conv": dict(name="conv_features", image_size=IMAGE_SIZE, channels=64, num_bands=8),
}
