"""Optical flow: every row of Perceiver IO's table, and a model of a size for a laptop.

    python -m experiments.train --config=configs/optical_flow.py:PRESET --workdir=DIR \
        --config.data.root=AUTOFLOW_DIR
    python -m experiments.evaluate --workdir=DIR --split=train \
        --config=configs/optical_flow.py:sintel_clean --config.data.root=SINTEL_DIR

Presets, with the end-point errors of Perceiver IO (2107.14795, section 4.2) in pixels, on the
training splits of Sintel (clean, final) and KITTI 2015, after training on AutoFlow alone:

    patches               1.81  2.42  4.98   3x3 neighbourhoods, frames concatenated; published
    patches_separate      1.78  2.70  6.19   the same, frames separate
    pixels                1.91  2.56  5.39   single pixels, frames concatenated
    pixels_separate       1.72  2.63  5.93   the same, frames separate
    conv                  1.84  2.52  4.83   convolutional stem and RAFT's upsampling
    conv_light            2.06  2.67  6.12   the same with 16 layers and 1024 latents

    procedural            `patches`, on the procedural pairs that need no download
    flying_chairs, flying_things    `patches`, on these sets (of the second the left camera)
    small                 a small model on slow procedural pairs of 64x64 pixels, for two CPU cores
    laptop                correlations as inputs (not the paper's), such pairs of 128x128 pixels

    sintel_clean, sintel_final, kitti_2012, kitti_2015, middlebury, motorcycle
                          data of `experiments.evaluate`; the model is that of `patches`

The paper trains for 480 epochs of 400,000 pairs: plain ones, also reversed (here a quarter), then
with augmentation that grows (here for a quarter). It does not tell how long nor the augmentation's
numbers (here RAFT's, 2003.12039, plus rotation and relative motion). The public AutoFlow has 40,000
pairs. Hardware: docs/benchmarks.md.
"""

from ml_collections import ConfigDict, FieldReference

IMAGE_SIZE = (368, 496)
NUM_TRAIN = 400_000

AUGMENTATION = dict(
    spatial_probability=0.8,
    log2_scale=(-0.2, 0.6),
    log2_stretch=0.2,
    rotation=17.0,
    relative_log2_scale=0.04,
    relative_rotation=2.0,
    relative_translation=0.02,
    horizontal_flip=0.5,
    vertical_flip=0.1,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.16,
    log2_gamma=0.0,
    asymmetric_probability=0.2,
    noise=0.0,
    eraser_probability=0.5,
    eraser_boxes=2,
    eraser_sides=(50, 100),
)

# Displacements much like AutoFlow's: 12 pixels in the median, 50 at the 99th percentile.
SCENE = dict(
    num_objects=(4, 16),
    object_size=(0.1, 1.2),
    smooth_probability=0.5,
    hole_probability=0.3,
    photo_probability=0.6,
    object_motion=dict(
        mean_translation=15.0,
        max_translation=100.0,
        max_rotation=20.0,
        max_scale=1.25,
        max_shear=0.1,
        max_strain=0.4,
    ),
    camera_motion=dict(
        mean_translation=8.0,
        max_translation=50.0,
        max_rotation=4.0,
        max_scale=1.1,
        max_shear=0.03,
        max_strain=0.1,
    ),
    effects=dict(
        blur_probability=0.3,
        max_shutter=0.8,
        fog_probability=0.2,
        max_fog=0.6,
        lighting_probability=0.5,
        max_lighting=0.2,
        max_noise=8.0,
    ),
)

# Slow motion of a few objects: 1 pixel in the median, 4 at the 99th percentile.
EASY_SCENE = dict(
    SCENE,
    num_objects=(1, 4),
    object_size=(0.2, 0.7),
    hole_probability=0.0,
    photo_probability=0.7,
    object_motion=dict(
        mean_translation=2.0,
        max_translation=5.0,
        max_rotation=5.0,
        max_scale=1.05,
        max_shear=0.02,
        max_strain=0.1,
    ),
    camera_motion=dict(
        mean_translation=1.5,
        max_translation=4.0,
        max_rotation=1.0,
        max_scale=1.02,
        max_shear=0.0,
        max_strain=0.02,
    ),
    effects=dict(
        SCENE["effects"],
        blur_probability=0.0,
        fog_probability=0.0,
        lighting_probability=0.0,
        max_noise=2.0,
    ),
)

# The same motion, more and smaller objects.
DETAILED_SCENE = dict(EASY_SCENE, num_objects=(1, 8), object_size=(0.08, 0.7))


def get_config(preset: str = "patches") -> ConfigDict:
    """The experiment of one row of the tables above."""
    model, data, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]  # Linear scaling.
    steps = recipe["examples"] // batch_size
    accumulate = FieldReference(1)

    config = ConfigDict()
    config.model = dict(model)
    config.task = dict(name="optical_flow", loss_name=recipe["loss"])
    config.data = dict(
        data,
        image_size=config.model.get_ref("image_size"),
        plain_examples=batch_size * (steps // 4),
        growth_examples=batch_size * (steps // 4),
    )
    config.optimizer = recipe["optimizer"]
    warmup_steps = (recipe["warmup"] * steps.to_float()).to_int()
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=warmup_steps, total_steps=steps)
    config.training = dict(
        batch_size=batch_size,
        steps=steps,
        accumulate=accumulate,
    )
    config.evaluation = dict(
        splits=recipe["splits"],
        batch_size=batch_size // accumulate,
        every=recipe["every"],
    )
    best = f"{recipe['splits'][0]}_whole/epe"
    config.checkpoint = dict(every=recipe["every"], best_metric=best, best_mode="min")
    config.logging = dict(every=recipe["log_every"])
    return config


def _core(num_latents: int, num_layers: int) -> dict:
    return dict(
        encoder=dict(
            num_latents=num_latents,
            latent_dim=512,
            latent_stack=dict(num_layers=num_layers, num_heads=16, remat="all"),
        ),
        decoder=dict(cross_attend=dict(use_query_residual=False)),
    )


def _pixels(name: str, neighbourhood: int) -> dict:
    return dict(
        name=name,
        image_size=IMAGE_SIZE,
        neighbourhood=neighbourhood,
        channels=64,
        num_bands=64,
        **_core(2048, 24),
    )


def _conv(num_latents: int, num_layers: int) -> dict:
    return dict(
        name="perceiver_io_flow_conv",
        image_size=IMAGE_SIZE,
        channels=64,
        num_bands=64,
        **_core(num_latents, num_layers),
    )


SMALL = dict(
    name="perceiver_io_flow_conv",
    image_size=(64, 64),
    channels=64,
    num_bands=8,
    encoder=dict(
        num_latents=32,
        latent_dim=128,
        latent_stack=dict(num_layers=2, num_heads=4),
    ),
)

LAPTOP = dict(
    name="perceiver_io_flow_matched",
    image_size=(128, 128),
    channels=64,
    radius=3,
    num_blocks=2,
    num_bands=8,
    encoder=dict(
        num_latents=64,
        latent_dim=128,
        num_blocks=1,
        cross_attend=dict(num_heads=1, use_query_residual=True),
        latent_stack=dict(num_layers=2, num_heads=4),
    ),
    decoder=dict(cross_attend=dict(num_heads=1, use_query_residual=True, widening=2.0)),
)

PAPER = dict(
    loss="end_point",
    batch_size=512,
    examples=480 * NUM_TRAIN,
    optimizer=dict(name="lamb", weight_decay=0.1),
    peak=4e-4,
    warmup=0.0,
    every=5000,
    log_every=100,
    splits=("validation",),
)
SHORT = dict(
    loss="l1",
    batch_size=4,
    examples=320_000,
    optimizer=dict(name="adamw", weight_decay=0.01),
    peak=1e-3,
    warmup=1 / 400,
    every=2000,
    log_every=200,
    splits=("validation",),
)

AUGMENTED = dict(augmentation=AUGMENTATION, num_workers=16)
AUTOFLOW = dict(name="autoflow", root="~/autoflow", validation_share=0.01, **AUGMENTED)
CHAIRS = dict(name="flying_chairs", root="~/flying_chairs", **AUGMENTED)
THINGS = dict(
    name="flying_things", root="~/flying_things", rendering="final", cameras=("left",), **AUGMENTED
)
PROCEDURAL = dict(
    name="procedural_flow",
    frame_size=(448, 576),
    num_train=NUM_TRAIN,
    num_validation=128,
    num_test=256,
    scene=SCENE,
    **AUGMENTED,
)
DETAILED = dict(
    PROCEDURAL,
    frame_size=(128, 128),
    scene=DETAILED_SCENE,
    augmentation=None,
    num_workers=1,
)
EASY = dict(PROCEDURAL, frame_size=(64, 64), scene=EASY_SCENE, augmentation=None, num_workers=1)


def _measured(split: str, **data) -> tuple[dict, dict, dict]:
    return PATCHES, data, dict(PAPER, splits=(split,))


PATCHES = _pixels("perceiver_io_flow", 3)
PRESETS = {
    "patches": (PATCHES, AUTOFLOW, PAPER),
    "patches_separate": (_pixels("perceiver_io_flow_separate", 3), AUTOFLOW, PAPER),
    "pixels": (_pixels("perceiver_io_flow", 1), AUTOFLOW, PAPER),
    "pixels_separate": (_pixels("perceiver_io_flow_separate", 1), AUTOFLOW, PAPER),
    "conv": (_conv(2048, 24), AUTOFLOW, PAPER),
    "conv_light": (_conv(1024, 16), AUTOFLOW, PAPER),
    "procedural": (PATCHES, PROCEDURAL, PAPER),
    "flying_chairs": (PATCHES, CHAIRS, PAPER),
    "flying_things": (PATCHES, THINGS, dict(PAPER, splits=("test",))),
    "small": (SMALL, EASY, SHORT),
    "laptop": (LAPTOP, DETAILED, dict(SHORT, examples=36_000, warmup=1 / 45)),
    "sintel_clean": _measured("train", name="sintel", root="~/sintel", rendering="clean"),
    "sintel_final": _measured("train", name="sintel", root="~/sintel", rendering="final"),
    "kitti_2012": _measured("train", name="kitti", root="~/kitti_2012", year=2012),
    "kitti_2015": _measured("train", name="kitti", root="~/kitti_2015", year=2015),
    "middlebury": _measured("train", name="middlebury", root="~/middlebury"),
    "motorcycle": _measured("test", name="motorcycle"),
}
