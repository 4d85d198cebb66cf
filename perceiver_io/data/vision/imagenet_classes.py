"""Names of the 1000 ImageNet classes; see bundled/imagenet_classes/ORIGIN.md."""

import collections
import functools
import pathlib

_LIST = pathlib.Path(__file__).parents[1] / "bundled" / "imagenet_classes" / "imagenet_classes.txt"


@functools.cache
def imagenet_class_names() -> tuple[str, ...]:
    """A name for each class of ILSVRC-2012, by label: sorted by WordNet identifier.

    It is the first that WordNet gives; where classes share it, with the second in parentheses:
    `crane (wading bird)`. All are unique.
    """
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    classes = [line.split("\t")[1].split(", ") for line in lines]
    count = collections.Counter(names[0] for names in classes)
    return tuple(
        f"{names[0]} ({names[1]})" if count[names[0]] > 1 else names[0] for names in classes
    )
