"""Classes, sources and folds of Sonic Pi's samples; see `prepare_sounds.py`."""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.signal

# Classes by the first part of a file's name. Others have clips of fewer than five sources.
CLASSES = {
    "ambi": "ambience",
    "bass": "bass",
    "bd": "bass drum",
    "drum": "drum kit",
    "elec": "electronic",
    "loop": "loop",
    "perc": "percussion",
    "tabla": "tabla",
}
NUM_FOLDS = 5

# How something is played, as opposed to what.
_MANNERS = {"closed", "full", "hard", "heavy", "hi", "lo", "mid", "open", "soft"}
# Two clips whose waveforms correlate more than this are twins.
_TWINS = 0.85
_LEAST_SAMPLES = 400


class Origin(NamedTuple):
    """Where a clip is from."""

    author: str
    url: str


def origins(readme: str) -> dict[str, Origin]:
    """The origins of the package's README, by the names of the files without `.flac`."""
    found = {}
    for name, url in re.findall(r"^\* `:(\w+)`\s*- (\S+)", readme, re.MULTILINE):
        author = re.search("/people/([^/]+)/", url)
        # The README writes perc_bell_2 for perc_bell2, and 3dprinter for 3d_printer.
        key = re.sub(r"_(\d)$", r"\1", name).replace("3dprinter", "3d_printer")
        found[key] = Origin(author[1].replace("%20", " "), url)
    return found


def sources(
    names: Sequence[str], origins: Mapping[str, Origin], waves: Sequence[np.ndarray]
) -> list[int]:
    """A number for each clip of one class, the same for clips of one source.

    These are clips of one original, clips whose names share a word for what is played, and twins.

    Args:
        names: of the files, without `.flac`.
        origins: of each name.
        waves: samples of each clip.
    """
    groups = list(range(len(names)))
    for i, name in enumerate(names):
        for j, other in enumerate(names[:i]):
            same = (
                origins[name].url == origins[other].url
                or _words(name) & _words(other)
                or correlation(waves[i], waves[j]) > _TWINS
            )
            if same:
                groups = [groups[j] if group == groups[i] else group for group in groups]
    return groups


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """The largest normalised cross-correlation of two sounds, of which the shorter may be shifted.

    0 for sounds that are too short to tell.
    """
    short, long = sorted((one, other), key=len)
    if len(short) < _LEAST_SAMPLES:
        return 0.0
    long = np.pad(long, len(short) // 2)
    products = scipy.signal.fftconvolve(long, short[::-1], "valid")
    energy = scipy.signal.fftconvolve(long**2, np.ones(len(short)), "valid")
    # Where the longer one is nearly silent, noise would decide.
    energy = np.maximum(energy, 1e-3 * energy.max())
    return float(np.abs(products / np.sqrt(energy * (short**2).sum())).max())


def folds(groups: Sequence[int], seed: int) -> list[int]:
    """The fold of each clip of one class; a source is never divided.

    The largest sources come first, each to the fold with the fewest clips; equally large ones are
    in a random order.
    """
    members = collections.Counter(groups)
    rng = np.random.default_rng(seed)
    order = rng.permutation(sorted(members)).tolist()
    # Which fold comes first differs between classes.
    sizes = {int(fold): 0 for fold in rng.permutation(NUM_FOLDS)}
    chosen = {}
    for group in sorted(order, key=lambda group: -members[group]):
        chosen[group] = min(sizes, key=lambda fold: sizes[fold])
        sizes[chosen[group]] += members[group]
    return [chosen[group] for group in groups]


def _words(name: str) -> set[str]:
    _, *words = re.sub(r"\d", "", name).split("_")
    return {word for word in words if len(word) > 1} - _MANNERS
