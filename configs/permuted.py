"""Permuted pixels in small: the experiment of Perceiver, section 4.1, on clothes of 28x28 pixels.

    python -m scripts.prepare_fashion_mnist --output=data/fashion_mnist
    python -m experiments.train --config=configs/permuted.py:PRESET --workdir=DIR
    python -m scripts.compare_permuted --workdir=DIR    # all presets, three seeds, table and figure

Presets: `perceiver_io`, `convnet` (a small ResNet) and `vit`, which read pixels with Fourier
features; and the same with `_permuted`, where one fixed permutation is applied to pixels together
with their features. Data: Fashion-MNIST (1708.07747) as a folder for each class: 55,000 images for
training, 5000 for selecting the checkpoint, 10,000 for testing. Hardware: a CPU core, two minutes.
"""

from ml_collections import ConfigDict, FieldReference

IMAGE_SIZE = (28, 28)
FOURIER = dict(name="fourier_pixels", image_size=IMAGE_SIZE, num_bands=8)


def get_config(preset: str = "perceiver_io") -> ConfigDict:
    """The experiment with the model named by `preset`."""
    batch_size = FieldReference(32)
    peak = 2e-3 * batch_size.to_float() / 32  # Linear scaling.
    num_classes = FieldReference(10)
    steps = FieldReference(1500)

    config = ConfigDict()
    config.model = dict(PRESETS[preset], num_classes=num_classes)
    config.task = dict(name="image_classification", num_classes=num_classes)
    inputs = config.model.inputs
    pixels = inputs.inputs if inputs.name == "permuted" else inputs
    config.data = dict(
        name="image_folder",
        root="data/fashion_mnist",
        image_size=pixels.get_ref("image_size"),
        mean=(0.286,) * 3,
        std=(0.353,) * 3,
        crop_area=(0.7, 1.0),
        evaluation_crop=1.0,
        randaugment_layers=0,
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
    )
    config.optimizer = dict(name="adamw", weight_decay=0.05)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 10, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps)
    config.evaluation = dict(splits=("validation",), batch_size=500, every=500)
    config.checkpoint = dict(every=500, best_metric="validation/top_1", best_mode="max")
    config.logging = dict(every=100)
    return config


LAYERS = dict(num_layers=2, num_heads=4)


def _perceiver_io(inputs: dict) -> dict:
    return dict(
        name="perceiver_io_classifier",
        inputs=inputs,
        encoder=dict(num_latents=32, latent_dim=64, latent_stack=LAYERS),
    )


def _convnet(inputs: dict) -> dict:
    return dict(
        name="resnet_classifier",
        inputs=inputs,
        depths=(1, 1, 1),
        widths=(16, 32, 64),
        bottleneck=False,
    )


def _vit(inputs: dict) -> dict:
    return dict(name="vit_classifier", inputs=inputs, patch_size=(4, 4), width=64, layers=LAYERS)


MODELS = {"perceiver_io": _perceiver_io, "convnet": _convnet, "vit": _vit}
PERMUTED = dict(name="permuted", inputs=FOURIER, seed=0)

PRESETS = {
    **{name: model(FOURIER) for name, model in MODELS.items()},
    **{f"{name}_permuted": model(PERMUTED) for name, model in MODELS.items()},
}
