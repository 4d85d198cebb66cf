"""What counting predicts of the same masked bytes that a language model of bytes is evaluated on.

    python -m scripts.masked_baselines --config=configs/masked_lm.py:small [--workdir=RUN]
        [--config.any.key=VALUE]

Prints the cross-entropy in nats per masked byte of

- the frequency of each byte,
- the same given the length of the masked word and the place in it,
- the same given also the word before, the word after, or both, as far as they are not masked,
- a trigram, for context: it also sees the bytes inside the masked word, which the model does not.

With RUN, draws the losses of its evaluations beside these, in RUN/baselines.png.

Counts are those of the training split. Rare contexts are smoothed: with N observations, a context
has the weight N / (N + prior), the shorter context the rest. Of several priors, the best for the
evaluated bytes themselves is taken, which favours the baselines.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from perceiver_io.training.logging import read_records, save_figure
from scripts._masked_counts import (
    context_counts,
    draw,
    evaluated_words,
    training_texts,
    trigram_loss,
    word_losses,
)

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].")
SPLIT = flags.DEFINE_string("split", "validation", "The split to evaluate on.")
WORKDIR = flags.DEFINE_string("workdir", None, "Run folder, whose losses are drawn beside.")

PRIORS = (1, 3, 10, 30, 100)


def main() -> None:
    """Prints the table; draws the figure."""
    config = configuration.load(CONFIG.value, program.overrides())
    dataset = setup.build_dataset(config, setup.build_task(config))
    if config.data.tokenizer.name != "bytes":
        raise UserError("The baselines count bytes: give a config with the tokenizer `bytes`.")
    words, texts = evaluated_words(dataset, SPLIT.value)
    training = list(training_texts(dataset))
    totals = sum(np.bincount(np.frombuffer(text, np.uint8), minlength=256) for text in training)
    overall = (totals + 1) / (totals.sum() + 256)
    counts = context_counts(training, words)
    letters = np.frombuffer(b"".join(word.word for word in words), np.uint8)
    by_prior = [word_losses(words, counts, overall, prior) for prior in PRIORS]
    trigram = min(trigram_loss(training, texts, overall, prior) for prior in PRIORS)
    nats = {
        "byte frequencies": -float(np.log(overall[letters]).mean()),
        **{kind: min(losses[kind] for losses in by_prior) for kind in by_prior[0]},
        "trigram, sees inside the word": trigram,
    }
    print(f"{len(words)} masked words of {SPLIT.value}, {len(letters)} bytes; nats per byte\n")
    for kind, loss in nats.items():
        print(f"{kind:30}{loss:7.3f}")
    if WORKDIR.value:
        losses = evaluated_losses(Path(WORKDIR.value).expanduser())
        save_figure(draw(losses, nats), Path(WORKDIR.value).expanduser(), "baselines")


def evaluated_losses(workdir: Path) -> dict[int, float]:
    """The loss on the split after each number of steps. Raises UserError if there is none."""
    records = read_records(workdir / "metrics.jsonl")
    losses = {x["step"]: x["metrics"]["loss"] for x in records if x["split"] == SPLIT.value}
    if not losses:
        raise UserError(f"The run in {workdir} has not been evaluated on {SPLIT.value!r} yet.")
    return losses


if __name__ == "__main__":
    program.run(main, CONFIG)
