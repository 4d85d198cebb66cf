"""PSNR of reconstructions without learning, on the clips that an autoencoder is evaluated on.

    python -m scripts.clip_baselines --config=configs/kinetics.py:small [--split=test]

Prints the PSNR of video and sound, as the metrics `video_psnr` and `audio_psnr`, of

- the mean frame of all training clips, and silence,
- the mean frame of the training clips of the same class,
- the clip downsampled to as many values as the model's latents have: all for the video, all for
  the sound, and two mixtures. The lowest frequencies of a discrete cosine transform are kept. Of
  several numbers of frames, the best for the evaluated clips is taken, which favours this baseline.
"""

import math
import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from scripts._clip_baselines import audio_psnr, clips, mean_frames, psnr_of, video_psnr

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].")
SPLIT = flags.DEFINE_string("split", "test", "The split to measure on.")

# Of all values, for the video.
SHARES = (1.0, 0.75, 0.5, 0.0)


def main() -> None:
    """Prints a line for each baseline."""
    config = configuration.load(CONFIG.value, program.overrides())
    if config.task.name != "multimodal_autoencoding":
        raise UserError(
            f"--config={CONFIG.value} has the task {config.task.name!r}: give a config whose task "
            "is `multimodal_autoencoding`."
        )
    dataset = setup.build_dataset(config, setup.build_task(config))
    every, by_class = mean_frames(list(clips(dataset, "train")))
    measured = list(clips(dataset, SPLIT.value))
    encoder = config.model.encoder
    num_values = encoder.num_latents * encoder.latent_dim
    sounds = [clip["audio"] for clip in measured if clip["audio"].size]
    silence = psnr_of((np.zeros_like(sound), sound) for sound in sounds) if sounds else ""
    form = dataset.preparation.form
    pixels = 3 * form.num_frames * math.prod(form.image_size)
    print(
        f"{len(measured)} clips of {SPLIT.value}, {len(sounds)} with sound; latents have "
        f"{num_values} values, a clip {pixels + form.num_samples}\n"
    )
    row("", "video", "sound")
    frames = ((np.broadcast_to(every, x["image"].shape), x["image"]) for x in measured)
    row("mean frame, silence", psnr_of(frames), silence)
    frames = (
        (np.broadcast_to(by_class[int(x["label"])], x["image"].shape), x["image"]) for x in measured
    )
    row("mean frame of the class", psnr_of(frames))
    for share in SHARES:
        of_video = int(share * num_values)
        of_audio = num_values - of_video
        video, shape = video_psnr(measured, of_video) if of_video else ("", ())
        audio = audio_psnr(sounds, of_audio) if of_audio and sounds else ""
        size = f"video {'x'.join(map(str, shape))}" if shape else ""
        sound = f"{of_audio} of sound" if of_audio else ""
        row(f"downsampled: {', '.join(filter(None, (size, sound)))}", video, audio)


def row(name: str, *values: float | str) -> None:
    """Prints a line of the table."""
    cells = (f"{value:8.2f}" if isinstance(value, float) else f"{value:>8}" for value in values)
    print(f"{name:45}{''.join(cells)}")


if __name__ == "__main__":
    program.run(main, CONFIG)
