"""Evaluation of autoencoders on all points of each clip, decoded in chunks."""

import dataclasses

from jaxtyping import PyTree

from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.evaluation import BatchEvaluator, Result, Strategy
from perceiver_io.tasks.multimodal_autoencoding.streaming import streamed


@dataclasses.dataclass(frozen=True)
class StreamedEvaluator:
    """Evaluates a split with a model that decodes in chunks.

    Attributes:
        at_once: the evaluator; it would decode all points of its task at once.
        chunk_size: points decoded at a time.
    """

    at_once: BatchEvaluator
    chunk_size: int

    def metric_names(self, model: Architecture) -> list[str]:
        """See `Evaluator`."""
        return self.at_once.metric_names(streamed(model, self.chunk_size))

    def __call__(
        self, model: Architecture, params: PyTree, state: PyTree, strategy: Strategy
    ) -> Result:
        """See `Evaluator`."""
        return self.at_once(streamed(model, self.chunk_size), params, state, strategy)
