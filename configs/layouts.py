"""Layouts of CoAtNet in small (CoAtNet, section 2.2): which stages convolve, and which attend.

    python -m scripts.prepare_fashion_mnist --output=data/fashion_mnist
    python -m experiments.train --config=configs/layouts.py:PRESET --workdir=DIR
    python -m scripts.compare_layouts --workdir=DIR    # all presets, three seeds, tables and figure

Presets: `c_c_c_c`, `c_c_c_t`, `c_c_t_t`, `c_t_t_t` and `vit_rel`, of 0.9M parameters, on
Fashion-MNIST (1708.07747) enlarged to 96 pixels: 55,000 images for training, 5000 for selecting the
checkpoint, 10,000 for testing. The same with `_photos` on the bundled photographs of fruit, which
are enlarged from 64 pixels: 675, 57 and 661 images. For the transfer study, these start from
weights of the others:

    --config.init_from=RUN --config.init_prefixes="('!logits',)"

Hardware: a CPU core, five minutes; half of that for photographs.
"""

from ml_collections import ConfigDict, FieldReference


def get_config(preset: str = "c_c_t_t") -> ConfigDict:
    """The experiment with the layout and the data named by `preset`."""
    model, recipe = PRESETS[preset]
    batch_size = FieldReference(32)
    peak = 1e-3 * batch_size.to_float() / 32  # Linear scaling.
    num_classes = FieldReference(recipe["num_classes"])
    image_size = FieldReference((96, 96))
    steps = FieldReference(recipe["steps"])

    config = ConfigDict()
    config.model = dict(model, num_classes=num_classes, image_size=image_size)
    config.task = dict(name="image_classification", num_classes=num_classes)
    config.data = dict(recipe["data"], image_size=image_size, evaluation_crop=1.0)
    config.optimizer = dict(name="adamw", weight_decay=0.05)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 10, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps)
    config.evaluation = dict(splits=("validation",), batch_size=100, every=steps // 2)
    config.checkpoint = dict(every=steps // 2, best_metric="validation/loss", best_mode="min")
    config.logging = dict(every=steps // 6)
    return config


def _coatnet(depths: tuple, layout: str) -> dict:
    """A stem of two convolutions, then stages at 24, 12, 6 and 3 pixels."""
    return dict(
        name="coatnet_classifier",
        stem=dict(name="convolutions", widths=(16, 16)),
        layout=layout,
        depths=depths,
        widths=(32, 64, 128, 192),
        head_width=192,
    )


LAYOUTS = {
    "c_c_c_c": _coatnet((1, 1, 3, 1), "C-C-C-C"),
    "c_c_c_t": _coatnet((1, 2, 2, 1), "C-C-C-T"),
    "c_c_t_t": _coatnet((1, 1, 2, 1), "C-C-T-T"),
    "c_t_t_t": _coatnet((1, 1, 2, 1), "C-T-T-T"),
    "vit_rel": dict(
        name="coatnet_classifier",
        stem=dict(name="patches", patch_size=16, width=128),
        layout="T",
        depths=(4,),
        widths=(128,),
        head_width=128,
    ),
}

AUGMENTATION = dict(randaugment_layers=0, mixup_alpha=0.0, cutmix_alpha=0.0)
FASHION_MNIST = dict(
    data=dict(
        name="image_folder",
        root="data/fashion_mnist",
        mean=(0.286,) * 3,
        std=(0.353,) * 3,
        crop_area=(0.7, 1.0),
        **AUGMENTATION,
    ),
    num_classes=10,
    steps=600,
)
PHOTOS = dict(
    data=dict(name="photos", labels="coarse", crop_area=(0.3, 1.0), **AUGMENTATION),
    num_classes=5,
    steps=300,
)

PRESETS = {
    **{layout: (model, FASHION_MNIST) for layout, model in LAYOUTS.items()},
    **{f"{layout}_photos": (model, PHOTOS) for layout, model in LAYOUTS.items()},
}
