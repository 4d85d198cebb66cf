"""GLUE (1804.07461) with the byte-level model of 201M parameters: Perceiver IO, section 4.1.

    python -m experiments.train --config=configs/glue.py:mrpc --workdir=DIR \
        --config.data.root=GLUE_FOLDER --config.init_from=PRETRAINED_WEIGHTS

Presets, with the number of training examples and the paper's score on the validation split (the
best of a grid of batch sizes 16, 32, 64 and rates 1e-4, 5e-5, 2e-5, 1e-5):

cola     8,551   50.19   Matthews correlation
mnli   392,702   83.22   accuracy; 83.89 on the mismatched split
mrpc     3,668   87.24   accuracy
qnli   104,743   91.71   accuracy
qqp    363,846   90.12   accuracy
rte      2,490   64.84   accuracy
sst2    67,349   93.17   accuracy
stsb     5,749   86.81   correlation; the paper does not say which

Presets of all eight at once, in the paper's three ways, with its average:

(--config.data.parts.cola.root=GLUE_FOLDER sets the folder of all)

multitask_query    81.8   a query for each task
shared_token       81.5   the query of the first token, which is [CLS]
task_token         81.8   the same, and the first token is the task's own

WNLI is left out, as in the paper. The recipe is the paper's: 10 epochs, LAMB, 200 warm-up steps,
weight decay 0.01, a head of two layers with tanh. It does not state the decay of the rate, which is
a cosine here as in pre-training, nor how tasks are sampled: here, each example equally often.
GLUE_FOLDER has the official folders (MRPC/train.tsv ...) or those of TFDS. PRETRAINED_WEIGHTS are
those of a masked language model of the same sizes, such as the published ones.
"""

from ml_collections import ConfigDict, FieldReference

EPOCHS = 10
SCALE = dict(score_mean=2.5, score_std=1.5)  # of STS-B's scores


def get_config(preset: str = "mrpc") -> ConfigDict:
    """Fine-tuning on the set named by `preset`, or on all in the way that it names."""
    own, metric, num_train = PRESETS[preset]
    batch_size = FieldReference(32)
    peak = 5e-5 * batch_size.to_float() / 32  # Linear scaling.
    max_length = FieldReference(2048)
    steps = num_train * EPOCHS // batch_size
    splits = ("validation", "validation_mismatched") if preset == "mnli" else ("validation",)

    config = ConfigDict()
    config.model = dict(
        own["model"],
        vocab_size=262,
        max_length=max_length,
        embedding_dim=768,
        head_dim=1280,
        encoder=dict(
            num_latents=256,
            latent_dim=1280,
            cross_attend=dict(num_heads=8, qk_dim=256, v_dim=1280),
            latent_stack=dict(num_layers=26, num_heads=8, qk_dim=256, remat="products"),
        ),
        decoder=dict(
            cross_attend=dict(num_heads=8, qk_dim=256, v_dim=768, use_query_residual=False),
        ),
    )
    config.task = own["task"]
    config.data = dict(own["data"], max_length=max_length)
    config.init_from = "path/to/pretrained"
    config.init_prefixes = ("embeddings", "positions", "encoder", "decoder/cross_attend")
    if preset in ("shared_token", "task_token"):
        config.init_prefixes += ("query_positions",)
    config.optimizer = dict(name="lamb", weight_decay=0.01)
    config.schedule = dict(name="cosine", peak=peak, warmup_steps=200, total_steps=steps)
    config.training = dict(batch_size=batch_size, steps=steps)
    epoch = num_train // batch_size
    config.evaluation = dict(splits=splits, every=epoch)
    config.checkpoint = dict(every=epoch, best_metric=f"validation/{metric}", best_mode="max")
    return config


def _single(name: str, classes: int) -> dict:
    """Sections of the model, the task and the data of one set."""
    model = dict(name="perceiver_io_sentence_classifier", num_classes=classes)
    data = dict(name="glue", root="path/to/glue")
    if classes == 1:
        return dict(model=model, task=dict(name="text_regression"), data=data | SCALE)
    task = dict(name="text_classification", num_classes=classes)
    return dict(model=model, task=task, data=data | dict(subset=name))


def _all(told_by: str) -> dict:
    """Those of all sets at once."""
    root = FieldReference("path/to/glue")
    sources = {
        name: dict(name="glue", root=root, subset=name)
        if classes > 1
        else dict(name="glue_scores", root=root, **SCALE)
        for name, (_, classes, _) in SETS.items()
    }
    counts = tuple(classes for _, classes, _ in SETS.values())
    return dict(
        model=dict(
            name="perceiver_io_multitask",
            told_by=told_by,
            num_tasks=len(SETS),
            num_outputs=max(counts),
        ),
        task=dict(
            name="text_multitask",
            tasks=tuple(SETS),
            num_classes=counts,
            metrics_averaged=tuple(metric for _, _, metric in SETS.values()),
        ),
        data=dict(
            name="task_mixture",
            parts={
                name: dict(weight=float(SETS[name][0]), **source)
                for name, source in sources.items()
            },
        ),
    )


# Training examples, classes (1: scores), and the metric that chooses the checkpoint.
SETS = {
    "cola": (8551, 2, "matthews"),
    "mnli": (392_702, 3, "accuracy"),
    "mrpc": (3668, 2, "accuracy"),
    "qnli": (104_743, 2, "accuracy"),
    "qqp": (363_846, 2, "accuracy"),
    "rte": (2490, 2, "accuracy"),
    "sst2": (67_349, 2, "accuracy"),
    "stsb": (5749, 1, "pearson"),
}
# By the paper, in percent and in the order of SETS; the two splits of MNLI as one.
PERCENT = {
    "Perceiver IO, bytes": (50.19, 83.555, 87.24, 91.71, 90.12, 64.84, 93.17, 86.81),
    "Perceiver IO++, bytes": (52.54, 84.52, 86.03, 92.06, 90.46, 66.54, 93.98, 87.93),
    "multitask query": (47.88, 82.41, 90.36, 90.37, 89.49, 80.08, 93.75, 79.95),
}
REPORTED = {
    row: {name: score / 100 for name, score in zip(SETS, scores, strict=True)}
    for row, scores in PERCENT.items()
}
WAYS = {"multitask_query": "query", "shared_token": "shared_token", "task_token": "task_token"}
NUM_TRAIN = sum(count for count, _, _ in SETS.values())
PRESETS = {
    name: (_single(name, classes), metric, num_train)
    for name, (num_train, classes, metric) in SETS.items()
} | {way: (_all(told_by), "average", NUM_TRAIN) for way, told_by in WAYS.items()}
