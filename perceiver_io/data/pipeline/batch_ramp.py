"""Batches that grow in the course of training."""

from typing import NamedTuple


class BatchRamp(NamedTuple):
    """How batches grow: from one microbatch to a full batch, by a microbatch at a time.

    The size increases linearly over the first steps (Geiping and Goldstein 2022, arXiv:2212.14034,
    who measure in time instead), rounded down to whole microbatches: on average, the batches of
    these steps are half as large as a full one.

    Attributes:
        microbatches: number of microbatches in a full batch.
        steps: number of steps before the first full batch.
    """

    microbatches: int
    steps: int

    def num_microbatches(self, step: int) -> int:
        """The number of microbatches in the batch of a step, counted from 0."""
        if step >= self.steps:
            return self.microbatches
        return 1 + (self.microbatches - 1) * step // self.steps

    def batch_size(self, full: int, step: int) -> int:
        """The number of examples in the batch of a step, given that of a full batch."""
        return full // self.microbatches * self.num_microbatches(step)


ALWAYS_FULL = BatchRamp(microbatches=1, steps=0)
