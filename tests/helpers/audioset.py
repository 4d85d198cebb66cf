"""A folder in AudioSet's layout."""

import numpy as np
import scipy.io.wavfile

HEADER = (
    "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=3\n# YTID, start_seconds, ...\n"
)
MIDS = ("/m/09x0r", "/m/05zppz", "/t/dd00125")
NAMES = ("Speech", "Male speech, man speaking", "Radio, noise")


def make_tables(root, num_classes=3, **segments):
    """The table of classes, and of segments: {table: [(id, start, stop, labels)]}."""
    mids = [*MIDS, *(f"/m/{index}" for index in range(num_classes))][:num_classes]
    names = [*NAMES, *(f"class {index}" for index in range(num_classes))]
    rows = [f'{i},{mid},"{name}"' for i, (mid, name) in enumerate(zip(mids, names, strict=False))]
    (root / "class_labels_indices.csv").write_text("\n".join(["index,mid,display_name", *rows]))
    for table, lines in segments.items():
        text = [f'{name}, {start}, {stop}, "{labels}"' for name, start, stop, labels in lines]
        (root / f"{table}_segments.csv").write_text(HEADER + "\n".join(text) + "\n")
        (root / f"{table}_segments").mkdir(exist_ok=True)


def write_sound(path, level, seconds=1.0, rate=16_000):
    """A wav file of constant samples."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.full(round(seconds * rate), round(level * 32767), np.int16)
    scipy.io.wavfile.write(path, rate, samples)
