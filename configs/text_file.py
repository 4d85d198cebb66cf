"""Your own texts: classes, pairs, scores, or tags of words, from plain files.

    python -m experiments.train --config=configs/text_file.py:classification --workdir=DIR \
        --config.data.train=TABLE --config.data.validation=None --config.data.test=None \
        --config.data.text=COLUMN --config.data.label=COLUMN --config.task.num_classes=NUMBER

Presets: `classification` (a class for each text, the default), `pairs` (a class for each pair of
texts), `regression` (a score for each pair) and `tagging` (a tag for each word); and all of the
first three at once, in the three ways of the Perceiver IO paper (section 4.1): `multitask_query`,
`shared_token` and `task_token`. Tables are `.csv`, `.tsv` or `.jsonl`; tagged words also `.conll`.
The defaults of all but `tagging` are files that come with the project: sentences about films,
paraphrases and STS-B. Hardware: two CPU cores.

To begin with the weights of a masked language model of the same sizes, configs/masked_lm.py:small:
--config.init_from=RUN --config.init_prefixes="('embeddings','positions','encoder','decoder/cross')"
"""

from ml_collections import ConfigDict, FieldReference

BUNDLED = "perceiver_io/data/bundled/text_tasks"


def get_config(preset: str = "classification") -> ConfigDict:
    """The experiment of the kind named by `preset`."""
    model, task, data, metric = PRESETS[preset]
    batch_size = FieldReference(32)
    peak = 5e-4 * batch_size.to_float() / 32  # Linear scaling.
    max_length = FieldReference(256)
    steps = FieldReference(3000)

    config = ConfigDict()
    config.model = dict(
        model,
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
    config.task = dict(task)
    if "num_classes" in config.model and "num_classes" in config.task:
        config.model.num_classes = config.task.get_ref("num_classes")
    config.data = dict(data, max_length=max_length)
    config.optimizer = dict(name="adamw", weight_decay=0.1)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=steps // 15, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps)
    config.evaluation = dict(splits=("validation",), every=500)
    config.checkpoint = dict(every=500, best_metric=f"validation/{metric}", best_mode="max")
    return config


def _files(name: str, **columns: str) -> dict:
    """A bundled table for each split."""
    splits = {s: f"{BUNDLED}/{name}_{s}.tsv.gz" for s in ("train", "validation", "test")}
    return dict(splits, **columns)


def _multitask(told_by: str) -> tuple[dict, dict, dict, str]:
    """All bundled tasks, with each example equally often."""
    parts = {
        "movies": dict(name="text_file", weight=7625.0, **MOVIES),
        "paraphrases": dict(name="text_file", weight=5749.0, **PARAPHRASES),
        "sts": dict(name="scored_text_file", weight=5749.0, **STS),
    }
    model = dict(name="perceiver_io_multitask", told_by=told_by, num_tasks=3, num_outputs=2)
    task = dict(
        name="text_multitask",
        tasks=tuple(parts),
        num_classes=(2, 2, 1),
        metrics_averaged=("accuracy", "accuracy", "spearman"),
    )
    return model | HEAD, task, dict(name="task_mixture", parts=parts), "average"


PAIRS = dict(text="sentence1", second_text="sentence2")
MOVIES = _files("movies", text="sentence", label="sentiment")
PARAPHRASES = _files("sts", **PAIRS, label="paraphrase")
STS = dict(_files("sts", **PAIRS, label="score"), score_mean=2.5, score_std=1.5)

HEAD = dict(head_dim=192)
SENTENCES = dict(name="perceiver_io_sentence_classifier", num_classes=1, **HEAD)
TWO_CLASSES = dict(name="text_classification", num_classes=2)
# Sections of the model, the task and the data, and the metric that chooses the checkpoint.
PRESETS = {
    "classification": (SENTENCES, TWO_CLASSES, dict(name="text_file", **MOVIES), "accuracy"),
    "pairs": (SENTENCES, TWO_CLASSES, dict(name="text_file", **PARAPHRASES), "accuracy"),
    "regression": (
        SENTENCES,
        dict(name="text_regression"),
        dict(name="text_file", **STS),
        "spearman",
    ),
    "tagging": (
        dict(name="perceiver_io_tagger", num_classes=9),
        dict(name="text_tagging", num_classes=9),
        dict(name="tagged_file", train="path/to/train.conll", max_words=64),
        "word_accuracy",
    ),
    "multitask_query": _multitask("query"),
    "shared_token": _multitask("shared_token"),
    "task_token": _multitask("task_token"),
}
