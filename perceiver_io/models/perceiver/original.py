"""The original Perceiver (2103.03206): several cross-attends, and a head in place of a decoder."""

from dataclasses import dataclass
from typing import Annotated, Protocol, runtime_checkable

import haiku as hk
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.config.annotations import UNSEEN, Natural, Width
from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.encoder import (
    Encoded,
    EncodingModel,
    LatentStack,
    learned_latents,
)
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import AttentionForm, CrossAttendSettings, LatentStackSettings


@dataclass(frozen=True)
class InterleavedEncoderSettings:
    """The encoder of the original Perceiver.

    num_latents, latent_dim: N and D.
    cross_attends: for each stage, the index of the cross-attend that it begins with, or None for
        none. Stages with the same index share weights.
    stacks: for each stage, the index of the latent stack that follows, or None for none; likewise.
    latent_stack: settings of every latent stack.
    cross_attend: settings of every cross-attend.
    """

    num_latents: Width
    latent_dim: Width
    cross_attends: Annotated[tuple[Natural | None, ...], UNSEEN]
    stacks: Annotated[tuple[Natural | None, ...], UNSEEN]
    latent_stack: LatentStackSettings
    cross_attend: CrossAttendSettings = CrossAttendSettings()


class InterleavedEncoder(hk.Module):
    """Alternating cross-attends and latent stacks, with optional weight sharing (section 3.1)."""

    def __init__(self, settings: InterleavedEncoderSettings, form: AttentionForm = AttentionForm()):
        super().__init__(name="encoder")
        self._settings, self._form = settings, form
        self._stages = tuple(zip(settings.cross_attends, settings.stacks, strict=True))

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens, computing in the dtype of the latents."""
        return self._run(tokens, is_training, None)[0]

    @hk.name_like("__call__")
    def attention_maps(
        self, tokens: Tokens, latents: Int[Array, " n"]
    ) -> list[Float[Array, "B H n M"]]:
        """As `Encoder.attention_maps`; cross-attends are in the order in which they are applied."""
        return self._run(tokens, False, latents)[1]

    @hk.name_like("__call__")
    def _run(
        self, tokens: Tokens, is_training: bool, shown: Int[Array, " n"] | None
    ) -> tuple[Array, list[Array]]:
        """The latents, and the attention maps of the latents `shown`."""
        settings = self._settings
        x, maps = learned_latents(settings.num_latents, settings.latent_dim), []
        tokens = tokens.astype(x.dtype)
        reads = {
            n: CrossAttend(settings.cross_attend, self._form)
            for n in _distinct(settings.cross_attends)
        }
        stacks = {
            n: LatentStack(settings.latent_stack, self._form) for n in _distinct(settings.stacks)
        }
        for read, stack in self._stages:
            if read is not None and shown is not None:
                maps.append(reads[read].attention_map(Tokens(x[:, shown]), tokens))
            if read is not None:
                x = reads[read](Tokens(x), tokens, is_training=is_training)
            if stack is not None:
                x = stacks[stack](x, is_training)
        return x, maps


def _distinct(numbers: tuple[int | None, ...]) -> list[int]:
    return sorted({number for number in numbers if number is not None})


@runtime_checkable
class Head(Protocol):
    """Maps latents to an output, without queries."""

    def __call__(self, latents: Float[Array, "B N D"]) -> Array:
        """The output for these latents."""


@dataclass(frozen=True)
class Perceiver(EncodingModel):
    """The model: tokens are encoded into latents, to which a head is applied."""

    head: Head

    def __call__(
        self,
        inputs: PyTree[Array],
        *,
        input_mask: Bool[Array, "#B M"] | None = None,
        is_training: bool,
    ) -> Array:
        """The outputs for `inputs`; arguments are as in `PerceiverIO`."""
        encoded = self.encode(inputs, input_mask=input_mask, is_training=is_training)
        return self.decode(encoded, is_training=is_training)

    def decode(self, encoded: Encoded, *, is_training: bool) -> Array:
        """The head applied to the latents."""
        del is_training
        return self.head(encoded.latents)
