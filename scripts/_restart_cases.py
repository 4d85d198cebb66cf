"""For each task a small config, shrunk so that a run takes seconds."""

from typing import NamedTuple

STEPS, EVERY = 60, 20
# Of all of them; large learning rates would amplify differences of rounding.
SETTINGS = (
    "data.num_workers=0",
    "training.batch_size=8",
    f"training.steps={STEPS}",
    f"evaluation.every={EVERY}",
    "evaluation.batch_size=64",
    f"checkpoint.every={EVERY}",
    "checkpoint.best_metric=None",
    "logging.every=1",
    "schedule={'name': 'constant', 'peak': 3e-4, 'warmup_steps': 10}",
)
_STACK = "model.encoder.latent_stack.num_layers=1"
_LATENTS = ("model.encoder.num_latents=8", _STACK)
_TRAINED = (*_LATENTS, "evaluation.splits=()")
_TEXT = (*_TRAINED, "data.max_length=64", "model.max_length=64")

# For eight latents.
_WINDOWS = (
    "model.image.windows.latents=(1, 2, 2)",
    "model.audio.windows.latents=(4,)",
)


class Case(NamedTuple):
    """A config, as FILE.py[:PRESET] in configs/, its settings, and the numbers of processes."""

    config: str
    settings: tuple[str, ...]
    before: int = 2
    after: int = 1


CASES = {
    "image_classification": Case("quickstart.py", _LATENTS, 4, 2),
    "point_cloud_classification": Case("point_clouds.py:furniture", _LATENTS),
    "sound_tagging": Case("audioset.py:small", _TRAINED),
    "unit_commands": Case("starcraft.py:small", _TRAINED[-1:]),
    "text_classification": Case("text_file.py:classification", _TEXT),
    "text_regression": Case("text_file.py:regression", _TEXT),
    "text_multitask": Case("text_file.py:multitask_query", _TEXT),
    "masked_lm": Case("masked_lm.py:small", _TRAINED),
    "optical_flow": Case("optical_flow.py:small", _TRAINED),
    "multimodal_autoencoding": Case("kinetics.py:small", (*_TRAINED, *_WINDOWS)),
}
