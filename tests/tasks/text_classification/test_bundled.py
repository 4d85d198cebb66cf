"""The experiments on bundled texts: their data, and that a small model learns them."""

import json
from pathlib import Path

import numpy as np
import pytest

import perceiver_io
from perceiver_io.data.text.tables import read_columns
from perceiver_io.models.architectures import build
from perceiver_io.runtime import configuration, evaluation, setup, training_run
from perceiver_io.training.state import names

FOLDER = Path("perceiver_io/data/bundled/text_tasks")
SIZES = {
    "classification": {"train": 7625, "validation": 988, "test": 950},
    "pairs": {"train": 5749, "validation": 1500, "test": 1379},
    "regression": {"train": 5749, "validation": 1500, "test": 1379},
}
SMALL = (
    "model.encoder.num_latents=8",
    "model.encoder.latent_dim=32",
    "model.encoder.latent_stack.num_layers=1",
    "model.encoder.latent_stack.num_heads=4",
    "model.encoder.cross_attend.v_dim=32",
    "model.embedding_dim=32",
    "model.head_dim=16",
    "data.max_length=32",
)


def config_of(preset, *overrides):
    settings = [f"--config.{setting}" for setting in (*SMALL, *overrides)]
    return configuration.load(f"configs/text_file.py:{preset}", settings)


@pytest.mark.parametrize("preset", SIZES)
def test_splits(preset):
    dataset = setup.build_parts(config_of(preset)).dataset
    assert {split: dataset.num_examples(split) for split in dataset.source.splits} == SIZES[preset]
    texts = [set(x.texts for x in dataset.source(split)) for split in SIZES[preset]]
    if preset == "classification":
        assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]


def test_paraphrases_are_the_scores_from_3():
    rows = read_columns(FOLDER / "sts_train.tsv.gz", ("score", "paraphrase"))
    assert [(float(score) >= 3) == (answer == "yes") for _, (score, answer) in rows].count(
        False
    ) == 0


def test_sentiments_are_the_signs_of_scores():
    rows = read_columns(FOLDER / "movies_test.tsv.gz", ("score", "sentiment"))
    for _, (score, answer) in rows:
        assert abs(float(score)) > 0.8 and (float(score) > 0) == (answer == "positive")


@pytest.mark.parametrize(
    ("pretrained", "preset", "prefixes"),
    [
        ("small", "text_file.py:classification", ()),
        ("small", "text_file.py:tagging", ("query_positions",)),
        ("bytes", "glue.py:mrpc", ()),
        ("bytes", "glue.py:task_token", ("query_positions",)),
    ],
)
def test_models_can_begin_with_a_masked_language_model(pretrained, preset, prefixes):
    wanted = ("embeddings", "positions", "encoder", "decoder/cross_attend", *prefixes)

    def shapes(path):
        model = build(configuration.load(f"configs/{path}").model)
        arrays = names(model.shapes()[0])
        return {name: x.shape for name, x in arrays.items() if name.startswith(wanted)}

    found = shapes(f"masked_lm.py:{pretrained}")
    assert found == shapes(preset) and len(found) > 30


@pytest.mark.slow
@pytest.mark.usefixtures("for_cpu")
def test_a_run_from_start_to_predictions(tmp_path):
    steps = ("training.steps=40", "schedule.warmup_steps=5", "logging.every=20")
    evaluated = ("evaluation.every=40", "evaluation.batch_size=250")
    config = config_of("classification", *steps, *evaluated)
    training_run.train(config, tmp_path)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    losses = [line["metrics"]["loss"] for line in lines if line["split"] == "train"]
    assert losses[-1] < losses[0]
    subject = evaluation.of_run(tmp_path, "best", None, ["--config.evaluation.splits=('test',)"])
    metrics = evaluation.evaluate(subject, tmp_path).summary["metrics"]["test"]
    assert {"accuracy", "f1", "matthews"} <= metrics.keys()

    model, data = perceiver_io.load(tmp_path), setup.build_parts(config).dataset
    texts = [x.texts[0] for x in list(data.source("test"))[:5]]
    report = model.write(tmp_path, inputs=[config.data.test])
    answers = list(map(json.loads, Path(report.summary["predictions"]).read_text().splitlines()))
    assert len(answers) == SIZES["classification"]["test"]
    found = model.predict(texts, batch_size=2)
    for answer, index in zip(answers, found.classes, strict=False):
        assert answer["prediction"] == data.class_names[index]
    right = np.mean([answer["prediction"] == answer[config.data.label] for answer in answers])
    assert right == pytest.approx(metrics["accuracy"], abs=0.002)
