"""Several tasks in one model: their data, metrics, evaluation, models and predictions."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from perceiver_io.config.construct import construct
from perceiver_io.data.text.task_mixture import task_mixture
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture, build
from perceiver_io.tasks.predictor import Trained
from perceiver_io.tasks.text_multitask.evaluation import AllTasks
from perceiver_io.tasks.text_multitask.prediction import TextMultitasker
from perceiver_io.tasks.text_multitask.task import TextMultitask
from tests.helpers import oracles
from tests.helpers.strategies import mesh_of_one_device

pytestmark = pytest.mark.usefixtures("for_cpu")

TASK = TextMultitask(
    tasks=("kinds", "scores", "pairs"),
    num_classes=(3, 1, 2),
    metrics_averaged=("accuracy", "spearman", "f1"),
)


@pytest.fixture
def section(tmp_path):
    """Three sets of 60, 30 and 30 training examples."""
    rows = {
        "kinds": ("text,label", [f"text {i},{'abc'[i % 3]}" for i in range(60)]),
        "scores": ("text,label", [f"number {i},{i / 10}" for i in range(30)]),
        "pairs": ("text,other,label", [f"{i},{i},{'ny'[i % 2]}" for i in range(30)]),
    }
    parts = {}
    for name, (header, lines) in rows.items():
        for split in ("train", "validation"):
            (tmp_path / f"{name}_{split}.csv").write_text("\n".join([header, *lines]))
        files = {s: str(tmp_path / f"{name}_{s}.csv") for s in ("train", "validation")}
        parts[name] = dict(name="text_file", weight=float(len(lines)), **files)
    parts["scores"] |= dict(name="scored_text_file", score_mean=1.5, score_std=0.5)
    parts["pairs"] |= dict(second_text="other")
    return dict(parts=parts, max_length=24)


@pytest.fixture
def dataset(section):
    return construct(task_mixture, section, "config.data")


def load(dataset, split, size, training=False):
    stream = dataset.load(split, batch_size=size, training=training, seed=0, shard=(0, 1))
    return iter(stream)


def test_examples_know_their_task(dataset):
    TASK.check_dataset(dataset)
    batch = next(load(dataset, "validation", 120))
    assert batch["task"].tolist() == [0] * 60 + [1] * 30 + [2] * 30
    scores = (np.arange(30) / 10 - 1.5) / 0.5
    labels = np.concatenate([np.arange(60) % 3, scores, np.arange(30) % 2])
    np.testing.assert_allclose(batch["label"], labels, rtol=1e-6)
    assert dataset.preparation.input.texts_of(batch["text"][95]) == ["5", "5"]
    assert dataset.num_examples("pairs/validation") == 30


def test_training_mixes_by_weight(dataset):
    counts = np.zeros(3, int)
    for _, batch in zip(range(10), load(dataset, "train", 12, training=True), strict=False):
        counts += np.bincount(batch["task"], minlength=3)
    assert counts.tolist() == [60, 30, 30]


def test_what_weights_need(dataset):
    tasks = json.loads(json.dumps(dataset.for_prediction()))["tasks"]
    assert tasks["kinds"] == dict(
        columns=["text"], class_names=["a", "b", "c"], score_mean=0.0, score_std=1.0
    )
    assert tasks["scores"]["class_names"] is None and tasks["scores"]["score_std"] == 0.5
    assert tasks["pairs"]["columns"] == ["text", "other"]
    assert dataset.class_names == ("kinds/a", "kinds/b", "kinds/c", "pairs/n", "pairs/y")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda parts: parts.clear(), "config.data.parts is empty"),
        (lambda parts: parts["kinds"].pop("weight"), "config.data.parts.kinds lacks weight"),
        (
            lambda parts: parts["kinds"].update(score_mean=1.0),
            "parts.kinds.score_mean is not a setting",
        ),
        (lambda parts: parts["kinds"].update(name="x"), "parts.kinds.name is 'x', which does not"),
    ],
)
def test_wrong_parts(section, change, message):
    change(section["parts"])
    with pytest.raises(UserError, match=message):
        construct(task_mixture, section, "config.data")


def test_task_and_data_agree(dataset):
    def task(**settings):
        fields = dict(tasks=TASK.tasks, num_classes=(3, 1, 2), metrics_averaged=("accuracy",) * 3)
        return TextMultitask(**fields | settings)

    with pytest.raises(UserError, match="parts are kinds, scores, pairs, but .*tasks is pairs"):
        task(tasks=("pairs", "scores", "kinds")).check_dataset(dataset)
    with pytest.raises(UserError, match="parts.scores has 1 classes .*num_classes has 2 for it"):
        task(num_classes=(3, 2, 2)).check_dataset(dataset)
    with pytest.raises(UserError, match="has 3 tasks, 2 num_classes and 3 metrics_averaged"):
        task(num_classes=(3, 1))
    batch = next(load(dataset, "validation", 4))
    with pytest.raises(UserError, match="The model has 2 tasks with 3 outputs each"):
        TASK.losses(jnp.zeros((4, 2, 3)), batch)


def by_length(inputs, input_mask, query):
    """The same outputs for each of three tasks, from the number of tokens."""
    del inputs, query
    length = input_mask.sum(1).astype(jnp.float32)
    rows = jnp.stack([length % 3, length % 4, jnp.full_like(length, 1.5)], 1)
    return jnp.repeat(rows[:, None], 3, axis=1)


def model_of(apply):
    def applied(params, state, rng, *, is_training, **inputs):
        del rng, is_training
        return apply(**inputs), state

    def init(rng, **inputs):
        del rng, inputs
        return {}, {}

    return Architecture(init, applied, applied, applied)


def test_evaluation_of_all_tasks(dataset):
    evaluator = AllTasks(TASK, dataset, "validation", 25)
    model = model_of(by_length)
    names = evaluator.metric_names(model)
    metrics = evaluator(model, {}, {}, mesh_of_one_device()).metrics
    assert metrics.keys() <= set(names)
    assert "scores/accuracy" not in metrics and "kinds/pearson" not in metrics

    lengths = np.array([len(f"text {i}") + 2 for i in range(60)])
    rows = np.stack([lengths % 3, lengths % 4, np.full(60, 1.5)], 1)
    accuracy = np.mean(rows.argmax(1) == np.arange(60) % 3)
    lengths = np.array([len(f"number {i}") + 2 for i in range(30)])
    spearman = scipy.stats.spearmanr(lengths % 3, np.arange(30)).statistic
    lengths = np.array([2 * len(str(i)) + 3 for i in range(30)])
    found, true = np.stack([lengths % 3, lengths % 4], 1).argmax(1), np.arange(30) % 2
    both = (found & true).sum()
    f1 = 2 * both / (found.sum() + true.sum())
    assert metrics["kinds/accuracy"] == pytest.approx(accuracy)
    assert metrics["scores/spearman"] == pytest.approx(spearman)
    assert metrics["pairs/f1"] == pytest.approx(f1)
    assert metrics["average"] == pytest.approx(np.mean([accuracy, spearman, f1]))


def test_a_metric_that_a_task_lacks(dataset):
    task = TextMultitask(TASK.tasks, TASK.num_classes, ("accuracy", "bleu", "accuracy"))
    evaluator = AllTasks(task, dataset, "validation", 25)
    with pytest.raises(UserError, match="metrics_averaged has 'bleu' for scores, but there are"):
        evaluator.metric_names(model_of(by_length))


def section_of(told_by):
    return dict(
        name="perceiver_io_multitask",
        told_by=told_by,
        num_tasks=3,
        num_outputs=3,
        vocab_size=262,
        max_length=24,
        embedding_dim=8,
        head_dim=5,
        encoder=dict(num_latents=3, latent_dim=8, latent_stack=dict(num_layers=1, num_heads=2)),
    )


WAYS = ("query", "shared_token", "task_token")


@pytest.mark.slow
@pytest.mark.parametrize("told_by", WAYS)
def test_predictions_are_those_of_the_evaluation(told_by, dataset, tmp_path):
    section = section_of(told_by)
    model = build(section)
    params, state = oracles.random_params_and_state(
        model.init, inputs={"ids": jnp.zeros((1, 24), int), "task": jnp.zeros(1, int)}
    )
    batch = next(load(dataset, "validation", 120))
    apply = jax.jit(lambda batch: model.apply(
        params, state, None, **TASK.model_inputs(batch), is_training=False)[0])  # fmt: skip
    outputs = apply(batch)
    found = np.asarray(TASK.predictions(outputs, batch)["prediction"])
    preparation = json.loads(json.dumps(dataset.for_prediction()))
    predictor = TextMultitasker(Trained(model, params, state, section, None, preparation))
    examples = list(dataset.source("validation"))

    kinds = predictor.predict([x.texts[0] for x in examples[:60]], subset="kinds", batch_size=7)
    assert kinds.classes.tolist() == found[:60].tolist()
    scores = predictor.predict([x.texts[0] for x in examples[60:90]], subset="scores")
    np.testing.assert_allclose(scores, found[60:90] * 0.5 + 1.5, rtol=1e-3, atol=1e-4)
    pairs = predictor.predict([x.texts for x in examples[90:]], subset="pairs")
    assert pairs.classes.tolist() == found[90:].tolist()
    assert pairs.probabilities.shape == (30, 2)
    report = predictor.write(tmp_path, text=["1", "2"], subset="pairs")
    assert report.summary["texts"] == 1
    with pytest.raises(UserError, match="not trained on 'pair' .did you mean 'pairs'"):
        predictor.predict([], subset="pair")


@pytest.mark.slow
@pytest.mark.parametrize("told_by", WAYS)
def test_the_task_changes_the_vector_that_is_decoded(told_by):
    """All heads read one vector, which depends on the task unless the token is shared."""
    model = build(section_of(told_by))
    ids = jnp.arange(24)[None] + 6
    first, second = jnp.array([0]), jnp.array([1])
    params, state = oracles.random_params_and_state(model.init, inputs={"ids": ids, "task": first})

    def outputs(task):
        inputs = dict(inputs={"ids": ids, "task": task}, query=task)
        return model.apply(params, state, None, **inputs, is_training=False)[0]

    one, other = outputs(first), outputs(second)
    assert one.shape == (1, 3, 3)
    assert np.array_equal(one, other) == (told_by == "shared_token")
    # Each head has weights of its own.
    assert len({tuple(row) for row in np.asarray(one[0]).tolist()}) == 3


@pytest.mark.slow
def test_all_queries_at_once_are_those_of_each_task():
    model = build(section_of("query"))
    inputs = {"ids": jnp.arange(24)[None] + 6, "task": jnp.zeros(1, int)}
    params, state = oracles.random_params_and_state(model.init, inputs=inputs)

    def outputs(**query):
        return model.apply(params, state, None, inputs=inputs, **query, is_training=False)[0]

    together = outputs()
    for task in range(3):
        single = outputs(query=jnp.array([task]))
        oracles.assert_close(together[:, task], single[:, task])
