"""The most frequent tag of each word, measured on the same words as a model of tags.

    python -m scripts.tagging_baseline --config=configs/brown.py [--split=validation]
    python -m scripts.tagging_baseline --config=configs/text_file.py:tagging \
        --config.data.train=FILE.conll --config.data.test=FILE.conll \
        --config.task.num_classes=NUMBER [--config.any.key=VALUE]

Tags are counted in the whole training split. Words that do not occur there get the tag that is the
most frequent of all. Accuracy is measured on the words that a model with this config sees; those
beyond config.data.max_length and config.data.max_words are left out, and their number is printed.
"""

import sys
from pathlib import Path

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

from absl import flags

from perceiver_io.errors import UserError
from perceiver_io.runtime import configuration, program, setup
from scripts._tag_counts import Share, accuracies, cropped, most_frequent_tags

CONFIG = flags.DEFINE_string("config", None, "Config file: FILE.py[:PRESET].")
SPLIT = flags.DEFINE_string("split", "test", "The split to measure on.")


def main() -> None:
    """Prints the accuracies."""
    config = configuration.load(CONFIG.value, program.overrides())
    if config.task.name != "text_tagging":
        raise UserError(
            f"--config={CONFIG.value} has the task {config.task.name!r}: give a config whose task "
            "is `text_tagging`."
        )
    dataset = setup.build_dataset(config, setup.build_task(config))
    tags = most_frequent_tags(dataset.examples("train"))
    texts = dataset.examples(SPLIT.value)
    seen = cropped(texts, dataset.preparation.words)
    known, unknown = accuracies(tags, seen)
    total = Share(known.right + unknown.right, known.count + unknown.count)
    left_out = sum(len(text.words) for text in texts) - total.count
    print(f"most frequent tags on {SPLIT.value}: {total} words; {left_out:,} words left out")
    print(f"of words that occur in training: {known}")
    print(f"of others: {unknown}")


if __name__ == "__main__":
    program.run(main, CONFIG)
