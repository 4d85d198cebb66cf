"""What a builder returns, and what the builders of Perceiver IO have in common."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import haiku as hk
import jax
from jaxtyping import Array, PyTree

from perceiver_io.models.baselines import ResNet, TokenTransformer, ViT
from perceiver_io.models.bert import BERT
from perceiver_io.models.coatnet.coatnet import CoAtNet
from perceiver_io.models.convnet import ConvNet
from perceiver_io.models.perceiver.decoder import Decoder, OutputAdapter
from perceiver_io.models.perceiver.encoder import SingleReadEncoder
from perceiver_io.models.perceiver.inputs import Inputs, as_given
from perceiver_io.models.perceiver.local_start import local_start
from perceiver_io.models.perceiver.original import Perceiver
from perceiver_io.models.perceiver.perceiver import PerceiverIO, QueryModule
from perceiver_io.models.settings import AttentionForm, DecoderSettings, EncoderSettings
from perceiver_io.models.starcraft.commander import Commander


def as_drawn(params: hk.Params) -> hk.Params:
    """Returns the initial parameters as Haiku draws them."""
    return params


class Blueprint(NamedTuple):
    """What a builder returns: a model, the shapes and dtypes of one example, and a start.

    `start` changes the initial parameters, which Haiku draws one by one. `features` is as in
    `Inputs`.
    """

    model: (
        PerceiverIO
        | Perceiver
        | ConvNet
        | ResNet
        | ViT
        | TokenTransformer
        | CoAtNet
        | BERT
        | Commander
    )
    spec: PyTree[jax.ShapeDtypeStruct]
    start: Callable[[hk.Params], hk.Params] = as_drawn
    features: Callable[[PyTree[Array]], PyTree[Array]] = as_given


# How the weights of a text model start: as in the paper, or with local attention.
Start = Literal["random", "local"]
STARTS = {"random": as_drawn, "local": local_start}


def perceiver_io(
    inputs: Inputs,
    queries: QueryModule,
    outputs: OutputAdapter | dict[str, OutputAdapter],
    core: tuple[EncoderSettings, DecoderSettings, AttentionForm],
    start: Start = "random",
) -> Blueprint:
    """A Perceiver IO model from the parts that differ between models; `core` is common to all."""
    encoder, decoder, form = core
    model = PerceiverIO(
        inputs=inputs.adapter,
        encoder=SingleReadEncoder(encoder, form),
        queries=queries,
        decoder=Decoder(decoder, form),
        outputs=outputs,
    )
    return Blueprint(model, inputs.spec, STARTS[start], inputs.features)
