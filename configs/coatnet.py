"""CoAtNet (2106.04803): its sizes, layouts and ablations, on ImageNet-1K and larger sets of images.

    python -m experiments.train --config=configs/coatnet.py:PRESET --workdir=DIR \
        --config.data.root=TFDS_DATA_DIR

Presets, with the reported top-1 accuracy on ImageNet and the number of parameters:

ImageNet-1K at 224 pixels, 300 epochs (section 4.2)
    0      81.6    25.0M
    1      83.3    42.2M
    2      84.1    74.7M
    3      84.5   167.0M

Pre-training on any folder with a sub-folder for each class, such as ImageNet-21K, at 224 pixels
    2_pretrain, 3_pretrain
    4             275.4M
    5             687.1M
    6            1471.1M   with 3072 channels in the last stage, which make the paper's 1.47B; the
                           2048 in its table of sizes make 1348M
    7            2442.0M

Fine-tuning on ImageNet-1K, 30 epochs, from --config.init_from=WEIGHTS, with
--config.init_prefixes="('!logits',)" after other classes; tables of relative biases are resized
    0_384  83.9     1_384  85.1     2_384  85.7     3_384  85.8
    4_512  88.56    6_512  90.45    7_512  90.88   after ImageNet-21K (4) and JFT-3B

Layouts of about 25M parameters (section 2.2), where C is MBConv and T is attention
    c_c_c_c, c_c_c_t, c_c_t_t, c_t_t_t, vit_rel

Ablations of CoAtNet-2 (section 4.3)
    2_no_relative_bias, 2_post_softmax_bias, 2_head_size_64, 2_layer_norm
    2_shallow_s2           blocks moved from S2 to S3
    2_deep_s2              blocks moved from S3 to S2
    2_wide_s2, 2_wide_s3   about as many parameters in a wider stage, this project's own
    2_dagger               downsampling in the depthwise convolution

Hardware: --config.model.compute_dtype=bfloat16 and --config.training.accumulate reduce the memory
of a batch of 4096 images.
"""

from ml_collections import ConfigDict, FieldReference


def get_config(preset: str = "0") -> ConfigDict:
    """The experiment in one row of the tables above."""
    model, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    num_classes = FieldReference(recipe["num_classes"])
    image_size = FieldReference((recipe["side"],) * 2)
    steps = recipe["num_train"] * recipe["epochs"] // batch_size
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]

    config = ConfigDict()
    config.model = dict(model, num_classes=num_classes, image_size=image_size)
    config.task = dict(
        name="image_classification",
        num_classes=num_classes,
        label_smoothing=recipe["label_smoothing"],
        cross_entropy=recipe["cross_entropy"],
    )
    config.data = dict(recipe["data"], image_size=image_size, num_workers=16)
    config.optimizer = dict(name="adamw", weight_decay=recipe["weight_decay"])
    config.schedule = recipe["schedule"](peak, steps)
    config.training = dict(batch_size=batch_size, steps=steps, ema_decay=recipe["ema_decay"])
    config.evaluation = dict(splits=("validation",), batch_size=1024, every=5000)
    config.checkpoint = dict(best_metric="validation/top_1", best_mode="max")
    return config


def _coatnet(
    depths: tuple, widths: tuple, stem: int, layout: str = "C-C-T-T", *, remat="none", **blocks
) -> dict:
    """A stem of two convolutions, then stages of the given layout."""
    return dict(
        name="coatnet_classifier",
        stem=dict(name="convolutions", widths=(stem, stem)),
        layout=layout,
        depths=depths,
        widths=widths,
        head_width=widths[-1],
        remat=remat,
        blocks=blocks,
    )


def _vit_rel(depth: int, width: int, **blocks) -> dict:
    """ViT with relative attention and average pooling."""
    model = _coatnet((depth,), (width,), width, "T", **blocks)
    return model | dict(stem=dict(name="patches", patch_size=16, width=width))


def _cosine(peak: FieldReference, steps: FieldReference) -> dict:
    """With a warm-up of 10,000 of the 94,000 steps of ImageNet-1K."""
    warmup_steps = steps * 10 // 94
    return dict(name="cosine", peak=peak, warmup_steps=warmup_steps, total_steps=steps, end=1e-5)


def _linear(peak: FieldReference, steps: FieldReference) -> dict:
    """With a warm-up of 5 of 90 epochs."""
    return dict(name="linear", peak=peak, warmup_steps=steps // 18, total_steps=steps, end=1e-5)


def _constant(peak: FieldReference, steps: FieldReference) -> dict:
    del steps
    return dict(name="constant", peak=peak, warmup_steps=0)


IMAGENET_1K = dict(
    data=dict(
        name="imagenet",
        root="~/tensorflow_datasets",
        randaugment_layers=2,
        randaugment_magnitude=15.0,
        mixup_alpha=0.8,
        cutmix_alpha=0.0,
    ),
    num_train=1_281_167,
    num_classes=1000,
    side=224,
    epochs=300,
    batch_size=4096,
    peak=1e-3,
    schedule=_cosine,
    weight_decay=0.05,
    label_smoothing=0.1,
    cross_entropy="softmax",
    ema_decay=None,
)
# Sizes of ImageNet-21K; augmentation, stochastic depth and schedule are this project's choice.
PRETRAIN = IMAGENET_1K | dict(
    data=dict(
        name="image_folder",
        root="path/to/images",
        randaugment_layers=0,
        mixup_alpha=0.0,
        cutmix_alpha=0.0,
    ),
    num_train=13_000_000,
    num_classes=21_841,
    epochs=90,
    schedule=_linear,
    weight_decay=0.01,
    label_smoothing=1e-4,
    cross_entropy="sigmoid",
)
FINETUNE = IMAGENET_1K | dict(
    side=384,
    epochs=30,
    batch_size=512,
    peak=5e-5,
    schedule=_constant,
    weight_decay=1e-8,
    ema_decay=0.9999,
)
FINETUNE_512 = FINETUNE | dict(side=512)

SMALL, MEDIUM, LARGE = (96, 192, 384, 768), (128, 256, 512, 1024), (192, 384, 768, 1536)


def _coatnet_2(depths: tuple = (2, 6, 14, 2), widths: tuple = MEDIUM, **blocks) -> dict:
    """CoAtNet-2, or a variant of it."""
    return _coatnet(depths, widths, 128, stochastic_depth=0.5, **blocks)


def _huge(depths: tuple, widths: tuple, layout: str = "C-C-T-T", **blocks) -> dict:
    """One of the sizes that the paper trains on more than ImageNet-1K."""
    return _coatnet(depths, widths, 192, layout, remat="all", stochastic_depth=0.2, **blocks)


def _small(depths: tuple, layout: str = "C-C-T-T") -> dict:
    """CoAtNet-0, or one of about as many parameters in another layout."""
    return _coatnet(depths, SMALL, 64, layout, stochastic_depth=0.2)


SIZES = {
    "0": _small((2, 3, 5, 2)),
    "1": _coatnet((2, 6, 14, 2), SMALL, 64, stochastic_depth=0.3),
    "2": _coatnet_2(),
    "3": _coatnet((2, 6, 14, 2), LARGE, 192, stochastic_depth=0.7),
    "4": _huge((2, 12, 28, 2), LARGE),
    "5": _huge((2, 12, 28, 2), (256, 512, 1280, 2048), head_size=64),
    "6": _huge((2, 4, 8, 42, 2), (192, 384, 768, 1536, 3072), "C-C-CT-T", head_size=128),
    "7": _huge((2, 4, 8, 42, 2), (256, 512, 1024, 2048, 3072), "C-C-CT-T", head_size=128),
}

LAYOUTS = {
    "c_c_c_c": _small((2, 3, 7, 2), "C-C-C-C"),
    "c_c_c_t": _small((2, 3, 6, 2), "C-C-C-T"),
    "c_c_t_t": _small((2, 3, 5, 2)),
    "c_t_t_t": _small((2, 3, 5, 2), "C-T-T-T"),
    "vit_rel": _vit_rel(13, 384, stochastic_depth=0.2),
}

ABLATIONS = {
    "2_no_relative_bias": _coatnet_2(relative_bias="none"),
    "2_post_softmax_bias": _coatnet_2(bias_after_softmax=True),
    "2_head_size_64": _coatnet_2(head_size=64),
    "2_layer_norm": _coatnet_2(conv_norm="layer"),
    "2_dagger": _coatnet_2(stride="depthwise"),
    "2_shallow_s2": _coatnet_2((2, 2, 18, 2)),
    "2_deep_s2": _coatnet_2((2, 8, 12, 2)),
    "2_wide_s2": _coatnet_2(widths=(128, 384, 480, 1024)),
    "2_wide_s3": _coatnet_2(widths=(128, 192, 544, 1024)),
}

PRESETS = {
    **{preset: (SIZES[preset], IMAGENET_1K) for preset in "0123"},
    **{preset: (SIZES[preset], PRETRAIN) for preset in "4567"},
    **{f"{size}_pretrain": (SIZES[size], PRETRAIN) for size in "23"},
    **{f"{size}_384": (SIZES[size], FINETUNE) for size in "0123"},
    **{f"{size}_512": (SIZES[size], FINETUNE_512) for size in "467"},
    **{preset: (model, IMAGENET_1K) for preset, model in (LAYOUTS | ABLATIONS).items()},
}
