"""ImageNet classification: every row of the papers' ImageNet tables.

    python -m experiments.train --config=configs/imagenet.py:PRESET --workdir=DIR \
        --config.data.root=TFDS_DATA_DIR

Presets, with the reported top-1 accuracy on the validation split and the number of parameters:

Perceiver IO (2107.14795, section 4.5 and its appendix), batch 1024, 110 epochs
    fourier                      79.0    48.4M   pixels with 2D Fourier features
    learned                      72.7    62.3M   1x1 convolution and learned positions
    conv                         82.1    48.6M   convolutional stem with max pool
    config_b_fourier             84.5   212.2M   16 unshared layers; after JFT pre-training
    config_b_conv                86.4   212.4M   the same with the convolutional stem
    perceiver_fourier            78.6    42.1M   Perceiver trained in the same way
    perceiver_learned            67.6    55.9M
    perceiver_conv               77.4    42.3M

Perceiver (2103.03206, section 4.1 and its appendix), batch 1024, 120 epochs
    perceiver_8_cross_attends    78.0    44.9M   the paper's main model
    perceiver_4_cross_attends    76.5    44.9M
    perceiver_2_cross_attends    76.5    44.9M
    perceiver_1_cross_attend     76.7    42.1M
    perceiver_8_unshared         72.9   326.2M   no weights shared
    perceiver_8_learned          70.9            learned positions
    perceiver_8_conv                             convolutional stem
    permuted                     78.0    44.9M   pixels in one fixed random order
    permuted_learned             70.9

Baselines of that paper, with the same Fourier features; its recipes for them are not stated, so
that they are trained like Perceiver here. In the last three, pixels are permuted.
    resnet_50                    73.5    26.4M
    vit_b_16                     76.7   137.3M   the features make the patch embedding large
    transformer_64               57.0    39.1M   6 layers of 1024 on 64x64 pixels: sizes not stated
    resnet_50_permuted           39.4    26.4M
    vit_b_16_permuted            61.7   137.3M
    transformer_64_permuted      57.0    39.1M

Hardware: a training step of `fourier` takes 1.5 TFLOPs and about 0.2 GB of memory per example in
float32 (experiments.describe), so batch size 1024 needs about 200 GB over all devices;
`config.training.accumulate` and `config.model.compute_dtype=bfloat16` reduce this.
"""

from ml_collections import ConfigDict, FieldReference

NUM_TRAIN = 1_281_167
IMAGE_SIZE = (224, 224)

FOURIER = dict(name="fourier_pixels", image_size=IMAGE_SIZE, num_bands=64)
LEARNED = dict(name="learned_pixels", image_size=IMAGE_SIZE, channels=256)
FOURIER_64 = dict(name="fourier_pixels", image_size=(64, 64), num_bands=64)
CONV = dict(name="conv_features", image_size=IMAGE_SIZE, channels=64, num_bands=64)


def get_config(preset: str = "fourier") -> ConfigDict:
    """The experiment in one row of the tables above."""
    model, recipe = PRESETS[preset]
    batch_size = FieldReference(1024)
    num_classes = FieldReference(1000)
    steps = NUM_TRAIN * recipe["epochs"] // batch_size

    config = ConfigDict()
    config.model = dict(model, num_classes=num_classes)
    config.task = dict(name="image_classification", num_classes=num_classes)
    inputs = config.model.inputs
    pixels = inputs.inputs if inputs.name == "permuted" else inputs
    config.data = dict(
        name="imagenet",
        root="~/tensorflow_datasets",
        image_size=pixels.get_ref("image_size"),
        num_workers=16,
    )
    config.optimizer = dict(name="lamb", weight_decay=0.1)
    config.schedule = recipe["schedule"](steps, batch_size)
    config.training = dict(batch_size=batch_size, steps=steps)
    config.evaluation = dict(splits=("validation",), batch_size=1024, every=5000)
    config.checkpoint = dict(best_metric="validation/top_1", best_mode="max")
    return config


def _perceiver_io(inputs: dict, *, query_residual: bool = True) -> dict:
    """Config A: 8 blocks that share the same 6 layers."""
    return dict(
        name="perceiver_io_classifier",
        inputs=inputs,
        encoder=dict(
            num_latents=512,
            latent_dim=1024,
            num_blocks=8,
            latent_stack=dict(num_layers=6, num_heads=8, remat="all"),
        ),
        decoder=dict(cross_attend=dict(use_query_residual=query_residual)),
    )


def _config_b(inputs: dict) -> dict:
    """Config B: 16 layers without weight sharing, with MLPs four times as wide."""
    model = _perceiver_io(inputs)
    model["encoder"]["num_blocks"] = 1
    model["encoder"]["latent_stack"] = dict(num_layers=16, num_heads=8, widening=4, remat="all")
    return model


def _perceiver(inputs: dict, *, cross_attends: tuple, stacks: tuple = (0,) * 8) -> dict:
    """The original Perceiver: 8 stacks of 6 layers, each optionally preceded by a cross-attend."""
    return dict(
        name="perceiver_classifier",
        inputs=inputs,
        encoder=dict(
            num_latents=512,
            latent_dim=1024,
            cross_attends=cross_attends,
            stacks=stacks,
            latent_stack=dict(num_layers=6, num_heads=8, remat="all"),
        ),
    )


def _resnet_50(inputs: dict) -> dict:
    return dict(
        name="resnet_classifier",
        inputs=inputs,
        depths=(3, 4, 6, 3),
        widths=(256, 512, 1024, 2048),
    )


def _vit_b_16(inputs: dict) -> dict:
    return dict(
        name="vit_classifier",
        inputs=inputs,
        patch_size=(16, 16),
        width=768,
        layers=dict(num_layers=12, num_heads=12, widening=4),
    )


def _transformer(inputs: dict) -> dict:
    """One block of the latent transformer of `_perceiver`, on pixels."""
    layers = dict(num_layers=6, num_heads=8, remat="all")
    return dict(name="transformer_classifier", inputs=inputs, width=1024, layers=layers)


def _permuted(inputs: dict) -> dict:
    return dict(name="permuted", inputs=inputs, seed=0)


def _flat_then_cosine(steps: FieldReference, batch_size: FieldReference) -> dict:
    return dict(
        name="flat_then_cosine",
        peak=_scaled(2e-3, batch_size),
        flat_steps=steps // 2,
        total_steps=steps,
    )


def _three_drops(steps: FieldReference, batch_size: FieldReference) -> dict:
    """Divided by 10 after 84, 102 and 114 of 120 epochs."""
    boundaries = tuple(steps * epoch // 120 for epoch in (84, 102, 114))
    return dict(
        name="steps",
        peak=_scaled(4e-3, batch_size),
        boundaries=boundaries,
        factor=0.1,
    )


def _scaled(rate: float, batch_size: FieldReference) -> FieldReference:
    """The rate of the papers' batch size, 1024, scaled linearly to another one."""
    return rate * batch_size.to_float() / 1024


# The index of the cross-attend before each of the 8 stacks: the first has its own weights, the
# later ones share theirs.
ONE = (0,) + (None,) * 7
TWO = (0, None, None, None, 1, None, None, None)
FOUR = (0, None, 1, None, 1, None, 1, None)
EIGHT = (0,) + (1,) * 7

PERCEIVER_IO_RECIPE = dict(epochs=110, schedule=_flat_then_cosine)
PERCEIVER_RECIPE = dict(epochs=120, schedule=_three_drops)

PRESETS = {
    "fourier": (_perceiver_io(FOURIER), PERCEIVER_IO_RECIPE),
    "learned": (_perceiver_io(LEARNED, query_residual=False), PERCEIVER_IO_RECIPE),
    "conv": (_perceiver_io(CONV), PERCEIVER_IO_RECIPE),
    "config_b_fourier": (_config_b(FOURIER), PERCEIVER_IO_RECIPE),
    "config_b_conv": (_config_b(CONV), PERCEIVER_IO_RECIPE),
    "perceiver_fourier": (_perceiver(FOURIER, cross_attends=ONE), PERCEIVER_IO_RECIPE),
    "perceiver_learned": (_perceiver(LEARNED, cross_attends=ONE), PERCEIVER_IO_RECIPE),
    "perceiver_conv": (_perceiver(CONV, cross_attends=ONE), PERCEIVER_IO_RECIPE),
    "perceiver_1_cross_attend": (_perceiver(FOURIER, cross_attends=ONE), PERCEIVER_RECIPE),
    "perceiver_2_cross_attends": (_perceiver(FOURIER, cross_attends=TWO), PERCEIVER_RECIPE),
    "perceiver_4_cross_attends": (_perceiver(FOURIER, cross_attends=FOUR), PERCEIVER_RECIPE),
    "perceiver_8_cross_attends": (_perceiver(FOURIER, cross_attends=EIGHT), PERCEIVER_RECIPE),
    "perceiver_8_unshared": (
        _perceiver(FOURIER, cross_attends=tuple(range(8)), stacks=tuple(range(8))),
        PERCEIVER_RECIPE,
    ),
    "perceiver_8_learned": (_perceiver(LEARNED, cross_attends=EIGHT), PERCEIVER_RECIPE),
    "perceiver_8_conv": (_perceiver(CONV, cross_attends=EIGHT), PERCEIVER_RECIPE),
    "permuted": (_perceiver(_permuted(FOURIER), cross_attends=EIGHT), PERCEIVER_RECIPE),
    "permuted_learned": (_perceiver(_permuted(LEARNED), cross_attends=EIGHT), PERCEIVER_RECIPE),
    "resnet_50": (_resnet_50(FOURIER), PERCEIVER_RECIPE),
    "vit_b_16": (_vit_b_16(FOURIER), PERCEIVER_RECIPE),
    "transformer_64": (_transformer(FOURIER_64), PERCEIVER_RECIPE),
    "resnet_50_permuted": (_resnet_50(_permuted(FOURIER)), PERCEIVER_RECIPE),
    "vit_b_16_permuted": (_vit_b_16(_permuted(FOURIER)), PERCEIVER_RECIPE),
    "transformer_64_permuted": (_transformer(_permuted(FOURIER_64)), PERCEIVER_RECIPE),
}
