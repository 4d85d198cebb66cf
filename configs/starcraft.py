"""Commands of StarCraft II players from the units they see: Perceiver IO, section 4.4.

    python -m experiments.train --config=configs/starcraft.py --workdir=runs/starcraft

Presets:

    small               Perceiver IO for one CPU core (the default)
    small_transformer   the same with a Transformer
    perceiver_io        the paper's: 32 latents, 3 layers
    perceiver_io_64     64 latents
    transformer         that of AlphaStar, with which the paper compares

The paper replaces the Transformer over units in AlphaStar by Perceiver IO: 3.3 and 0.93 GFLOPs, the
same rate of won games. Here, the encoder learns to command as players do, by default those of one
bundled game, which shows that everything works, and is too little to learn to play. The paper gives
the latents, the layers and the heads; the width of the latents and of the MLPs is that of the
Transformer. See docs/starcraft.md for the data, the hardware and the results.
"""

from ml_collections import ConfigDict, FieldReference

# What an observation shows of a command that was given before it.
EFFECTS = (
    "selected",
    "active",
    "order_length",
    "order_1",
    "order_2",
    "order_3",
    "order_4",
    "order_progress_1",
    "order_progress_2",
)


def get_config(preset: str = "small") -> ConfigDict:
    """The experiment named by `preset`."""
    model, recipe = PRESETS[preset]
    batch_size = FieldReference(recipe["batch_size"])
    steps = FieldReference(recipe["steps"])
    num_actions = FieldReference(10)
    slots = FieldReference(recipe["slots"])
    max_selected = FieldReference(recipe["max_selected"])

    config = ConfigDict()
    config.model = dict(model, num_actions=num_actions, slots=slots, max_selected=max_selected)
    config.task = dict(name="unit_commands", num_actions=num_actions)
    config.data = dict(name="bundled_game", slots=slots, max_selected=max_selected, hidden=EFFECTS)
    config.optimizer = dict(name="adamw", weight_decay=0.1)
    peak = recipe["peak"] * batch_size.to_float() / recipe["batch_size"]  # Linear scaling.
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 10, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps, ema_decay=None)
    config.evaluation = dict(splits=("validation",), every=recipe["every"])
    config.checkpoint = dict(every=recipe["every"], best_metric="validation/loss", best_mode="min")
    return config


def _perceiver_io(width: int, num_latents: int, layers: dict) -> dict:
    """Perceiver IO whose latents and MLPs are as wide as those of the Transformer."""
    attend = dict(num_heads=layers["num_heads"], widening=layers["widening"])
    return dict(
        name="perceiver_io_commander",
        width=width,
        encoder=dict(
            num_latents=num_latents, latent_dim=width, latent_stack=layers, cross_attend=attend
        ),
        decoder=dict(cross_attend=attend),
    )


def _transformer(width: int, layers: dict) -> dict:
    return dict(name="transformer_commander", width=width, layers=layers)


# Two heads of 128.
LAYERS = dict(num_layers=3, num_heads=2, widening=4)
SMALL_LAYERS = dict(num_layers=3, num_heads=2, widening=4, dropout=0.1)

RECIPE = dict(slots=512, max_selected=64, batch_size=16, steps=300, every=50, peak=3e-4)
SMALL_RECIPE = dict(slots=336, max_selected=40, batch_size=16, steps=300, every=30, peak=1e-3)

PRESETS = {
    "small": (_perceiver_io(64, 32, SMALL_LAYERS), SMALL_RECIPE),
    "small_transformer": (_transformer(64, SMALL_LAYERS), SMALL_RECIPE),
    "perceiver_io": (_perceiver_io(256, 32, LAYERS), RECIPE),
    "perceiver_io_64": (_perceiver_io(256, 64, LAYERS), RECIPE),
    "transformer": (_transformer(256, LAYERS), RECIPE),
}
