"""PSNR of reconstructions without learning, on the clips that an autoencoder is evaluated on.

    python -m scripts.clip_baselines --config=configs/kinetics.py:small [--split=test]

Prints the PSNR of video and sound, as the metrics `video_psnr` and `audio_psnr`, of

- the mean frame of all training clips, and silence,
- the mean frame of the training clips of the same class,
- the clip downsampled to as many values as the model's latents have: all for the video, all for
  the sound, and two mixtures. The lowest frequencies of a discrete cosine transform are kept. Of
  several numbers of frames, the best for the evaluated clips is taken, which favours this baseline.
"""

import functools
import math
import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from scripts._clip_baselines import (
    Guess,
    clips,
    frame_shapes,
    low_audio,
    low_video,
    mean_frames,
    psnrs,
)

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
    form = dataset.preparation.form
    num_values = config.model.encoder.num_latents * config.model.encoder.latent_dim
    every, by_class = mean_frames(clips(dataset, "train"))
    shapes = {share: frame_shapes(int(share * num_values), form.image_size) for share in SHARES}
    of_audio = {share: num_values - int(share * num_values) for share in SHARES}
    found = psnrs(
        clips(dataset, SPLIT.value),
        {
            "frame": Guess("image", lambda clip: np.broadcast_to(every, clip["image"].shape)),
            "class": Guess(
                "image",
                lambda clip: np.broadcast_to(by_class[int(clip["label"])], clip["image"].shape),
            ),
            "silence": Guess("audio", lambda clip: np.zeros_like(clip["audio"])),
        }
        | {
            (share, shape): Guess("image", functools.partial(low_video, shape))
            for share in SHARES
            for shape in shapes[share]
        }
        | {
            share: Guess("audio", functools.partial(low_audio, of_audio[share]))
            for share in SHARES
            if of_audio[share]
        },
    )
    pixels = 3 * form.num_frames * math.prod(form.image_size)
    print(
        f"{dataset.num_examples(SPLIT.value)} clips of {SPLIT.value}; latents have {num_values} "
        f"values, a clip {pixels + form.num_samples}\n"
    )
    row("", "video", "sound")
    row("mean frame, silence", found["frame"], found.get("silence", ""))
    row("mean frame of the class", found["class"])
    for share in SHARES:
        best = max(shapes[share], key=lambda shape, share=share: found[share, shape], default=None)
        size = f"video {'x'.join(map(str, best))}" if best else ""
        sound = f"{of_audio[share]} of sound" if of_audio[share] else ""
        row(
            f"downsampled: {', '.join(filter(None, (size, sound)))}",
            found[share, best] if best else "",
            found.get(share, ""),
        )


def row(name: str, *values: float | str) -> None:
    """Prints a line of the table."""
    cells = (f"{value:8.2f}" if isinstance(value, float) else f"{value:>8}" for value in values)
    print(f"{name:45}{''.join(cells)}")


if __name__ == "__main__":
    program.run(main, CONFIG)
