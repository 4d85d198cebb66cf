"""Initial weights of a model of several modalities with which attention is local at first.

Nothing but learned weights tells a Perceiver which latent reads which part of its inputs, and which
latents a query finds a place in. With random weights, each latent starts as the mean of everything,
and a small model stays near it for long. Here, each head of a latent starts by reading a window of
its own, and a query by reading the windows around it. This is not in the papers.

A logit of attention is a product of two vectors: of a token's position, through one projection, and
of a latent, through the other. Fourier features hold any function of a coordinate that their
frequencies resolve, so that a least squares fit finds projections for which the logits of a window
are a Gaussian's exponent, the sum of a parabola in each coordinate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Float, Int

from perceiver_io.config.annotations import Count
from perceiver_io.errors import UserError
from perceiver_io.models.layers import standardised
from perceiver_io.models.perceiver.positions import FourierPositions, subsampled_coordinates

# Standard deviations of a window's Gaussian, and of a query's, in windows.
_WINDOW_WIDTH, _QUERY_WIDTH = 0.4, 0.5
# The greatest difference between the logits of two places, over all axes.
_DEPTH = 20.0
# Standard deviation of the initial latents; each layer adds numbers of about unit variance.
_LATENT_SIZE = 4.0
# By how much the projection of values is larger than drawn, since latents are, too.
_VALUE_SCALE = 3.0
# Values for which the keys of tokens are fitted, so that they tell places whatever is there.
_LEVELS = (-1.0, 1.0)
# Of the mean square of the features: keeps the weights of the fit small.
_RIDGE = 1e-5


@dataclass(frozen=True)
class Windows:
    """The windows of a modality: a grid of latents, each of whose cells its heads divide.

    latents: the grid of latents, by axis.
    heads: the grid of heads in a cell, by axis; if these are fewer than there are heads, several
        heads have the same window.
    """

    latents: tuple[Count, ...]
    heads: tuple[Count, ...]

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of windows along each axis."""
        return tuple(n * m for n, m in zip(self.latents, self.heads, strict=True))


class Placed(NamedTuple):
    """A modality with windows, and the places of its tokens and queries.

    num_values: channels of a token before those of its position.
    tokens, queries: the grids of both.
    """

    windows: Windows
    positions: FourierPositions
    num_values: int
    tokens: tuple[int, ...]
    queries: tuple[int, ...]


def window_start(
    params: hk.Params, modalities: Sequence[Placed], num_heads: tuple[int, int]
) -> hk.Params:
    """Initial weights changed so that latents and queries attend to windows.

    The first latents are those of the first modality, and so on; latents that are left read
    everything.

    Args:
        params: of a Perceiver IO model that reads `ModalityTokens`.
        modalities: those with windows, in the order of the tokens.
        num_heads: of the encoder's and of the decoder's cross-attend.

    Raises UserError if the windows do not suit the axes, the latents or the heads.
    """
    drawn = params["encoder"]["latents"]
    _check(modalities, len(drawn), num_heads)
    latents = _LATENT_SIZE / drawn.std() * drawn
    changed = {name: dict(module) for name, module in params.items()}
    changed["encoder"]["latents"] = latents
    sides = {"encoder": ("key", "query", _reading), "decoder": ("query", "key", _querying)}
    for part, (of_places, of_latents, attention_of) in sides.items():
        at_places, at_latents = (
            changed[f"{part}/cross_attend/attention/{name}"] for name in (of_places, of_latents)
        )
        projection, vectors = attention_of(modalities, num_heads[0], at_places["w"].shape)
        # Latents without windows get no vector: all their logits are equal.
        wanted = np.pad(vectors, ((0, len(latents) - len(vectors)), (0, 0)))
        at_places["w"] = jnp.where(projection.any(0), projection, at_places["w"])
        at_latents["w"] = jnp.linalg.pinv(standardised(latents)) @ wanted
    values = changed["encoder/cross_attend/attention/value"]
    num_values = max(modality.num_values for modality in modalities)
    values["w"] = (_VALUE_SCALE * values["w"]).at[num_values:].set(0)
    return changed


def _reading(
    modalities: Sequence[Placed], num_heads: int, shape: tuple[int, int]
) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "L D"]]:
    """The projection of tokens, and what it should be multiplied with for each latent's windows."""
    features, logits = [], []
    for modality in modalities:
        with jax.ensure_compile_time_eval():
            positions = np.asarray(modality.positions.grid(modality.tokens)[0])
        values = np.repeat(_LEVELS, len(positions))[:, None]
        tokens = [np.tile(values, modality.num_values), np.tile(positions, (len(_LEVELS), 1))]
        features.append(_as_normalised(np.hstack(tokens), shape[0]))
        wanted = _logits(modality.windows, modality.tokens, num_heads, _WINDOW_WIDTH)
        logits.append(np.tile(wanted, (len(_LEVELS), 1, 1)))
    return _factors(features, logits, shape)


def _querying(
    modalities: Sequence[Placed], num_heads: int, shape: tuple[int, int]
) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "L D"]]:
    """As `_reading`, for queries at the points of each modality."""
    features, logits = [], []
    for modality in modalities:
        with jax.ensure_compile_time_eval():
            points = jnp.arange(math.prod(modality.queries))[None]
            coordinates = subsampled_coordinates(points, modality.queries)
            positions = np.asarray(modality.positions.at(coordinates)[0])
        features.append(_as_normalised(positions, shape[0]))
        logits.append(_logits(modality.windows, modality.queries, num_heads, _QUERY_WIDTH))
    return _factors(features, logits, shape)


def _as_normalised(x: Float[np.ndarray, "M c"], width: int) -> Float[np.ndarray, "M C"]:
    """Padded with zeros to the common width, as after layer normalisation."""
    padded = np.pad(x, ((0, 0), (0, width - x.shape[1])))
    with jax.ensure_compile_time_eval():
        return np.asarray(standardised(jnp.asarray(padded)))


def _logits(
    windows: Windows, places: tuple[int, ...], num_heads: int, width: float
) -> Float[np.ndarray, "M L H"]:
    """The wanted logits of each place of a grid in the window of each latent and head.

    Their mean is 0, which the logits of other modalities' places are meant to be.
    """
    inside = np.repeat(_indices(windows.heads), num_heads // math.prod(windows.heads), axis=0)
    centres = _indices(windows.latents)[:, None] * np.array(windows.heads) + inside
    at = (_indices(places) + 0.5) / np.array(places) * np.array(windows.grid) - 0.5
    divided = np.array(windows.grid) > 1
    exponents = -np.square(at[:, None, None] - centres)[..., divided] / (2 * width**2)
    logits = np.maximum(exponents, -_DEPTH / max(divided.sum(), 1)).sum(-1)
    return logits - logits.mean()


def _factors(
    features: list[Float[np.ndarray, "_ C"]],
    logits: list[Float[np.ndarray, "_ _ H"]],
    shape: tuple[int, int],
) -> tuple[Float[np.ndarray, "C D"], Float[np.ndarray, "L D"]]:
    """A projection and vectors whose products are the logits, as nearly as they can be.

    Channels of a head that this does not need are 0 in both.

    Args:
        features: of the places of each modality.
        logits: of these in the modality's windows.
        shape: of the projection of all heads.
    """
    num_heads = logits[0].shape[-1]
    x = np.vstack(features)
    y = scipy.linalg.block_diag(*(rows.reshape(len(rows), -1) for rows in logits))
    # Each modality counts the same, however many places it has.
    weights = np.concatenate([np.full((len(rows), 1), len(rows) ** -0.5) for rows in features])
    solved = _least_squares(weights * x, weights * y)
    solved = solved.reshape(len(solved), -1, num_heads)
    head_dim = shape[1] // num_heads
    projection = np.zeros((shape[0], num_heads, head_dim))
    vectors = np.zeros((solved.shape[1], num_heads, head_dim))
    for head in range(num_heads):
        left, sizes, right = np.linalg.svd(solved[..., head], full_matrices=False)
        rank = min(head_dim, len(sizes))
        left, right = left[:, :rank], right[:rank].T
        # Such that keys, or queries, have about unit variance.
        balance = (x @ left).std()
        projection[:, head, :rank] = left / balance
        vectors[:, head, :rank] = right * sizes[:rank] * balance * math.sqrt(head_dim)
    return projection.reshape(shape), vectors.reshape(len(vectors), -1)


def _least_squares(
    x: Float[np.ndarray, "M C"], y: Float[np.ndarray, "M S"]
) -> Float[np.ndarray, "C S"]:
    """The small weights for which x weights = y, as nearly as they can be."""
    gram = x.T @ x
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.linalg.solve(gram + ridge, x.T @ y)


def _indices(shape: tuple[int, ...]) -> Int[np.ndarray, "M A"]:
    """The indices of all cells of a grid."""
    return np.indices(shape).reshape(len(shape), -1).T


def _check(modalities: Sequence[Placed], num_latents: int, num_heads: tuple[int, int]) -> None:
    encoder, decoder = num_heads
    if encoder != decoder:
        raise UserError(
            f"Windows need as many heads in the decoder's cross-attend as in the encoder's: there "
            f"are {decoder} and {encoder}."
        )
    for windows, _, _, tokens, _ in modalities:
        if not len(windows.latents) == len(windows.heads) == len(tokens):
            raise UserError(
                f"The windows {windows} need one number for each of the {len(tokens)} axes of "
                f"{tokens} tokens, for latents and for heads."
            )
        if encoder % math.prod(windows.heads):
            raise UserError(
                f"A grid of {windows.heads} windows cannot be shared out evenly among {encoder} "
                "heads: use a grid whose product divides that."
            )
    needed = sum(math.prod(modality.windows.latents) for modality in modalities)
    if needed > num_latents:
        raise UserError(
            f"The windows need {needed} latents, but there are {num_latents}: use smaller grids of "
            "latents, or more latents."
        )
