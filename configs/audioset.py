"""Tags of sounds and videos: bundled sounds, and AudioSet as in the papers.

    python -m experiments.train --config=configs/audioset.py --workdir=runs/sounds
    python -m experiments.train --config=configs/audioset.py:raw_video --workdir=DIR

Presets, with the mean average precision on AudioSet's evaluation set that the papers report
(Perceiver: 2103.03206, section 4.2; Perceiver IO: 2107.14795; for the original Perceiver with sound
and video, first that of its own paper, then that of the other):

    small                            a small Perceiver IO for one CPU core, on bundled sounds
    mixtures                         the same on mixtures of two or three of them
    clips                            sound and video of bundled videos: which one is it?
    clips_sound, clips_video         the same with one of the two
    perceiver_raw          38.3      the original Perceiver on the waveform
    perceiver_mel          38.4      on mel spectrograms
    perceiver_video        25.8      on video
    perceiver_raw_video    43.5, 42.4
    perceiver_mel_video    44.2, 43.6
    raw_video              43.3      Perceiver IO
    mel_video              44.9

The papers state clips of 32 frames of 224x224 pixels with their sound, video patches of 2x8x8,
480 patches of 128 samples or 4,800 mel inputs, 512 latents, 12 layers, sigmoid cross-entropy, 100
epochs, and test scores averaged over 16 overlapping clips. Our readings: latents are 512 wide, or
1024 in `mel_video`; keys and values are as wide; the query of Perceiver IO is 1024 wide; 16 bands
per axis for video and 64 for sound. These reproduce the papers' 21.0M, 25.0M and 88.2M parameters.
The spectrogram's 60 frames of 80 bands, the optimizer, and the augmentation are ours; its mean and
deviation are those of the bundled videos.
See docs/sound.md for the data, the hardware and the results.
"""

from ml_collections import ConfigDict, FieldReference

# AudioSet's training clips, as the Perceiver paper counts them.
EPOCH = 1_700_000


def get_config(preset: str = "small") -> ConfigDict:
    """The experiment named by `preset`."""
    model, inputs, data, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    steps = FieldReference(recipe["steps"])
    num_classes = FieldReference(recipe["num_classes"])

    config = ConfigDict()
    config.model = dict(model, num_classes=num_classes, **inputs["model"])
    config.task = dict(name="sound_tagging", num_classes=num_classes, **recipe["task"])
    config.data = dict(data, **inputs["data"])
    config.optimizer = recipe["optimizer"]
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]  # Linear scaling.
    config.schedule = dict(
        name="cosine", peak=peak, warmup_steps=recipe["warmup_steps"], total_steps=steps
    )
    config.training = dict(batch_size=batch_size, steps=steps, ema_decay=recipe["ema_decay"])
    config.evaluation = dict(
        splits=("validation",), every=recipe["every"], batch_size=recipe["evaluated"]
    )
    config.checkpoint = dict(every=recipe["every"], best_metric="validation/map", best_mode="max")
    return config


def _inputs(sound: str | None, video: bool) -> dict[str, dict]:
    """The sections of the model and of the data for modalities of AudioSet."""
    model, data = {}, {}
    if sound == "raw":
        data["sound"] = dict(name="waveform", sample_rate=48_000, num_samples=61_440)
        model["sound"] = dict(
            name="waveform", num_samples=61_440, samples_per_patch=128, num_bands=64
        )
    if sound == "mel":
        data["sound"] = dict(
            name="mel", sample_rate=48_000, num_samples=61_440, fft_size=2048, hop=1024,
            mel_bands=80, mean=-11.0, std=5.5, hidden_frames=12, hidden_bands=16,
        )  # fmt: skip
        model["sound"] = dict(name="spectrogram", shape=(60, 80), num_bands=64)
    if video:
        data["video"] = dict(num_frames=32, frame_rate=25, image_size=(224, 224), margin=1.15)
        model["video"] = dict(shape=(32, 224, 224), patch_size=(2, 8, 8), num_bands=16)
    return {"model": model, "data": data}


STACK = dict(num_layers=12, num_heads=8, remat="all")
READ = dict(qk_dim=512, v_dim=512)
WIDE = dict(qk_dim=1024, v_dim=1024)

PERCEIVER = dict(
    name="perceiver_clip_tagger",
    encoder=dict(
        num_latents=512,
        latent_dim=512,
        cross_attends=(0,),
        stacks=(0,),
        latent_stack=STACK,
        cross_attend=READ,
    ),
)
PERCEIVER_IO = dict(
    name="perceiver_io_clip_tagger",
    query_dim=1024,
    encoder=dict(num_latents=512, latent_dim=512, latent_stack=STACK, cross_attend=READ),
    decoder=dict(cross_attend=READ),
)
WIDE_PERCEIVER_IO = dict(
    name="perceiver_io_clip_tagger",
    query_dim=1024,
    encoder=dict(num_latents=512, latent_dim=1024, latent_stack=STACK, cross_attend=WIDE),
    decoder=dict(cross_attend=WIDE),
)
SMALL = dict(
    name="perceiver_io_clip_tagger",
    query_dim=64,
    encoder=dict(
        num_latents=32,
        latent_dim=64,
        latent_stack=dict(num_layers=3, num_heads=4, dropout=0.2),
        cross_attend=dict(qk_dim=64, v_dim=64),
    ),
)

AUDIOSET = dict(name="audioset", root="~/audioset", class_balanced=True, mixup_alpha=0.5)
SECOND = {
    "model": dict(
        sound=dict(name="spectrogram", shape=(100, 64), patch_size=(5, 8), num_bands=8)
    ),
    "data": dict(
        sound=dict(
            name="mel", sample_rate=16_000, num_samples=16_000, fft_size=512, hop=160, mel_bands=64,
            mean=-14.0, std=8.0, hidden_frames=20, hidden_bands=12,
        )
    ),
}  # fmt: skip
TWO_SECONDS = {
    "model": SECOND["model"],
    "data": dict(
        sound=dict(
            name="mel", sample_rate=16_000, num_samples=32_000, fft_size=1024, hop=320,
            mel_bands=64, mean=-9.0, std=7.0, hidden_frames=10, hidden_bands=8,
        )
    ),
}  # fmt: skip
# 0.96 s.
CLIP_SOUND = {
    "model": dict(sound=dict(name="spectrogram", shape=(96, 64), patch_size=(6, 8), num_bands=8)),
    "data": dict(
        sound=dict(
            name="mel", sample_rate=16_000, num_samples=15_360, fft_size=512, hop=160, mel_bands=64,
            mean=-11.0, std=4.0, hidden_frames=20, hidden_bands=12,
        )
    ),
}  # fmt: skip
CLIP_VIDEO = {
    "model": dict(video=dict(shape=(24, 32, 48), patch_size=(6, 8, 8), num_bands=4)),
    "data": dict(video=dict(num_frames=24, frame_rate=25, image_size=(32, 48), margin=1.2)),
}
CLIP_BOTH = {
    "model": CLIP_SOUND["model"] | CLIP_VIDEO["model"],
    "data": CLIP_SOUND["data"] | CLIP_VIDEO["data"] | dict(modality_dropout=0.5),
}

PAPER_RECIPE = dict(
    num_classes=527,
    batch_size=512,
    steps=100 * EPOCH // 512,
    every=2000,
    evaluated=512,
    task=dict(stretches=16),
    optimizer=dict(name="lamb", weight_decay=0.1),
    peak=2e-3,
    warmup_steps=1000,
    ema_decay=None,
)
SMALL_RECIPE = dict(
    num_classes=8,
    batch_size=32,
    steps=600,
    every=100,
    evaluated=32,
    task=dict(stretches=4),
    optimizer=dict(name="adamw", weight_decay=0.3),
    peak=2e-3,
    warmup_steps=50,
    ema_decay=0.99,
)
MIXTURES_RECIPE = SMALL_RECIPE | dict(steps=1500, every=250, evaluated=100, task={})
CLIPS_RECIPE = SMALL_RECIPE | dict(num_classes=14, batch_size=16, steps=400, task={})

PRESETS = {
    "small": (SMALL, SECOND, dict(name="sounds", mixup_alpha=0.3, max_speed=1.4), SMALL_RECIPE),
    "mixtures": (SMALL, TWO_SECONDS, dict(name="sound_mixtures", max_speed=1.4), MIXTURES_RECIPE),
    "clips": (
        SMALL,
        CLIP_BOTH,
        dict(name="clip_windows"),
        CLIPS_RECIPE | dict(task=dict(without=("sound", "video"))),
    ),
    "clips_sound": (SMALL, CLIP_SOUND, dict(name="clip_windows"), CLIPS_RECIPE),
    "clips_video": (SMALL, CLIP_VIDEO, dict(name="clip_windows"), CLIPS_RECIPE),
    "perceiver_raw": (PERCEIVER, _inputs("raw", video=False), AUDIOSET, PAPER_RECIPE),
    "perceiver_mel": (PERCEIVER, _inputs("mel", video=False), AUDIOSET, PAPER_RECIPE),
    "perceiver_video": (PERCEIVER, _inputs(None, video=True), AUDIOSET, PAPER_RECIPE),
    "perceiver_raw_video": (PERCEIVER, _inputs("raw", video=True), AUDIOSET, PAPER_RECIPE),
    "perceiver_mel_video": (PERCEIVER, _inputs("mel", video=True), AUDIOSET, PAPER_RECIPE),
    "raw_video": (PERCEIVER_IO, _inputs("raw", video=True), AUDIOSET, PAPER_RECIPE),
    "mel_video": (WIDE_PERCEIVER_IO, _inputs("mel", video=True), AUDIOSET, PAPER_RECIPE),
}
