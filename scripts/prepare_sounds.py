"""Creates perceiver_io/data/bundled/sounds/sounds.zip from the package with the sounds.

    apt-get download sonic-pi-samples    # Debian; version 3.2.2~repack-8
    dpkg -x sonic-pi-samples_*_all.deb package
    python -m scripts.prepare_sounds --folder=package/usr/share/sonic-pi/samples

Clips are mixed to one channel, resampled to 16 kHz and cut off after five seconds. Classes,
sources and folds are in scripts/_sounds.py: all clips of a source are in one fold.
"""

import collections
import csv
import io
import sys
import zipfile
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import av
import numpy as np
from absl import app, flags

from perceiver_io.data.video.recordings import Recording, count_samples, read_sound
from scripts import _sounds

FOLDER = flags.DEFINE_string("folder", None, "The package's folder `samples`.", required=True)
OUTPUT = flags.DEFINE_string(
    "output", "perceiver_io/data/bundled/sounds", "Folder for sounds.zip and sounds.csv."
)

_RATE = 16_000
_SECONDS = 5
_DATE = (2021, 7, 1, 0, 0, 0)  # So that the archive is reproducible.


def main(argv: list[str]) -> None:
    """Writes CLASS/NAME.flac into the archive, and a table of folds, sources and origins."""
    del argv
    origins = _sounds.origins((Path(FOLDER.value) / "README.md").read_text())
    rows = []
    output = Path(OUTPUT.value)
    with zipfile.ZipFile(output / "sounds.zip", "w", zipfile.ZIP_STORED) as archive:
        for number, (prefix, label) in enumerate(_sounds.CLASSES.items()):
            paths = sorted(Path(FOLDER.value).glob(f"{prefix}_*.flac"))
            waves = [decoded(path) for path in paths]
            names = [path.stem for path in paths]
            groups = _sounds.sources(names, origins, waves)
            folds = _sounds.folds(groups, seed=number)
            print(f"{label}: {len(names)} of {len(set(groups))} sources,", end=" ")
            print("folds of", [collections.Counter(folds)[x] for x in range(_sounds.NUM_FOLDS)])
            for name, wave, group, fold in zip(names, waves, groups, folds, strict=True):
                archive.writestr(zipfile.ZipInfo(f"{label}/{name}.flac", _DATE), encoded(wave))
                rows.append([label, name, fold, names[group], *origins[name]])
    with (output / "sounds.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class", "name", "fold", "source", "author", "url"])
        table.writerows(rows)
    size = (output / "sounds.zip").stat().st_size
    print(f"{len(rows)} clips, {size / 1e6:.1f} MB: {output}/sounds.zip")


def decoded(path: Path) -> np.ndarray:
    """The samples of a sound, up to five seconds."""
    recording = Recording(path, path.name)
    count = min(count_samples(recording, _RATE), _SECONDS * _RATE)
    return read_sound(recording, sample_rate=_RATE, num_samples=count)[:, 0]


def encoded(wave: np.ndarray) -> bytes:
    """A sound as a FLAC file of 16 bits."""
    file = io.BytesIO()
    whole = np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    unpadded = {"metadata_header_padding": "0"}
    with av.open(file, "w", format="flac", options=unpadded) as container:
        best = {"compression_level": "12"}
        stream = container.add_stream("flac", _RATE, best, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(whole[None], format="s16", layout="mono")
        frame.rate = _RATE
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


if __name__ == "__main__":
    app.run(main)
