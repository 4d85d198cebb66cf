"""Class-balanced sampling of examples with several tags."""

from collections import Counter
from collections.abc import Sequence

from perceiver_io.data.pipeline.sources import WeightedExamples
from perceiver_io.data.sound.tagged import Tagged


def balanced(examples: Sequence[Tagged]) -> WeightedExamples:
    """The examples, drawn in training with weights that make rare tags as frequent as others.

    The weight of an example is the sum of 1 / n over its tags, of which the split has n (PANNs,
    1912.10211, and AST, 2104.01778). Examples with several tags keep classes from being exactly
    equally frequent.
    """
    counts = Counter(tag for example in examples for tag in example.tags)
    return WeightedExamples(
        examples, [sum(1 / counts[tag] for tag in example.tags) for example in examples]
    )
