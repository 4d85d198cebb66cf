"""ImageNet classification: every row of the papers' ImageNet tables.

    python -m experiments.train --config=configs/imagenet.py:PRESET --workdir=DIR \
        --config.data.root=TFDS_DATA_DIR

Presets, with the reported top-1 accuracy on the validation split and the number of parameters:

Perceiver IO (2107.14795, section 4.5 and its appendix), batch 1024, 110 epochs
    fourier                      79.0    48.4M   pixels with 2D Fourier features
    learned                      72.7    62.3M   1x1 convolution and learned positions
    conv                         82.1    48.6M   convolutional stem with max pool
    config_b_fourier             84.5   212.2M   16 unshared layers, wider MLPs; fine-tuned
    config_b_conv                86.4   212.4M   the same with the convolutional stem
    perceiver_fourier            78.6    42.1M   Perceiver trained in the same way
    perceiver_learned            67.6    55.9M
    perceiver_conv               77.4    42.3M

Config B is pre-trained on a folder with a sub-folder for each class, in place of the paper's JFT
(300 million images, 14 epochs), by config_b_fourier_pretrain and config_b_conv_pretrain. The
fine-tuning above starts from it: --config.init_from=RUN
--config.init_prefixes="('!decoder/logits',)". See docs/image_classification.md.

Perceiver (2103.03206, section 4.1 and its appendix), batch 1024, 120 epochs
    perceiver_8_cross_attends    78.0    44.9M   the paper's main model
    perceiver_4_cross_attends    76.5    44.9M
    perceiver_2_cross_attends    76.5    44.9M
    perceiver_1_cross_attend     76.7    42.1M
    perceiver_2_at_start         76.7    44.9M   all cross-attends before the latent transformer
    perceiver_4_at_start         75.9    44.9M
    perceiver_8_at_start         73.7    44.9M
    perceiver_8_unshared         72.9   326.2M   no weights shared
    perceiver_4_only             39.4    12.7M   cross-attends without a latent transformer
    perceiver_8_only             45.3    23.8M
    perceiver_12_only                    34.9M   did not fit into the paper's memory
    perceiver_1_learned          70.9    48.2M   learned positions, a single cross-attend
    perceiver_8_conv                     45.3M   convolutional stem, not in the paper
    perceiver_small                      15.3M   the model whose sizes are varied in figure 5
    permuted                     78.0    44.9M   pixels in one fixed random order
    permuted_learned             70.9    48.2M

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
RAW_LEARNED = dict(name="raw_learned_pixels", image_size=IMAGE_SIZE, position_dim=128)
FOURIER_64 = dict(name="fourier_pixels", image_size=(64, 64), num_bands=64)
CONV = dict(name="conv_features", image_size=IMAGE_SIZE, channels=64, num_bands=64)


def get_config(preset: str = "fourier") -> ConfigDict:
    """The experiment in one row of the tables above."""
    model, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    num_classes = FieldReference(recipe["num_classes"])
    steps = recipe["num_examples"] // batch_size
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]  # Linear scaling.

    config = ConfigDict()
    config.model = dict(model, num_classes=num_classes)
    config.task = dict(name="image_classification", num_classes=num_classes, **recipe["task"])
    inputs = config.model.inputs
    pixels = inputs.inputs if inputs.name == "permuted" else inputs
    config.data = dict(recipe["data"], image_size=pixels.get_ref("image_size"), num_workers=16)
    config.optimizer = dict(name="lamb", weight_decay=0.1)
    config.schedule = recipe["schedule"](peak, steps)
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
    """The original Perceiver: by default 8 stacks of 6 layers, with cross-attends before some."""
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


def _at_start(number: int) -> dict:
    """All cross-attends before the first stack, the last of them directly before it."""
    return _perceiver(
        FOURIER,
        cross_attends=(0,) + (1,) * (number - 1) + (None,) * 7,
        stacks=(None,) * (number - 1) + (0,) * 8,
    )


def _cross_attends_only(number: int) -> dict:
    """No latent transformer, and no weights shared."""
    return _perceiver(FOURIER, cross_attends=tuple(range(number)), stacks=(None,) * number)


def _perceiver_small() -> dict:
    """2 cross-attends, each followed by 4 layers of 512; no weights shared."""
    model = _perceiver(FOURIER, cross_attends=(0, 1), stacks=(0, 1))
    model["encoder"] |= dict(latent_dim=512, latent_stack=dict(num_layers=4, num_heads=8))
    return model


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


def _flat_then_cosine(peak: FieldReference, steps: FieldReference) -> dict:
    """Flat for half of the steps."""
    return dict(name="flat_then_cosine", peak=peak, flat_steps=steps // 2, total_steps=steps)


def _fine_tuning(peak: FieldReference, steps: FieldReference) -> dict:
    """Flat for 70,000 of 131,000 steps."""
    flat_steps = steps * 70 // 131
    return dict(name="flat_then_cosine", peak=peak, flat_steps=flat_steps, total_steps=steps)


def _cosine(peak: FieldReference, steps: FieldReference) -> dict:
    return dict(name="cosine", peak=peak, warmup_steps=0, total_steps=steps)


def _three_drops(peak: FieldReference, steps: FieldReference) -> dict:
    """Divided by 10 after 84, 102 and 114 of 120 epochs."""
    boundaries = tuple(steps * epoch // 120 for epoch in (84, 102, 114))
    return dict(name="steps", peak=peak, boundaries=boundaries, factor=0.1)


# The index of the cross-attend before each of the 8 stacks: the first has its own weights, the
# later ones share theirs.
ONE = (0,) + (None,) * 7
TWO = (0, None, None, None, 1, None, None, None)
FOUR = (0, None, 1, None, 1, None, 1, None)
EIGHT = (0,) + (1,) * 7

PERCEIVER_IO_RECIPE = dict(
    data=dict(name="imagenet", root="~/tensorflow_datasets"),
    task={},
    num_classes=1000,
    num_examples=NUM_TRAIN * 110,
    batch_size=1024,
    peak=2e-3,
    schedule=_flat_then_cosine,
)
PERCEIVER_RECIPE = PERCEIVER_IO_RECIPE | dict(
    num_examples=NUM_TRAIN * 120, peak=4e-3, schedule=_three_drops
)
# The scaled-down model of the appendix sees 320 million images.
SMALL_RECIPE = PERCEIVER_RECIPE | dict(num_examples=64 * 5_000_000, batch_size=64, peak=2.5e-4)
PRETRAIN_RECIPE = dict(
    data=dict(
        name="image_folder",
        root="path/to/images",
        randaugment_layers=0,
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
    ),
    task=dict(label_smoothing=0.0),
    num_classes=18_000,
    num_examples=300_000_000 * 14,
    batch_size=8192,
    peak=3e-4,
    schedule=_cosine,
)
FINETUNE_RECIPE = PERCEIVER_IO_RECIPE | dict(num_examples=1024 * 131_000, schedule=_fine_tuning)
# With the convolutional stem, the higher rate was unstable.
FINETUNE_CONV_RECIPE = FINETUNE_RECIPE | dict(peak=2e-4)

PRESETS = {
    "fourier": (_perceiver_io(FOURIER), PERCEIVER_IO_RECIPE),
    "learned": (_perceiver_io(LEARNED, query_residual=False), PERCEIVER_IO_RECIPE),
    "conv": (_perceiver_io(CONV), PERCEIVER_IO_RECIPE),
    "config_b_fourier": (_config_b(FOURIER), FINETUNE_RECIPE),
    "config_b_conv": (_config_b(CONV), FINETUNE_CONV_RECIPE),
    "config_b_fourier_pretrain": (_config_b(FOURIER), PRETRAIN_RECIPE),
    "config_b_conv_pretrain": (_config_b(CONV), PRETRAIN_RECIPE),
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
    **{f"perceiver_{n}_at_start": (_at_start(n), PERCEIVER_RECIPE) for n in (2, 4, 8)},
    **{f"perceiver_{n}_only": (_cross_attends_only(n), PERCEIVER_RECIPE) for n in (4, 8, 12)},
    "perceiver_small": (_perceiver_small(), SMALL_RECIPE),
    "perceiver_1_learned": (_perceiver(RAW_LEARNED, cross_attends=ONE), PERCEIVER_RECIPE),
    "perceiver_8_conv": (_perceiver(CONV, cross_attends=EIGHT), PERCEIVER_RECIPE),
    "permuted": (_perceiver(_permuted(FOURIER), cross_attends=EIGHT), PERCEIVER_RECIPE),
    "permuted_learned": (_perceiver(_permuted(RAW_LEARNED), cross_attends=ONE), PERCEIVER_RECIPE),
    "resnet_50": (_resnet_50(FOURIER), PERCEIVER_RECIPE),
    "vit_b_16": (_vit_b_16(FOURIER), PERCEIVER_RECIPE),
    "transformer_64": (_transformer(FOURIER_64), PERCEIVER_RECIPE),
    "resnet_50_permuted": (_resnet_50(_permuted(FOURIER)), PERCEIVER_RECIPE),
    "vit_b_16_permuted": (_vit_b_16(_permuted(FOURIER)), PERCEIVER_RECIPE),
    "transformer_64_permuted": (_transformer(_permuted(FOURIER_64)), PERCEIVER_RECIPE),
}
