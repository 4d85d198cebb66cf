"""Names of the 1000 ImageNet classes; see bundled/imagenet_classes/ORIGIN.md."""

import collections
import functools
import pathlib

_LIST = pathlib.Path(__file__).parents[1] / "bundled" / "imagenet_classes" / "imagenet_classes.txt"


@functools.cache
def imagenet_class_names() -> tuple[str, ...]:
    """The name of each class of ILSVRC-2012, by label, which is the order of WordNet identifiers.

    It is the first of WordNet's names; where several classes share it, the second follows in
    parentheses: `crane (wading bird)`. All names are unique.
    """
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    classes = [line.split("\t")[1].split(", ") for line in lines]
    count = collections.Counter(names[0] for names in classes)
    return tuple(
        f"{names[0]} ({names[1]})" if count[names[0]] > 1 else names[0] for names in classes
    )
