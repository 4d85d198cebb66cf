"""The encoder: learned latents read the inputs and process what they read."""

from typing import Protocol, runtime_checkable

import haiku as hk
import jax
from jaxtyping import Array, Float, Int

from perceiver_io.models import fast
from perceiver_io.models.perceiver.cross_attend import CrossAttend
from perceiver_io.models.perceiver.tokens import Tokens
from perceiver_io.models.settings import (
    AttentionForm,
    EncoderSettings,
    InterleavedEncoderSettings,
    LatentStackSettings,
)
from perceiver_io.models.transformer import SelfAttend
from perceiver_io.models.weights import EMBEDDING_INIT

_REMAT_POLICIES = {
    "products": jax.checkpoint_policies.save_from_both_policies(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(fast.ATTENDED),
    ),
    "all": jax.checkpoint_policies.save_only_these_names(fast.ATTENDED),
}


@runtime_checkable
class Encoder(Protocol):
    """From tokens to latents."""

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens."""

    def attention_maps(
        self, tokens: Tokens, latents: Int[Array, " n"]
    ) -> list[Float[Array, "B H n M"]]:
        """How much some latents attend to each token, in each cross-attend."""


class LatentStack(hk.Module):
    """Self-attention layers over the latents, compiled as one scanned layer."""

    def __init__(
        self,
        settings: LatentStackSettings,
        form: AttentionForm = AttentionForm(),
        name: str = "latent_stack",
    ):
        super().__init__(name=name)
        self._settings, self._form = settings, form

    def __call__(self, latents: Float[Array, "B N D"], is_training: bool) -> Array:
        """The latents after all layers."""

        def layer(x):
            return SelfAttend(self._settings, self._form)(x, is_training=is_training)

        if self._settings.remat != "none":
            layer = hk.remat(layer, policy=_REMAT_POLICIES[self._settings.remat])
        return hk.experimental.layer_stack(self._settings.num_layers)(layer)(latents)


class SingleReadEncoder(hk.Module):
    """Learned latents read the inputs once, then pass through the latent stack (Perceiver IO)."""

    def __init__(
        self,
        settings: EncoderSettings,
        form: AttentionForm = AttentionForm(),
        name: str = "encoder",
    ):
        super().__init__(name=name)
        self._settings, self._form = settings, form

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens, in the precision of the latents."""
        latents = learned_latents(self._settings)
        tokens = tokens.astype(latents.features.dtype)
        x = CrossAttend(self._settings.cross_attend, self._form)(
            latents, tokens, is_training=is_training
        )
        stack = LatentStack(self._settings.latent_stack, self._form)
        if self._settings.num_blocks == 1:
            return stack(x, is_training)
        # A scan over the blocks compiles the stack once, however many blocks there are.
        return hk.scan(
            lambda x, _: (stack(x, is_training), None), x, None, self._settings.num_blocks
        )[0]

    @hk.name_like("__call__")
    def attention_maps(
        self, tokens: Tokens, latents: Int[Array, " n"]
    ) -> list[Float[Array, "B H n M"]]:
        """As `Encoder.attention_maps`: of the one cross-attend."""
        queries = learned_latents(self._settings)
        tokens = tokens.astype(queries.features.dtype)
        chosen = Tokens(queries.features[:, latents])
        return [CrossAttend(self._settings.cross_attend).attention_map(chosen, tokens)]


class InterleavedEncoder(hk.Module):
    """Cross-attends and latent stacks in turn, with weights shared at will (Perceiver, 3.1)."""

    def __init__(
        self,
        settings: InterleavedEncoderSettings,
        form: AttentionForm = AttentionForm(),
        name: str = "encoder",
    ):
        super().__init__(name=name)
        self._settings, self._form = settings, form
        self._stages = tuple(zip(settings.cross_attends, settings.stacks, strict=True))

    def __call__(self, tokens: Tokens, is_training: bool) -> Float[Array, "B N D"]:
        """Encodes the tokens, in the precision of the latents."""
        return self._run(tokens, is_training, None)[0]

    @hk.name_like("__call__")
    def attention_maps(
        self, tokens: Tokens, latents: Int[Array, " n"]
    ) -> list[Float[Array, "B H n M"]]:
        """As `Encoder.attention_maps`: of the cross-attends in the order in which they read."""
        return self._run(tokens, False, latents)[1]

    @hk.name_like("__call__")
    def _run(
        self, tokens: Tokens, is_training: bool, shown: Int[Array, " n"] | None
    ) -> tuple[Array, list[Array]]:
        """The latents, and the maps of those that are to be shown."""
        latents = learned_latents(self._settings)
        tokens = tokens.astype(latents.features.dtype)
        blocks, stacks = self._parts()
        x, maps = latents.features, []
        for block, stack in self._stages:
            if block is not None:
                if shown is not None:
                    maps.append(blocks[block].attention_map(Tokens(x[:, shown]), tokens))
                x = blocks[block](Tokens(x), tokens, is_training=is_training)
            x = stacks[stack](x, is_training)
        return x, maps

    @hk.name_like("__call__")
    def _parts(self) -> tuple[dict[int, CrossAttend], dict[int, LatentStack]]:
        """The cross-attends and the stacks by number."""
        blocks = sorted({number for number, _ in self._stages if number is not None})
        stacks = sorted({number for _, number in self._stages})
        return (
            {number: CrossAttend(self._settings.cross_attend, self._form) for number in blocks},
            {number: LatentStack(self._settings.latent_stack, self._form) for number in stacks},
        )


def learned_latents(settings: EncoderSettings | InterleavedEncoderSettings) -> Tokens:
    """The latents [1, N, D] before they have read anything, the same for every example."""
    shape = (settings.num_latents, settings.latent_dim)
    return Tokens(hk.get_parameter("latents", shape, init=EMBEDDING_INIT)[None])
