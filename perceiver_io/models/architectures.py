"""Architectures: builds a model, as pure functions, from a config section.

`build` turns the builder chosen by `config.model.name` into an `Architecture`; the table at the end
lists all builders, which are in `builders/`.
"""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import haiku as hk
import jax
from jax.typing import DTypeLike
from jaxtyping import PRNGKeyArray, PyTree

from perceiver_io.config.annotations import INPUT_SIZE, UNSEEN
from perceiver_io.config.construct import check as check_section
from perceiver_io.config.construct import construct, defaults, lookup, marked
from perceiver_io.models.builders import autoencoder, classifiers, commands, flow, tagging, texts
from perceiver_io.models.builders.blueprint import Blueprint
from perceiver_io.models.perceiver.encoder import EncodingModel
from perceiver_io.models.perceiver.maps import decoder_map, encoder_maps
from perceiver_io.models.perceiver.perceiver import PerceiverIO
from perceiver_io.models.precision import DTYPES, Precision
from perceiver_io.roles import Role, TaggedInit

Section = Mapping[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Architecture:
    """Pure functions that share parameters, and a description of the inputs and weights.

    init(rng, **inputs) -> params, state. The others take (params, state, rng, ...) first and
    return (result, new state); their keyword arguments are those of the model's methods of the same
    names. `encoder_maps` and `decoder_map` are None for a model without such attention.

    Attributes:
        input_spec: shapes and dtypes of one example's inputs, [1, ...], by the keyword arguments of
            `init` and `apply`.
        sizes: by path, the settings that determine `input_spec`.
        unseen: by path, the settings that change the result, but not the shape of any parameter.
        tagged: () -> by name, MODULE/NAME, the tags of parameters other than plain weights.
    """

    init: Callable
    apply: Callable
    encode: Callable
    decode: Callable
    encoder_maps: Callable | None = None
    decoder_map: Callable | None = None
    input_spec: Mapping[str, PyTree[jax.ShapeDtypeStruct]] = dataclasses.field(default_factory=dict)
    sizes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unseen: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    tagged: Callable[[], Mapping[str, TaggedInit]] = dict

    def shapes(self) -> tuple[PyTree, PyTree]:
        """Shapes and dtypes of the parameters and of the state."""
        return jax.eval_shape(self.init, jax.random.key(0), **self.input_spec)

    def position_tables(self) -> dict[str, tuple[int, ...]]:
        """The grids of learned positions, by parameter name."""
        return {name: tag.grid for name, tag in self.tagged().items() if tag.grid is not None}

    def roles(self) -> dict[str, Role]:
        """The roles of parameters other than plain weights, by name."""
        return {name: tag.role for name, tag in self.tagged().items()}


def build(config: Section) -> Architecture:
    """The model of `config.model`: `name` chooses the builder, the rest are its arguments.

    Every model also has the setting `compute_dtype`, float32 by default: see `Precision`. Raises
    UserError for invalid settings.
    """
    builder, settings, dtype = _parsed(config)
    precision = Precision(dtype)

    def blueprint() -> Blueprint:
        return construct(builder, settings, _WHERE)

    def transformed():
        model, _, _, features = blueprint()
        methods = {name: getattr(model, name) for name in METHODS if hasattr(model, name)}
        if isinstance(model, EncodingModel):
            methods["encoder_maps"] = functools.partial(encoder_maps, model)
        if isinstance(model, PerceiverIO):
            methods["decoder_map"] = functools.partial(decoder_map, model)
        functions = {name: precision.around(method, features) for name, method in methods.items()}
        return functions["__call__"], functions

    # Haiku modules can only be created inside a transform.
    _, spec, start, _ = hk.transform(blueprint).apply({}, None)
    drawn, functions = hk.multi_transform_with_state(transformed)

    def init(rng: PRNGKeyArray, **inputs: PyTree) -> tuple[hk.Params, hk.State]:
        params, state = drawn(rng, **inputs, is_training=True)
        return start(params), state

    return Architecture(
        init=init,
        apply=functions["__call__"],
        encode=functions["encode"],
        decode=functions["decode"],
        encoder_maps=functions.get("encoder_maps"),
        decoder_map=functions.get("decoder_map"),
        input_spec={"inputs": spec},
        sizes=marked(builder, settings, INPUT_SIZE, _WHERE),
        unseen=marked(builder, settings, UNSEEN, _WHERE),
        tagged=lambda: _tagged(blueprint, spec),
    )


def check(config: Section) -> None:
    """Raises UserError for invalid settings in `config.model`."""
    builder, settings, _ = _parsed(config)
    check_section(builder, settings, _WHERE)


def missing_settings(config: Section) -> dict[str, Any]:
    """The defaults of the settings that `config.model` omits. Raises UserError for a wrong name."""
    missing = defaults(lookup(ARCHITECTURES, config, _WHERE), config, _WHERE)
    return missing if "compute_dtype" in config else missing | {"compute_dtype": "float32"}


def in_textbook_form(config: Section) -> Section:
    """The section with textbook attention, whose FLOPs are the ones that papers report."""
    if "attention" not in inspect.signature(lookup(ARCHITECTURES, config, _WHERE)).parameters:
        return config
    return dict(config, attention=dict(implementation="textbook"))


def _parsed(config: Section) -> tuple[Callable[..., Blueprint], dict[str, Any], DTypeLike]:
    """The builder, its arguments, and the compute dtype."""
    builder = lookup(ARCHITECTURES, config, _WHERE)
    settings = dict(config)
    name = settings.pop("compute_dtype", "float32")
    return builder, settings, lookup(DTYPES, {"name": name}, f"{_WHERE}.compute_dtype")


def _tagged(
    blueprint: Callable[[], Blueprint], spec: PyTree[jax.ShapeDtypeStruct]
) -> dict[str, TaggedInit]:
    """The tags of parameters by name, recorded while the model is traced."""
    found = {}

    def note(next_creator, shape, dtype, init, context):
        if isinstance(init, TaggedInit):
            # `layer_stack` lifts the parameters of its layer and prefixes their names.
            found[(context.lifted_prefix_name or "") + context.full_name] = init
        return next_creator(shape, dtype, init)

    def forward(inputs):
        with hk.custom_creator(note):
            model, _, _, features = blueprint()
            model(features(inputs), is_training=True)

    jax.eval_shape(hk.transform_with_state(forward).init, jax.random.key(0), spec)
    return found


_WHERE = "config.model"
METHODS = ("__call__", "encode", "decode")

ARCHITECTURES = {
    "perceiver_io_classifier": classifiers.perceiver_io_classifier,
    "perceiver_classifier": classifiers.perceiver_classifier,
    "perceiver_io_masked_lm": texts.perceiver_io_masked_lm,
    "bert_masked_lm": texts.bert_masked_lm,
    "perceiver_io_text_classifier": texts.perceiver_io_text_classifier,
    "perceiver_io_sentence_classifier": texts.perceiver_io_sentence_classifier,
    "perceiver_io_multitask": texts.perceiver_io_multitask,
    "perceiver_io_tagger": texts.perceiver_io_tagger,
    "perceiver_io_flow": flow.perceiver_io_flow,
    "perceiver_io_flow_separate": flow.perceiver_io_flow_separate,
    "perceiver_io_flow_conv": flow.perceiver_io_flow_conv,
    "perceiver_io_flow_matched": flow.perceiver_io_flow_matched,
    "perceiver_io_autoencoder": autoencoder.perceiver_io_autoencoder,
    "perceiver_io_clip_tagger": tagging.perceiver_io_clip_tagger,
    "perceiver_clip_tagger": tagging.perceiver_clip_tagger,
    "convnet_classifier": classifiers.convnet_classifier,
    "resnet_classifier": classifiers.resnet_classifier,
    "vit_classifier": classifiers.vit_classifier,
    "transformer_classifier": classifiers.transformer_classifier,
    "coatnet_classifier": classifiers.coatnet_classifier,
    "perceiver_io_commander": commands.perceiver_io_commander,
    "transformer_commander": commands.transformer_commander,
}
