"""Part-of-speech tags of the Brown corpus: a tag for each word, from the bytes of a sentence.

    python -m scripts.prepare_brown --output=data/brown
    python -m experiments.train --config=configs/brown.py --workdir=runs/brown
    python -m experiments.evaluate --workdir=runs/brown --split=test

To be compared with the most frequent tag of each word, on the same words:

    python -m scripts.tagging_baseline --config=configs/brown.py

Of the sentences, 96% fit into 256 bytes and 64 words; 2.4% of all words are left out. Hardware: one
CPU core, 45 minutes. Of the words of the test split, 91.1% are right, see docs/text_tasks.md.
"""

from ml_collections import ConfigDict, FieldReference


def get_config() -> ConfigDict:
    """A small Perceiver IO with a query for the first byte of each word."""
    batch_size = FieldReference(16)
    peak = 5e-4 * batch_size.to_float() / 16  # Linear scaling.
    max_length = FieldReference(256)
    num_tags = FieldReference(92)
    steps = FieldReference(12_000)

    config = ConfigDict()
    config.model = dict(
        name="perceiver_io_tagger",
        num_classes=num_tags,
        vocab_size=262,
        max_length=max_length,
        embedding_dim=128,
        encoder=dict(
            num_latents=64,
            latent_dim=192,
            cross_attend=dict(num_heads=4, qk_dim=128, v_dim=192),
            latent_stack=dict(num_layers=4, num_heads=6, dropout=0.1),
        ),
        decoder=dict(
            cross_attend=dict(num_heads=8, qk_dim=256, v_dim=128, use_query_residual=False)
        ),
        start="local",
    )
    config.task = dict(name="text_tagging", num_classes=num_tags)
    files = {split: f"data/brown/{split}.conll" for split in ("train", "validation", "test")}
    config.data = dict(files, name="tagged_file", max_length=max_length, max_words=64)
    config.optimizer = dict(name="adamw", weight_decay=0.1, b2=0.98)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 20, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps)
    config.evaluation = dict(splits=("validation",), every=2000)
    config.checkpoint = dict(every=2000, best_metric="validation/word_accuracy", best_mode="max")
    return config
