"""The encoder: learned latents cross-attend to the inputs, then self-attend."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import haiku as hk
from jaxtyping import Array, Bool, Float, Int, PyTree

from perceiver_io.models import sequence
from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.rematerialisation import rematerialised
from perceiver_io.models.settings import AttentionForm, EncoderSettings, LatentStackSettings
from perceiver_io.models.transformer import SelfAttend
from perceiver_io.models.weights import POSITION_INIT


@runtime_checkable
class InputAdapter(Protocol):
    """Maps a raw modality to tokens."""

    def __call__(
        self, inputs: PyTree[Array], mask: Bool[Array, "#B M"] | None, is_training: bool
    ) -> Tokens:
        """The tokens of `inputs`; `mask` is over tokens, False for those to ignore."""


@runtime_checkable
class Encoder(Protocol):
    """Maps tokens to latents."""

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens."""

    def attention_maps(
        self, tokens: Tokens, latents: Int[Array, " n"]
    ) -> list[Float[Array, "B H n M"]]:
        """The attention of the given latents to each token, for each cross-attend."""


class Encoded(NamedTuple):
    """What decoding needs: the latents, and the tokens, which some queries are made from."""

    latents: Float[Array, "B N D"]
    tokens: Tokens


@dataclass(frozen=True)
class EncodingModel:
    """The part that both Perceivers share: `inputs` makes tokens, `encoder` makes latents."""

    inputs: InputAdapter
    encoder: Encoder

    def encode(
        self,
        inputs: PyTree[Array],
        *,
        input_mask: Bool[Array, "#B M"] | None = None,
        is_training: bool,
    ) -> Encoded:
        """The latents of `inputs`, computed once for any number of calls to `decode`."""
        tokens = self.inputs(inputs, input_mask, is_training)
        return Encoded(self.encoder(sequence.split_inputs(tokens), is_training), tokens)


class LatentStack(hk.Module):
    """Self-attention layers, over the latents in a Perceiver, compiled as one scanned layer."""

    def __init__(self, settings: LatentStackSettings, form: AttentionForm, name="latent_stack"):
        super().__init__(name=name)
        self._settings, self._form = settings, form

    def __call__(
        self,
        latents: Float[Array, "B N D"],
        is_training: bool,
        key_mask: Bool[Array, "#B N"] | None = None,
    ) -> Array:
        """The latents after all layers; nothing attends to those whose `key_mask` is False."""

        def layer(x):
            attend = SelfAttend(self._settings, self._form)
            return attend(x, key_mask=key_mask, is_training=is_training)

        layer = rematerialised(layer, self._settings.remat, is_scanned=True)
        return hk.experimental.layer_stack(self._settings.num_layers)(layer)(latents)


class SingleReadEncoder(hk.Module):
    """One cross-attend from learned latents to inputs, then the latent stack (Perceiver IO)."""

    def __init__(self, settings: EncoderSettings, form: AttentionForm = AttentionForm()):
        super().__init__(name="encoder")
        self._settings, self._form = settings, form

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens, computing in the dtype of the latents."""
        settings = self._settings
        latents = learned_latents(settings.num_latents, settings.latent_dim)
        tokens = tokens.astype(latents.dtype)
        read = CrossAttend(settings.cross_attend, self._form)
        x = read(Tokens(latents), tokens, is_training=is_training)
        stack = LatentStack(settings.latent_stack, self._form)
        if settings.num_blocks == 1:
            return stack(x, is_training)
        # A scan compiles the stack once, however many blocks there are.
        return hk.scan(lambda x, _: (stack(x, is_training), None), x, None, settings.num_blocks)[0]

    @hk.name_like("__call__")
    def attention_maps(self, tokens: Tokens, latents: Int[Array, " n"]) -> list[Array]:
        """As `Encoder.attention_maps`; the list holds the map of the single cross-attend."""
        queries = learned_latents(self._settings.num_latents, self._settings.latent_dim)
        read = CrossAttend(self._settings.cross_attend, self._form)
        return [read.attention_map(Tokens(queries[:, latents]), tokens.astype(queries.dtype))]


def learned_latents(num_latents: int, latent_dim: int) -> Float[Array, "1 N D"]:
    """The initial latents, the same for every example."""
    return hk.get_parameter("latents", [num_latents, latent_dim], init=POSITION_INIT)[None]
