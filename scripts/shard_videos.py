"""Copies the videos of a config's data, reduced in size, into shards that are fast to read.

    python -m scripts.shard_videos --config=configs/kinetics.py:88x --config.data.root=KINETICS \
        --output=SHARDS [--split=train,...]

Then train with --config.data.name=video_shards --config.data.root=SHARDS. Each copy is H.264 with
AAC sound (one channel, 48 kHz), upright and at a constant frame rate, in full length and width.
Videos that cannot be read are listed and left out. A run that was interrupted continues when it is
started again; other splits can be added to the same folder later.
"""

import os
import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.runtime import configuration, program, setup
from scripts._shards import write_shards
from scripts._transcoding import CopyForm

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].", required=True)
OUTPUT = flags.DEFINE_string("output", None, "The folder to write.", required=True)
SPLIT = flags.DEFINE_list("split", [], "Splits; by default all.")
SHORTER_SIDE = flags.DEFINE_integer(
    "shorter_side", 256, "Pixels; smaller videos keep their size.", lower_bound=2
)
FRAME_RATE = flags.DEFINE_integer("frame_rate", 25, "Frames per second.", lower_bound=1)
QUALITY = flags.DEFINE_integer("quality", 20, "x264's crf, lower is better.", 0, 51)
KEY_FRAME_EVERY = flags.DEFINE_integer(
    "key_frame_every", 16, "Frames from one key frame to the next.", lower_bound=1
)
SHARD_SIZE = flags.DEFINE_integer("shard_size", 512, "Videos in a shard.", lower_bound=1)
NUM_WORKERS = flags.DEFINE_integer(
    "num_workers", os.cpu_count(), "Processes; 0 for none but this one.", lower_bound=0
)
_SOUND_BIT_RATE = 128_000


def main() -> None:
    """Writes the shards and prints the broken videos."""
    config = configuration.load(CONFIG.value, program.overrides())
    program.start_jax()
    source = setup.build_task(config).build_dataset(config.data).source
    form = CopyForm(
        shorter_side=SHORTER_SIDE.value,
        frame_rate=FRAME_RATE.value,
        quality=QUALITY.value,
        sound_bit_rate=_SOUND_BIT_RATE,
        key_frame_every=KEY_FRAME_EVERY.value,
    )
    written = write_shards(
        source,
        SPLIT.value or source.splits,
        Path(OUTPUT.value).expanduser(),
        form=form,
        shard_size=SHARD_SIZE.value,
        num_workers=NUM_WORKERS.value,
    )
    for split, shard in written.items():
        print(f"{split}: {len(shard.names)} videos, {len(shard.broken)} broken")
        for name, reason in shard.broken.items():
            print(f"  {name}: {reason}")


if __name__ == "__main__":
    program.run(main, CONFIG, OUTPUT)
