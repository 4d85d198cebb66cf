"""Autoencoding of video, sound and class label: Kinetics-700-2020 (Perceiver IO), bundled clips.

    python -m experiments.train --config=configs/kinetics.py:small --workdir=runs/clips
    python -m experiments.train --config=configs/kinetics.py:88x --workdir=DIR \
        --config.data.root=KINETICS

Presets, with the results that the paper reports (2107.14795, section 4.3): PSNR of sound and video
in dB, top-1 accuracy in percent.

                    audio  video  top-1   latents
    88x             26.97  24.37   10.2   784 of 512; the published weights
    176x            25.33  24.27    8.6   392 of 512
    352x            14.15  23.21   11.5   196 of 512
    class_weighted         20.7      45   as 88x; the label weighs 1 instead of 1e-4
    small                                 32 of 64; bundled clips, 64x64 pixels, 8 kHz
    folder                                the same on your videos, in one folder per class

The paper states sizes, losses and their weights, points per example, that the label is hidden from
half of the examples, batch size and learning rate. The optimizer, that of its other experiments,
the schedule and the number of steps are ours. Its ratios are those of the padded inputs to the
latents. docs/multimodal_autoencoding.md describes the data and the metrics.
"""

from ml_collections import ConfigDict, FieldReference


def get_config(preset: str = "small") -> ConfigDict:
    """The experiment named by `preset`."""
    model, data, task, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]  # Linear scaling.
    steps = FieldReference(recipe["steps"])
    num_classes = FieldReference(recipe["num_classes"])

    config = ConfigDict()
    config.model = dict(model)
    config.model.label.num_classes = num_classes
    config.task = dict(task, name="multimodal_autoencoding", num_classes=num_classes)
    config.data = dict(data, samples_per_patch=config.model.audio.get_ref("samples_per_patch"))
    config.optimizer = recipe["optimizer"]
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 50, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps, ema_decay=recipe["ema_decay"])
    config.evaluation = dict(
        splits=("validation",), every=recipe["every"], batch_size=recipe["evaluation_batch_size"]
    )
    config.checkpoint = dict(every=recipe["every"], best_metric="validation/loss", best_mode="min")
    return config


def _published(num_latents: int) -> dict:
    """The published model; 88x has 784 latents."""
    return dict(
        name="perceiver_io_autoencoder",
        image=dict(shape=(16, 224, 224), patch_size=(4, 4), resolution=(16, 56, 56), num_bands=32),
        audio=dict(num_samples=30_720, samples_per_patch=16, num_bands=192),
        label=dict(query_dim=1024),
        output_dim=512,
        encoder=dict(
            num_latents=num_latents,
            latent_dim=512,
            latent_stack=dict(num_layers=8, num_heads=8, remat="products"),
        ),
        decoder=dict(cross_attend=dict(use_query_residual=False)),
    )


SMALL = dict(
    name="perceiver_io_autoencoder",
    # Each head reads its own part of the frames or the sound at first; scales are about those of
    # the clips, whose sound is quiet.
    image=dict(
        shape=(16, 64, 64),
        patch_size=(8, 8),
        resolution=(16, 64, 64),
        num_bands=16,
        scale=0.4,
        windows=dict(latents=(1, 4, 4), heads=(1, 2, 2)),
    ),
    audio=dict(
        num_samples=5120,
        samples_per_patch=128,
        num_bands=64,
        scale=0.02,
        windows=dict(latents=(10,), heads=(4,)),
    ),
    label=dict(query_dim=64),
    output_dim=128,
    encoder=dict(
        num_latents=32,
        latent_dim=64,
        cross_attend=dict(num_heads=4, qk_dim=128, v_dim=128),
        latent_stack=dict(num_layers=4, num_heads=4),
    ),
    decoder=dict(
        cross_attend=dict(
            num_heads=4, qk_dim=128, v_dim=128, use_query_residual=False, widening=2.0
        )
    ),
)

KINETICS = dict(
    name="kinetics",
    root="~/kinetics700_2020",
    form=dict(num_frames=16, frame_rate=25, image_size=(224, 224), samples_per_frame=1920),
    image_points=512,
    audio_points=512,
    hide_label=0.5,
    num_workers=16,
)
CLIPS = dict(
    name="bundled_clips",
    form=dict(num_frames=16, frame_rate=25, image_size=(64, 64), samples_per_frame=320),
    image_points=512,
    audio_points=40,
    hide_label=0.5,
    hide_image=0.1,
    hide_audio=0.1,
)
FOLDER = dict(CLIPS, name="video_folder", root="~/videos")

TASK = dict(image_weight=0.03, audio_weight=1.0, label_weight=1e-4)
SMALL_TASK = dict(
    image_weight=0.3,
    audio_weight=10.0,
    label_weight=1e-3,
    # The presets above never hide frames or sound, so that a model without one is untrained.
    also_given=(("image",), ("audio",), ("audio", "image", "label")),
)

PAPER = dict(
    num_classes=700,
    batch_size=1024,
    steps=100_000,
    peak=1e-3,
    optimizer=dict(name="lamb", weight_decay=0.01),
    ema_decay=None,
    every=10_000,
    evaluation_batch_size=64,
)
SHORT = dict(
    num_classes=14,
    batch_size=8,
    steps=4000,
    peak=4e-3,
    optimizer=dict(name="adamw", weight_decay=0.0),
    ema_decay=0.998,
    every=1000,
    evaluation_batch_size=8,
)

PRESETS = {
    "small": (SMALL, CLIPS, SMALL_TASK, SHORT),
    "folder": (SMALL, FOLDER, SMALL_TASK, SHORT),
    "88x": (_published(784), KINETICS, TASK, PAPER),
    "176x": (_published(392), KINETICS, TASK, PAPER),
    "352x": (_published(196), KINETICS, TASK, PAPER),
    "class_weighted": (_published(784), KINETICS, dict(TASK, label_weight=1.0), PAPER),
}
