"""GLUE, from official folders and from TFDS, as miniatures in their layouts."""

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds

from perceiver_io.config.construct import construct
from perceiver_io.data.text.glue import SUBSETS, GlueTexts, glue_classification, glue_regression
from perceiver_io.errors import UserError
from perceiver_io.models.architectures import Architecture
from perceiver_io.tasks.text_classification.task import TextClassification
from perceiver_io.tasks.text_regression.task import TextRegression
from tests.helpers.strategies import mesh_of_one_device

PARSES = "\t".join(f"parse {i}" for i in range(4))
# The first lines of the official files, and two or three rows.
OFFICIAL = {
    "CoLA/train.tsv": ['gj04\t1\t\tIt\'s "fine".', "gj04\t0\t*\tIs fine it."],
    "CoLA/test.tsv": ["index\tsentence", "0\tIs it?"],
    "SST-2/train.tsv": ["sentence\tlabel", "a dull film \t0", "a joy \t1"],
    "MRPC/train.tsv": [
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "1\t7\t8\tHe said so.\tSo he said.",
        "0\t7\t8\tHe said so.\tShe did not.",
    ],
    "STS-B/dev.tsv": [
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        "0\tcaptions\tMSRvid\t2012\t0\tnone\tnone\tA cat.\tA dog.\t1.750",
    ],
    "QQP/train.tsv": [
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        "1\t2\t3\tWhy?\tWhy so?\t1",
        "4\t5\t6\tbroken",
        "7\t8\t9\tWho?\tWhere?\t0",
    ],
    "MNLI/dev_mismatched.tsv": [
        "index\tpromptID\tpairID\tgenre\tb1\tb2\tp1\tp2\tsentence1\tsentence2\tlabel1\tgold_label",
        f"0\t1\t1n\tfiction\t{PARSES}\tIt rains.\tIt may rain.\tneutral\tcontradiction",
    ],
    "QNLI/train.tsv": ["index\tquestion\tsentence\tlabel", "0\tWho?\tShe did.\tnot_entailment"],
    "RTE/train.tsv": ["index\tsentence1\tsentence2\tlabel", "0\tIt rains.\tWet.\tentailment"],
    "WNLI/train.tsv": ["index\tsentence1\tsentence2\tlabel", "0\tIt fell.\tIce fell.\t1"],
}
EXPECTED = {
    ("cola", "train"): [(('It\'s "fine".',), "acceptable"), (("Is fine it.",), "unacceptable")],
    ("sst2", "train"): [(("a dull film ",), "negative"), (("a joy ",), "positive")],
    ("mrpc", "train"): [
        (("He said so.", "So he said."), "equivalent"),
        (("He said so.", "She did not."), "not_equivalent"),
    ],
    ("qqp", "train"): [
        (("Why?", "Why so?"), "duplicate"),
        (("Who?", "Where?"), "not_duplicate"),
    ],
    ("mnli", "validation_mismatched"): [(("It rains.", "It may rain."), "contradiction")],
    ("qnli", "train"): [(("Who?", "She did."), "not_entailment")],
    ("rte", "train"): [(("It rains.", "Wet."), "entailment")],
    ("wnli", "train"): [(("It fell.", "Ice fell."), "entailment")],
}


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    root = tmp_path_factory.mktemp("official")
    for name, lines in OFFICIAL.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("\r\n".join(lines), encoding="utf-8")
    return str(root)


@pytest.mark.parametrize(("subset", "split"), EXPECTED)
def test_official_folders(official, subset, split):
    source = GlueTexts(root=official, subset=subset)
    found = [(x.texts, source.class_names[x.label]) for x in source(split)]
    assert found == EXPECTED[subset, split]


def test_every_classified_subset_is_expected():
    assert {subset for subset, _ in EXPECTED} == SUBSETS.keys() - {"stsb"}


def test_scores(official):
    dataset = glue_regression(root=official, max_length=32, score_mean=2.5, score_std=0.5)
    batch = next(
        iter(dataset.load("validation", batch_size=1, training=False, seed=0, shard=(0, 1)))
    )
    np.testing.assert_allclose(batch["label"], [-1.5])
    assert dataset.preparation.input.texts_of(batch["text"][0]) == ["A cat.", "A dog."]


def test_test_labels_are_not_published(official):
    dataset = glue_classification(root=official, subset="cola", max_length=32)
    assert [example.texts for example in dataset.source("test")] == [("Is it?",)]
    with pytest.raises(UserError, match="ground truth of the split 'test' .* is not published"):
        dataset.check_labelled("test")


def test_damaged_rows_are_left_out_and_told(official):
    dataset = glue_classification(root=official, subset="qqp", max_length=32)
    assert dataset.summary(["train"]).endswith(
        "train 2; left out: damaged rows 1 (train.tsv, line 3)"
    )


def test_a_wrong_label(tmp_path):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text("sentence1\tsentence2\tlabel\na\tb\t-\n")
    with pytest.raises(UserError, match="train.tsv, line 2: the label '-' is not a class"):
        len(GlueTexts(root=str(tmp_path), subset="rte")("train"))


def test_another_file(tmp_path):
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text("premise\tsentence2\na\tb\n")
    with pytest.raises(UserError, match="has the columns premise, .* lacks label, sentence1"):
        len(GlueTexts(root=str(tmp_path), subset="rte")("train"))


class SmallMnli(tfds.core.GeneratorBasedBuilder):
    """The features of glue/mnli, in a dataset of another name."""

    VERSION = tfds.core.Version("2.0.0")

    def _info(self):
        features = {
            "premise": tfds.features.Text(),
            "hypothesis": tfds.features.Text(),
            "label": tfds.features.ClassLabel(names=["entailment", "neutral", "contradiction"]),
            "idx": tfds.features.Scalar(np.int32),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples("train"),
            "validation_matched": self._generate_examples("valid"),
        }

    def _generate_examples(self, name):
        for index in range(4):
            label = -1 if index == 3 else index
            texts = {"premise": f"{name} \u00fc {index}", "hypothesis": str(index)}
            yield index, texts | {"label": label, "idx": 10 * index}


def test_tfds(tmp_path):
    SmallMnli(data_dir=tmp_path, file_format="array_record").download_and_prepare()
    (tmp_path / "glue").mkdir()
    (tmp_path / "small_mnli").rename(tmp_path / "glue" / "mnli")
    section = dict(root=str(tmp_path), subset="mnli", max_length=32)
    dataset = construct(glue_classification, section, "config.data")
    found = sorted((example.texts, example.label) for example in dataset.source("validation"))
    expected = [(f"valid \u00fc {index}", str(index)) for index in range(4)]
    assert found == list(zip(expected, [0, 1, 2, -1], strict=True))
    indices = dataset.source.indices("validation")
    assert [f"valid \u00fc {index // 10}" for index in indices] == [
        example.texts[0] for example in dataset.source("validation")
    ]
    assert dataset.for_prediction()["columns"] == ("premise", "hypothesis")
    assert dataset.class_names == ("entailment", "neutral", "contradiction")


def test_missing_folders(tmp_path):
    dataset = glue_classification(root=str(tmp_path), subset="mrpc", max_length=32)
    with pytest.raises(
        UserError, match=r"(?s)no prepared .*glue/mrpc.* MRPC .*tfds build glue/mrpc"
    ):
        dataset.num_examples("train")
    with pytest.raises(UserError, match="subset is 'mpc'.*"):
        section = dict(root="x", subset="mpc", max_length=32)
        construct(glue_classification, section, "config.data")


def submission(task, dataset, split, outputs, folder, monkeypatch):
    """The lines of the file that is written for a model's outputs, in the order of examples."""

    def apply(params, state, rng, *, inputs, input_mask, is_training):
        # The first byte of each text is its place.
        return jnp.asarray(outputs)[inputs[:, 1] - 6 - ord("0")], state

    model = Architecture(lambda rng, **inputs: ({}, {}), apply, apply, apply)
    evaluation = dict(splits=(split,), batch_size=2)
    monkeypatch.setattr(type(task), "build_dataset", lambda self, section: dataset)
    config = dict(data=dict(name="glue"), evaluation=evaluation)
    writers = task.submitters(config)
    count = sum(writer(model, {}, {}, mesh_of_one_device(), folder) for writer in writers.values())
    (path,) = folder.glob("*.tsv")
    lines = path.read_text().splitlines()
    assert lines[0] == "index\tprediction" and len(lines) == count + 1
    return path.name, [line.split("\t") for line in lines[1:]]


def test_submissions_of_classes(tmp_path, monkeypatch):
    texts = ["0 first", "1 second", "2 third"]
    outputs = np.eye(3)[[2, 0, 1]]
    for subset, columns, answers in (
        ("cola", "index\tsentence", ["1", "0", "1"]),
        ("rte", "index\tsentence1\tsentence2", ["not_entailment", "entailment", "not_entailment"]),
    ):
        folder = tmp_path / SUBSETS[subset].folder
        folder.mkdir()
        more = "\tx" if subset == "rte" else ""
        rows = [f"{i}\t{text}{more}" for i, text in enumerate(texts)]
        (folder / "test.tsv").write_text("\n".join([columns, *rows]))
        dataset = glue_classification(root=str(tmp_path), subset=subset, max_length=32)
        two = outputs[:, :2] + [[0, 0.5]] * 3  # of ties, the second class
        task, out = TextClassification(2), tmp_path / f"out_{subset}"
        name, lines = submission(task, dataset, "test", two, out, monkeypatch)
        assert name == f"{SUBSETS[subset].folder}.tsv"
        assert lines == [[str(i), answer] for i, answer in enumerate(answers)]


def test_submissions_of_scores(tmp_path, monkeypatch):
    (tmp_path / "STS-B").mkdir()
    rows = ["index\tsentence1\tsentence2", "0\t0 a\tb", "1\t1 a\tb"]
    (tmp_path / "STS-B" / "test.tsv").write_text("\n".join(rows))
    dataset = glue_regression(root=str(tmp_path), max_length=32, score_mean=2.5, score_std=2.0)
    outputs, folder = np.array([[0.25], [9]]), tmp_path / "out"
    found = submission(TextRegression(), dataset, "test", outputs, folder, monkeypatch)
    assert found == ("STS-B.tsv", [["0", "3.000"], ["1", "5.000"]])


def test_only_test_splits_are_submitted(official, monkeypatch):
    dataset = glue_classification(root=official, subset="cola", max_length=32)
    monkeypatch.setattr(TextClassification, "build_dataset", lambda self, section: dataset)
    config = dict(data=dict(name="glue"), evaluation=dict(splits=("train",), batch_size=2))
    with pytest.raises(UserError, match="--submission is for the test splits of GLUE"):
        TextClassification(2).submitters(config)
