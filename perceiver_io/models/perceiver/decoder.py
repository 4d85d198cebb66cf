"""The decoder: queries cross-attend to the latents."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import haiku as hk
from jaxtyping import Array, Float, PRNGKeyArray

from perceiver_io.models import fast
from perceiver_io.models.layers import linear
from perceiver_io.models.perceiver.cross_attend import CrossAttend, cross_attend
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, DecoderSettings
from perceiver_io.models.weights import CrossAttend as CrossAttendWeights
from perceiver_io.models.weights import Linear


@runtime_checkable
class OutputAdapter(Protocol):
    """Maps decoded vectors to an output: linear layers at each position, then all that is not."""

    def layers(self, width: int) -> Sequence[Linear]:
        """The layers, for inputs of this width; as weights, so that they can be fused."""

    def arrange(self, x: Float[Array, "B O E"]) -> Array:
        """Brings the results into their final shape."""


def decode(
    weights: CrossAttendWeights,
    outputs: Sequence[Linear],
    queries: Tokens,
    latents: Float[Array, "#B N D"],
    settings: DecoderSettings,
    *,
    rng: PRNGKeyArray | None = None,
    form: AttentionForm = AttentionForm(),
) -> Float[Array, "B O E"]:
    """Cross-attention from queries to latents, then the linear `outputs` (Perceiver IO, 3.1)."""
    if form.implementation != "textbook":
        return fast.decode(weights, outputs, queries, latents, settings, rng=rng, form=form)
    block = settings.cross_attend
    x = cross_attend(weights, queries, Tokens(latents), block, rng=rng, form=form)
    for output in outputs:
        x = linear(output, x)
    return x


class Decoder(hk.Module):
    """The decoder with its parameters; see `decode`."""

    def __init__(
        self, settings: DecoderSettings, form: AttentionForm = AttentionForm(), name="decoder"
    ):
        super().__init__(name=name)
        self._settings, self._form = settings, form

    def __call__(
        self,
        queries: Tokens,
        latents: Float[Array, "B N D"],
        output: OutputAdapter,
        is_training: bool,
    ) -> Float[Array, "B O E"]:
        """Decodes `queries` in the dtype of the latents; applies `output.layers`, not `arrange`."""
        queries = queries.astype(latents.dtype)
        block = CrossAttend(self._settings.cross_attend)
        weights = block.weights(queries.width, latents.shape[-1])
        rng = block.next_rng_key(is_training)
        return decode(
            weights, output.layers(queries.width), queries, latents, self._settings, rng=rng,
            form=self._form,
        )  # fmt: skip

    @hk.name_like("__call__")
    def attention_map(
        self, queries: Tokens, latents: Float[Array, "B N D"]
    ) -> Float[Array, "B H O N"]:
        """The attention of each query to each latent."""
        block = CrossAttend(self._settings.cross_attend)
        return block.attention_map(queries.astype(latents.dtype), Tokens(latents))
