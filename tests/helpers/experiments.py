"""The experiments in configs/: their names, their objects, and shrunk versions."""

import importlib
import inspect
import math
import pathlib

import numpy as np
from ml_collections import ConfigDict

from perceiver_io.config.construct import construct, lookup
from perceiver_io.tasks import TASKS
from tests.helpers.audioset import make_tables
from tests.helpers.meshes import hdf5_folder
from tests.helpers.texts import sentence_piece_model

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"

# The upper limit of each setting in a shrunk config, anywhere in `model` or `data`.
LIMITS = dict(
    image_size=16,
    num_points=16,
    grid=4,
    widths=16,
    num_latents=6,
    latent_dim=16,
    num_layers=2,
    num_blocks=2,
    num_heads=2,
    num_bands=3,
    channels=8,
    num_workers=0,
    max_length=32,
    max_queries=16,
    passage_bytes=32,
    embedding_dim=16,
    width=16,
    qk_dim=8,
    v_dim=16,
    patch_size=4,
    slots=24,
    max_selected=4,
)
# Number of stages of the original Perceiver that remain: the first, a second, and a repetition.
NUM_STAGES = 3


def all_experiments():
    """(config, preset) for each experiment; the preset is None if a config has none."""
    return [
        (path.stem, preset)
        for path in sorted(CONFIGS.glob("*.py"))
        if path.stem != "__init__"
        for preset in presets(path.stem)
    ]


def distinct_experiments():
    """Those with a setting of the model or the task that none of those before has."""
    seen, distinct = set(), []
    for name, preset in all_experiments():
        config = load(name, preset)
        settings = {
            (section.name, key, str(value))
            for section in (config.model, config.task)
            for key, value in section.to_dict().items()
        }
        if not settings <= seen:
            distinct.append((name, preset))
        seen |= settings
    return distinct


def covering_experiments():
    """Enough of them that each architecture, kind of input, task and optimizer is in one."""
    parts = {}
    for case in all_experiments():
        config = load(*case)
        sections = {key: config[key] for key in ("model", "task", "optimizer")}
        sections["inputs"] = config.model.get("inputs", config.model)
        parts[case] = {(key, section.name) for key, section in sections.items()}
    left, covering = set().union(*parts.values()), []
    while left:
        covering.append(max(parts, key=lambda case: len(parts[case] & left)))
        left -= parts[covering[-1]]
    return covering


def presets(name):
    module = importlib.import_module(f"configs.{name}")
    if inspect.signature(module.get_config).parameters:
        return tuple(module.PRESETS)
    return (None,)


def load(name, preset):
    """The config of an experiment."""
    get_config = importlib.import_module(f"configs.{name}").get_config
    return get_config() if preset is None else get_config(preset)


def give_files(config, folder):
    """Gives `folder` to an experiment with files of the user's own.

    With a sub-folder per class for images, a cloud, a word or a line of a table for each class, or
    a small model of SentencePiece.
    """
    if config.data.name == "tagged_file":
        words = [f"word TAG-{number}" for number in range(config.task.num_classes)]
        (folder / "train.conll").write_text("\n".join(words))
        config.data.update(train=str(folder / "train.conll"), validation=None, test=None)
    if config.data.name == "modelnet40":
        config.data.root = str(hdf5_folder(folder))
    if config.data.name == "audioset":
        make_tables(folder, config.task.num_classes)
        config.data.root = str(folder)
    if config.data.name == "kinetics":
        rows = [f"class_{index},id_{index},0,10" for index in range(config.task.num_classes)]
        table = "\n".join(["label,youtube_id,time_start,time_end", *rows])
        (folder / "train.csv").write_text(table)
        config.data.root = str(folder)
    if config.data.name in ("image_folder", "video_folder"):
        for index in range(config.task.num_classes):
            (folder / f"class_{index}").mkdir()
        config.data.root = str(folder)
    if config.data.get("tokenizer", {}).get("name") == "sentencepiece":
        (folder / "pieces.model").write_bytes(sentence_piece_model())
        config.data.tokenizer.update(path=str(folder / "pieces.model"), vocabulary_size=310)
    return config


def shrink(config):
    """Limits every size of an experiment, in place, and computes in full precision."""
    if "compute_dtype" in config.model:
        config.model.compute_dtype = "float32"
    if config.model.name == "coatnet_classifier":
        config.model.update(layout="C-T", depths=(2, 2), widths=(16, 16), head_width=16)
        config.model.blocks.head_size = 8
    if config.model.name == "resnet_classifier":
        config.model.update(depths=(1, 1), widths=(16, 16))
    if config.task.name == "sound_tagging":
        _shorten(config)
    if config.model.name == "perceiver_io_autoencoder":
        config.model.image.update(shape=(2, 8, 8), resolution=(2, 8, 8))
        config.model.audio.update(num_samples=32, samples_per_patch=4)
        if "windows" in config.model.image:
            config.model.image.windows = dict(latents=(1, 1, 1), heads=(1, 1, 2))
            config.model.audio.windows = dict(latents=(1,), heads=(2,))
        config.data.form.update(num_frames=2, image_size=(8, 8), samples_per_frame=16)
        config.data.update(image_points=8, audio_points=4)
        config.task.also_given = config.task.get("also_given", ())[:1]
    for section in (config.model, config.data):
        _shrink_section(section)
    return config


def _shorten(config):
    """Stretches of 0.08 s: two frames of video, spectrograms with 16 bands."""
    if "video" in config.data:
        config.data.video.update(num_frames=2, image_size=(16, 16))
        config.model.video.shape = (2, 16, 16)
    if "sound" in config.data:
        sound = config.data.sound
        sound.num_samples = 2 * sound.sample_rate // 25
        if sound.name == "waveform":
            config.model.sound.num_samples = sound.num_samples
        else:
            sound.mel_bands = 16
            config.model.sound.shape = (-(-sound.num_samples // sound.hop), 16)


def _shrink_section(section):
    for key, value in section.items():
        if isinstance(value, ConfigDict):
            _shrink_section(value)
        elif key in ("cross_attends", "stacks"):
            section[key] = value[:NUM_STAGES]
        elif key in LIMITS:
            limit = LIMITS[key]
            small = isinstance(value, tuple) and tuple(min(size, limit) for size in value)
            section[key] = small or min(value, limit)


def task_and_dataset(config):
    """The objects of the sections `task` and `data`."""
    task = construct(lookup(TASKS, config.task, "task"), config.task, "task")
    dataset = construct(lookup(task.datasets, config.data, "data"), config.data, "data")
    return task, dataset


def random_batch(dataset, batch_size, seed=0):
    """A batch matching the dataset's spec: pixels, floats in [0, 1), integers 0, booleans True.

    Every other example lacks a modality; selections are of the first unit alone.
    """
    rng = np.random.default_rng(seed)

    def draw(name, shape, dtype):
        if name in ("image", "frames"):
            return rng.integers(0, 256, shape).astype(dtype)
        if name == "selected":
            return np.where(np.arange(shape[1]) > 0, -1, np.zeros(shape, dtype))
        if name.endswith("_present"):
            return np.arange(batch_size) % 2 == 0
        if np.issubdtype(dtype, np.floating):
            return rng.random(shape).astype(dtype)
        return np.full(shape, dtype == np.bool_, dtype)

    return {name: draw(name, *spec) for name, spec in dataset.batch_spec(batch_size).items()}


def num_parameters(params):
    return sum(math.prod(x.shape) for module in params.values() for x in module.values())


def learned_classifier(num_classes, image_size, **block):
    """A section for a small version of the published model with learned positions."""
    attend = dict(num_heads=1, use_query_residual=True, **block)
    return dict(
        name="perceiver_io_classifier",
        num_classes=num_classes,
        inputs=dict(name="learned_pixels", image_size=image_size, channels=256),
        encoder=dict(
            num_latents=12,
            latent_dim=32,
            num_blocks=2,
            cross_attend=attend,
            latent_stack=dict(num_layers=2, num_heads=4, **block),
        ),
        decoder=dict(cross_attend=attend),
    )
