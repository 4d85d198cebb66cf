"""Initial weights of a text model with which attention begins local."""

import haiku as hk
import jax.numpy as jnp
from jaxtyping import Array, Float

from perceiver_io.models.perceiver.positions import FourierPositions

# Standard deviation of the initial latents; each layer adds numbers of about unit variance.
_SIZE = 4.0


def local_start(params: hk.Params) -> hk.Params:
    """Initial weights changed so that latents and queries attend to their own part of a text.

    Nothing but learned positions tells a Perceiver which latent read which token. With the papers'
    random positions, a small model first has to learn that, which can take more steps than all that
    follows. Here, the positions of tokens, queries and latents start as the same Fourier features,
    whose highest frequency is what the latents resolve, so that they are similar where places are;
    and each cross-attend starts with one projection for queries and keys, which keeps similarity.
    Latents start larger than what all layers add to them, so that their place is not lost. All of
    it is trained like any initial weights. This is not in the papers.

    Args:
        params: those of a model with `positions`, and with `query_positions` if it decodes places.
    """
    changed = {name: dict(module) for name, module in params.items()}
    latents = params["encoder"]["latents"]
    width = min(params["positions"]["embeddings"].shape[1], latents.shape[1])
    waves = FourierPositions(width // 2, (len(latents),), concatenate_coordinates=False)

    def of_unit_variance(num_places: int) -> Float[Array, "M P"]:
        return jnp.sqrt(2) * waves.grid((num_places,))[0]

    changed["encoder"]["latents"] = _replaced(latents, _SIZE * of_unit_variance(len(latents)))
    reading = {"positions": "encoder/cross_attend", "query_positions": "decoder/cross_attend"}
    for positions, cross_attend in reading.items():
        if positions not in params:
            continue
        table = params[positions]["embeddings"]
        start = table.std() * of_unit_variance(len(table))
        changed[positions]["embeddings"] = _replaced(table, start)
        query, key = (f"{cross_attend}/attention/{name}" for name in ("query", "key"))
        narrow, wide = sorted((query, key), key=lambda name: len(params[name]["w"]))
        changed[wide]["w"] = _replaced(params[wide]["w"], params[narrow]["w"])
    return changed


def _replaced(x: Float[Array, "I J"], block: Float[Array, "i j"]) -> Float[Array, "I J"]:
    """A matrix with its first rows and columns replaced."""
    return x.at[: block.shape[0], : block.shape[1]].set(block)
