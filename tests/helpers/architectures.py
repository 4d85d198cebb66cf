"""A small model of each architecture, and inputs for it."""

import numpy as np

from perceiver_io.config.unit_features import UNIT_FEATURES
from perceiver_io.models.architectures import build
from tests.helpers import experiments, oracles
from tests.helpers.oracles import normal
from tests.helpers.sections import MODALITIES, clip, core


def config_of(preset="fourier", **settings):
    """The shrunk model section of a preset of configs/imagenet.py."""
    config = experiments.shrink(experiments.load("imagenet", preset)).model
    config.num_classes = 5
    with config.unlocked():
        for path, value in settings.items():
            section = config
            *parents, key = path.split("__")
            for parent in parents:
                section = section[parent]
            section[key] = value
    return config


def images(*size, batch=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, *(size or (16, 16)), 3)).astype(np.float32)


FRAMES = np.asarray(normal(2, 2, 8, 12, 3))
IDS = np.random.default_rng(0).integers(0, 11, (2, 8)).astype(np.int32)
POINTS = np.random.default_rng(0).uniform(-1, 1, (2, 12, 3)).astype(np.float32)
CORE = core(query_chunk_size=7)
TEXT = dict(CORE, vocab_size=11, max_length=8, embedding_dim=6)
BERT = dict(
    vocab_size=11,
    max_length=8,
    width=6,
    layers=dict(num_layers=2, num_heads=2, widening=4, norm="post"),
)
GRID = dict(num_classes=5, inputs=dict(name="fourier_pixels", image_size=(16, 16), num_bands=3))
LAYERS = dict(num_layers=2, num_heads=2)
TAGGER = dict(
    num_classes=5,
    sound=dict(name="waveform", num_samples=24, samples_per_patch=4, num_bands=2),
    video=dict(shape=(2, 4, 6), patch_size=(1, 2, 3), num_bands=2),
)
# The second example has no sound.
CLIPS = {
    "sound": np.asarray(normal(2, 24, 1)),
    "video": np.asarray(normal(2, 2, 4, 6, 3, seed=1)),
    "present": {"sound": np.array([True, False]), "video": np.array([True, True])},
}
ONE_READ = dict(num_latents=3, latent_dim=8, cross_attends=(0,), stacks=(0,), latent_stack=LAYERS)
COMMANDER = dict(num_actions=4, slots=9, max_selected=3, width=6, key_dim=5)
TWO_FRAMES = dict(CORE, image_size=(8, 12), channels=5, num_bands=2)


def units(batch=2, slots=9, seed=0):
    """Units with random features, of which the last ones are missing and every other is own."""
    rng = np.random.default_rng(seed)
    count = slots - 2 - np.arange(batch) % 2
    mask = np.arange(slots) < count[:, None]
    features = rng.uniform(0, 300, (batch, slots, len(UNIT_FEATURES)))
    return {
        "units": np.where(mask[..., None], features, 0).astype(np.float32),
        "unit_mask": mask,
        "selectable": mask & (np.arange(slots) % 2 == 0),
    }


def small(name):
    """(section, inputs) of a small model of each architecture."""
    sections = dict(
        perceiver_io_classifier=(config_of("conv").to_dict(), images()),
        perceiver_classifier=(config_of("perceiver_4_cross_attends").to_dict(), images()),
        perceiver_io_masked_lm=(TEXT, IDS),
        perceiver_io_text_classifier=(TEXT | dict(num_classes=5), IDS),
        perceiver_io_sentence_classifier=(TEXT | dict(num_classes=5, head_dim=7), IDS),
        perceiver_io_multitask=(
            TEXT | dict(num_tasks=3, num_outputs=2, head_dim=7, told_by="task_token"),
            {"ids": IDS, "task": np.array([2, 0], np.int32)},
        ),
        perceiver_io_tagger=(TEXT | dict(num_classes=5), IDS),
        bert_masked_lm=(BERT, IDS),
        perceiver_io_flow=(TWO_FRAMES | dict(neighbourhood=3), FRAMES),
        perceiver_io_flow_separate=(TWO_FRAMES | dict(neighbourhood=3), FRAMES),
        perceiver_io_flow_conv=(TWO_FRAMES, FRAMES),
        perceiver_io_flow_matched=(TWO_FRAMES | dict(radius=1, num_blocks=1), FRAMES),
        perceiver_io_autoencoder=(CORE | MODALITIES, clip()),
        perceiver_io_clip_tagger=(CORE | TAGGER | dict(query_dim=9), CLIPS),
        perceiver_clip_tagger=(TAGGER | dict(encoder=ONE_READ), CLIPS),
        coatnet_classifier=(
            dict(
                num_classes=5,
                image_size=(16, 16),
                stem=dict(name="convolutions", widths=(4, 4)),
                layout="C-T",
                depths=(2, 2),
                widths=(6, 8),
                blocks=dict(head_size=4),
            ),
            images(),
        ),
        resnet_classifier=(GRID | dict(depths=(1, 1), widths=(8, 12)), images()),
        vit_classifier=(GRID | dict(patch_size=(4, 8), width=6, layers=LAYERS), images()),
        transformer_classifier=(GRID | dict(width=6, layers=LAYERS), images()),
        perceiver_io_commander=(CORE | COMMANDER, units()),
        transformer_commander=(COMMANDER | dict(layers=LAYERS), units()),
        convnet_classifier=(
            dict(num_classes=5, widths=(4, 8), image_size=(16, 16)),
            images(),
        ),
    )
    section, inputs = sections[name]
    return section | dict(name=name), inputs


def initialised(config, inputs):
    """The model of a section, with random parameters and the state."""
    model = build(config)
    return model, *oracles.random_params_and_state(model.init, inputs=inputs)
