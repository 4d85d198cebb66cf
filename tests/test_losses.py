"""The loss and gradient of every task do not depend on how a batch is split."""

import dataclasses
import functools
from collections.abc import Callable

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from perceiver_io import losses
from perceiver_io.tasks import TASKS
from perceiver_io.tasks.image_classification.task import ImageClassification
from perceiver_io.tasks.masked_lm.task import MaskedLanguageModelling
from perceiver_io.tasks.multimodal_autoencoding.task import MultimodalAutoencoding
from perceiver_io.tasks.optical_flow.task import OpticalFlow
from perceiver_io.tasks.point_cloud_classification.task import PointCloudClassification
from perceiver_io.tasks.sound_tagging.task import SoundTagging
from perceiver_io.tasks.text_classification.task import TextClassification
from perceiver_io.tasks.text_multitask.task import TextMultitask
from perceiver_io.tasks.text_regression.task import TextRegression
from perceiver_io.tasks.text_tagging.task import TextTagging
from perceiver_io.tasks.unit_commands.task import UnitCommands
from perceiver_io.training import parallel
from perceiver_io.training.parallel import Mesh, Pmap
from perceiver_io.training.state import initial_state
from perceiver_io.training.step import TrainStep
from tests.helpers import tiny
from tests.helpers.strategies import mesh_of_one_device

BATCH = 16


@dataclasses.dataclass(frozen=True)
class Case:
    """A task with a model, a batch of examples with different weights, and its terms in NumPy."""

    task: object
    model: tiny.Model
    batch: dict[str, np.ndarray]
    terms: Callable


@tiny.transformed
def logits_of_images(inputs, is_training):
    del is_training
    return hk.Linear(6)(hk.Flatten()(inputs))


@tiny.transformed
def flow_of_frames(inputs, is_training):
    del is_training
    return hk.Linear(2)(jnp.concatenate([inputs[:, 0], inputs[:, 1]], axis=-1))


@tiny.transformed
def logits_of_texts(inputs, input_mask, query, is_training):
    del input_mask, is_training
    return hk.Linear(20)(jax.nn.one_hot(inputs[:, :8] + query, 40))


def image_classification():
    """Soft labels, and 7 valid examples of 16, of which the devices have 4, 2, 0 and 1."""
    rng = np.random.default_rng(0)
    valid = np.isin(np.arange(BATCH), [0, 1, 2, 3, 5, 6, 12])
    batch = {
        "image": rng.normal(size=(BATCH, 3, 3, 1)).astype(np.float32),
        "label": rng.dirichlet(np.ones(6), BATCH).astype(np.float32),
        "valid": valid,
    }
    batch["image"][~valid] = 0
    batch["label"][~valid] = 0

    def terms(outputs):
        targets = 0.9 * batch["label"] + 0.1 / 6
        return {"loss": -(targets * jax.nn.log_softmax(outputs)).sum(-1)[valid].mean()}

    return Case(ImageClassification(6, label_smoothing=0.1), logits_of_images, batch, terms)


@tiny.transformed
def logits_of_sounds(inputs, is_training):
    del is_training
    present = inputs["present"]["sound"][:, None]
    return jnp.where(present, hk.Linear(6)(hk.Flatten()(inputs["sound"])), 1.0)


def sound_tagging():
    """Up to three tags of six; 9 valid examples of 16, some without sound."""
    rng = np.random.default_rng(7)
    tags = np.sort(rng.integers(-1, 6, (BATCH, 3)), -1)[:, ::-1].astype(np.int32)
    batch = {
        "sound": rng.normal(size=(BATCH, 5, 1)).astype(np.float32),
        "sound_present": rng.random(BATCH) < 0.7,
        "tags": tags,
        "valid": np.arange(BATCH) % 7 < 4,
    }
    targets = np.array([[index in row for index in range(6)] for row in tags], np.float32)

    def terms(outputs):
        sign = 1 - 2 * targets
        return {"loss": jnp.logaddexp(0, sign * outputs)[batch["valid"]].mean()}

    return Case(SoundTagging(6), logits_of_sounds, batch, terms)


def point_cloud_classification():
    """Clouds of 3 points; 10 valid examples of 16."""
    rng = np.random.default_rng(6)
    batch = {
        "points": rng.normal(size=(BATCH, 3, 3)).astype(np.float32),
        "label": rng.integers(0, 6, BATCH).astype(np.int32),
        "valid": np.arange(BATCH) % 8 < 5,
    }

    def terms(outputs):
        log_p = jax.nn.log_softmax(outputs)[np.arange(BATCH), batch["label"]]
        return {"loss": -log_p[batch["valid"]].mean()}

    return Case(PointCloudClassification(6, label_smoothing=0.0), logits_of_images, batch, terms)


def optical_flow():
    """Flow known everywhere, at a few pixels, or nowhere; unknown flow is NaN."""
    rng = np.random.default_rng(1)
    sizes = [144, 40, 8, 2, 0, 0, 1, 144, 1, 1, 1, 1, 90, 3, 2, 1]
    known = np.stack([rng.permutation(144).reshape(12, 12) < size for size in sizes])
    flow = rng.normal(size=(BATCH, 12, 12, 2), scale=30).astype(np.float32)
    # The fewer pixels are known, the faster they move.
    flow *= 1 + 5 / (1 + np.float32(sizes)[:, None, None, None])
    flow[~known] = np.nan
    valid = np.arange(BATCH) != 7
    batch = {
        "frames": rng.integers(0, 256, (BATCH, 2, 12, 12, 3), np.uint8),
        "flow": flow,
        "flow_valid": known,
        "valid": valid,
    }
    counted = known & valid[:, None, None]

    def terms(outputs):
        error = outputs[counted] - flow[counted]
        return {"loss": jnp.sqrt(jnp.square(error).sum(-1)).mean() / 20}

    return Case(OpticalFlow("end_point"), flow_of_frames, batch, terms)


def masked_lm():
    """Texts with many masked places, few, or none, and padding."""
    rng = np.random.default_rng(2)
    counts = np.array([8, 1, 0, 3, 0, 0, 8, 2, 5, 1, 1, 1, 7, 3, 0, 4])
    valid = np.arange(BATCH) != 3
    places = np.arange(8) < counts[:, None]
    batch = {
        "text": rng.integers(0, 20, (BATCH, 12), np.int32),
        "text_mask": np.ones((BATCH, 12), bool),
        "query": rng.integers(0, 12, (BATCH, 8), np.int32),
        "query_mask": places,
        "target": rng.integers(0, 20, (BATCH, 8), np.int32),
        "target_bytes": np.ones((BATCH, 8), np.int32),
        "valid": valid,
    }
    row, place = np.nonzero(places & valid[:, None])

    def terms(outputs):
        log_p = jax.nn.log_softmax(outputs)
        return {"loss": -log_p[row, place, batch["target"][row, place]].mean()}

    return Case(MaskedLanguageModelling(20), logits_of_texts, batch, terms)


@tiny.transformed
def sentence_outputs(inputs, input_mask, is_training):
    del is_training
    return hk.Linear(3)(jnp.where(input_mask, inputs, 0).astype(jnp.float32) / 200)


@tiny.transformed
def sentence_score(inputs, input_mask, is_training):
    del is_training
    return hk.Linear(1)(jnp.where(input_mask, inputs, 0).astype(jnp.float32) / 200)


@tiny.transformed
def word_outputs(inputs, input_mask, query, is_training):
    del is_training
    ids = jnp.where(input_mask, inputs, 0).astype(jnp.float32) / 200
    return hk.Linear(3)(jnp.take_along_axis(ids, query, axis=1)[..., None])


def texts(rng):
    """Token ids of texts of several lengths, of which 9 are valid."""
    lengths = rng.integers(1, 11, BATCH)
    return {
        "text": rng.integers(6, 262, (BATCH, 10)).astype(np.int32),
        "text_mask": np.arange(10) < lengths[:, None],
        "valid": np.isin(np.arange(BATCH), [0, 1, 2, 3, 5, 6, 11, 12, 13]),
    }


def text_classification():
    """Labels of classes; the padding at the end has label 0."""
    rng = np.random.default_rng(2)
    batch = texts(rng) | {"label": rng.integers(0, 3, BATCH).astype(np.int32)}
    batch["label"][~batch["valid"]] = 0
    valid = batch["valid"]

    def terms(outputs):
        log_p = jax.nn.log_softmax(outputs)
        return {"loss": -log_p[np.arange(BATCH), batch["label"]][valid].mean()}

    return Case(TextClassification(3), sentence_outputs, batch, terms)


def text_regression():
    """Scores of order 1."""
    rng = np.random.default_rng(3)
    batch = texts(rng) | {"label": rng.normal(size=BATCH).astype(np.float32)}
    valid = batch["valid"]

    def terms(outputs):
        return {"loss": jnp.square(outputs[:, 0] - batch["label"])[valid].mean()}

    return Case(TextRegression(), sentence_score, batch, terms)


def text_tagging():
    """From 1 to 4 words in each text."""
    rng = np.random.default_rng(4)
    batch = texts(rng) | {
        "word": np.sort(rng.integers(0, 10, (BATCH, 4)), axis=1).astype(np.int32),
        "word_mask": np.arange(4) < rng.integers(1, 5, (BATCH, 1)),
        "label": rng.integers(0, 3, (BATCH, 4)).astype(np.int32),
    }
    counted = batch["word_mask"] & batch["valid"][:, None]

    def terms(outputs):
        log_p = jax.nn.log_softmax(outputs)
        label = jax.nn.one_hot(batch["label"], 3)
        return {"loss": -(log_p * label).sum(-1)[counted].mean()}

    return Case(TextTagging(3), word_outputs, batch, terms)


@tiny.transformed
def outputs_of_tasks(inputs, input_mask, query, is_training):
    del is_training
    ids = jnp.where(input_mask, inputs["ids"], 0).astype(jnp.float32) / 200
    ids += inputs["task"][:, None] + query[:, None]
    return hk.Linear(9)(ids).reshape(-1, 3, 3)


def text_multitask():
    """Two tasks with 3 and 2 classes, and one with scores; the devices have different mixtures."""
    rng = np.random.default_rng(5)
    kind = rng.integers(0, 3, BATCH).astype(np.int32)
    labels = [rng.integers(0, 3, BATCH), rng.normal(size=BATCH), np.arange(BATCH) % 2]
    label = np.choose(kind, labels)
    batch = texts(rng) | {"task": kind, "label": label.astype(np.float32)}
    valid = batch["valid"]
    assert {*kind[valid]} == {0, 1, 2}

    def terms(outputs):
        losses = []
        for row in np.flatnonzero(valid):
            own, label = outputs[row, kind[row]], batch["label"][row]
            if kind[row] == 1:
                losses.append(jnp.square(own[0] - label))
            else:
                logits = own[:2] if kind[row] == 2 else own
                losses.append(-jax.nn.log_softmax(logits)[int(label)])
        return {"loss": jnp.stack(losses).mean()}

    names = ("a", "b", "c")
    task = TextMultitask(tasks=names, num_classes=(3, 1, 2), metrics_averaged=names)
    return Case(task, outputs_of_tasks, batch, terms)


@tiny.transformed
def decoded_points(inputs, query, is_training):
    """Outputs from the coordinates and the means of what is given."""
    del is_training
    present = {name: x.astype(jnp.float32)[:, None] for name, x in inputs["present"].items()}
    given = jnp.concatenate(
        [
            present[name] * inputs[name].mean(tuple(range(1, inputs[name].ndim - 1)))
            for name in ("audio", "image", "label")
        ],
        axis=1,
    )

    def decode(name, width):
        x = query[name]
        return hk.Linear(width, name=name)(x) + hk.Linear(width, name=f"{name}_given")(
            given[:, None]
        )

    label = hk.Linear(3, name="label")(given)
    return {"image": decode("image", 3), "audio": decode("audio", 5), "label": label}


def multimodal_autoencoding():
    """Clips with 1 to 4 real frames, some without sound, any hidden; 11 valid examples of 16."""
    rng = np.random.default_rng(7)
    valid, count = np.arange(BATCH) % 3 != 1, rng.integers(1, 5, BATCH)
    flag = lambda: rng.random(BATCH) < 0.5  # noqa: E731
    batch = {
        "image": rng.integers(0, 256, (BATCH, 4, 2, 3, 3), np.uint8),
        "audio": rng.normal(size=(BATCH, 8, 5)).astype(np.float32),
        "label": rng.integers(0, 3, BATCH).astype(np.int32),
        "is_real": np.arange(4) < count[:, None],
        "has_sound": np.arange(BATCH) % 4 != 0,
        "image_points": rng.integers(0, 24, (BATCH, 7)).astype(np.int32),
        "audio_points": rng.integers(0, 8, (BATCH, 4)).astype(np.int32),
        "valid": valid,
        **{f"{name}_present": flag() for name in ("audio", "image", "label")},
    }
    rows = np.arange(BATCH)[:, None]
    pixels = batch["image"].reshape(BATCH, 24, 3)[rows, batch["image_points"]] / np.float32(255)
    patches = batch["audio"][rows, batch["audio_points"]]
    # 6 pixels and 2 patches of sound for each frame.
    in_image = batch["is_real"][rows, batch["image_points"] // 6] & valid[:, None]
    in_audio = batch["is_real"][rows, batch["audio_points"] // 2] & valid[:, None]
    in_audio &= batch["has_sound"][:, None]

    def terms(outputs):
        log_p = jax.nn.log_softmax(outputs["label"])[np.arange(BATCH), batch["label"]]
        return {
            "loss_image": jnp.abs(outputs["image"] - pixels)[in_image].mean(),
            "loss_audio": jnp.abs(outputs["audio"] - patches)[in_audio].mean(),
            "loss_label": -log_p[valid].mean(),
        }

    task = MultimodalAutoencoding(3, image_weight=0.3, label_weight=0.1)
    return Case(task, decoded_points, batch, terms)


@tiny.transformed
def logits_of_commands(inputs, query, is_training):
    del is_training
    x = hk.Flatten()(inputs["units"]) + query["action"][:, None] + query["selected"].sum(1)[:, None]
    return {
        "action": hk.Linear(4, name="action")(x),
        "selected": hk.Linear(24, name="selected")(x).reshape(-1, 4, 6),
        "target": hk.Linear(5, name="target")(x),
    }


def unit_commands():
    """Selections of 1 to 4 of 5 units; any part may be unknown; 10 valid examples of 16."""
    rng = np.random.default_rng(8)
    count = np.arange(BATCH) % 5
    selected = np.stack([rng.permutation(5)[:4] for _ in range(BATCH)])
    selected[np.arange(4) >= count[:, None]] = -1
    selected[count == 0, 0] = -2
    batch = {
        "units": rng.normal(size=(BATCH, 5, 3)).astype(np.float32),
        "unit_mask": np.ones((BATCH, 5), bool),
        "selectable": np.ones((BATCH, 5), bool),
        "action": rng.choice([-2, 0, 1, 2, 3], BATCH).astype(np.int32),
        "selected": selected.astype(np.int32),
        "target": rng.integers(-2, 5, BATCH).astype(np.int32),
        "valid": np.arange(BATCH) % 8 < 5,
    }

    def terms(outputs):
        log_p = jax.tree.map(jax.nn.log_softmax, outputs)
        found = {"loss_action": [], "loss_selected": [], "loss_target": []}
        for row in np.flatnonzero(batch["valid"]):
            for part in ("action", "target"):
                if (label := batch[part][row]) >= 0:
                    found[f"loss_{part}"].append(-log_p[part][row, label])
            # The end, as the sixth choice, follows if there is a step left.
            picks = [*selected[row][selected[row] >= 0], 5][:4] if count[row] else []
            found["loss_selected"] += [
                -log_p["selected"][row, step, pick] for step, pick in enumerate(picks)
            ]
        return {name: jnp.stack(values).mean() for name, values in found.items()}

    return Case(UnitCommands(4), logits_of_commands, batch, terms)


def two_terms():
    """Padding, a term with few elements, and counts below 1."""
    batch = tiny.take(tiny.examples("train"), np.arange(11), BATCH)
    valid = batch["valid"]
    large = (batch["x"][:, : tiny.CLASSES] > 1) & valid[:, None]
    assert 0 < large.sum() < valid.sum() and len({*large.sum(1)}) > 1

    def terms(outputs):
        log_p = jax.nn.log_softmax(outputs)
        return {
            "loss_class": -log_p[np.arange(BATCH), batch["y"]][valid].mean(),
            "loss_size": jnp.square(outputs[large]).mean(),
        }

    return Case(tiny.TwoTerms(), tiny.mlp, batch, terms)


CASES = {
    "image_classification": image_classification,
    "masked_lm": masked_lm,
    "multimodal_autoencoding": multimodal_autoencoding,
    "optical_flow": optical_flow,
    "point_cloud_classification": point_cloud_classification,
    "sound_tagging": sound_tagging,
    "text_classification": text_classification,
    "text_multitask": text_multitask,
    "text_regression": text_regression,
    "text_tagging": text_tagging,
    "two_terms": two_terms,
    "unit_commands": unit_commands,
}
STRATEGIES = {
    "mesh of 1": mesh_of_one_device,
    "mesh of 4": lambda: Mesh(fsdp=1),
    "mesh of 2x2": lambda: Mesh(fsdp=2),
    "pmap on 4": lambda: Pmap(),
}


def variables(case):
    inputs = case.task.model_inputs(case.batch)
    params, model_state = case.model.init(jax.random.key(0), **inputs)
    return jax.tree.map(lambda x: x + 0.1, params), model_state


@functools.cache
def expected(name):
    """A case, and metrics and gradient of its whole batch, by definition."""
    case = CASES[name]()

    def loss(params):
        inputs = case.task.model_inputs(case.batch)
        outputs, _ = case.model.apply(params, {}, None, **inputs, is_training=True)
        terms = case.terms(outputs)
        return sum(case.task.loss_weights[name] * mean for name, mean in terms.items()), terms

    params, _ = jax.jit(lambda: variables(case))()
    (value, terms), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return case, terms | {"loss": value}, gradient


def first_step(case, strategy, accumulate):
    """Metrics and gradient of a training step."""
    # After one step, the momentum is the gradient.
    optimizer = optax.sgd(1.0, momentum=0.9)

    def initialise():
        return initial_state(*variables(case), optimizer, ema=False)

    template = strategy.template(jax.eval_shape(initialise))
    state = strategy.adopt(parallel.make(initialise, template))
    schedule = optax.constant_schedule(1.0)
    step = TrainStep(case.model, case.task, optimizer, schedule, 0, accumulate, None)
    state, metrics = strategy.compile_train(step, state)(state, strategy.place(case.batch))
    return strategy.fetch(metrics), strategy.snapshot(state).opt_state[0].trace


def test_every_task_is_among_the_cases():
    assert TASKS.keys() <= CASES.keys()


# The case with several terms as a whole and in microbatches under every strategy; the others in
# microbatches under the two that split a loss differently.
SPLITS = [
    *(("two_terms", accumulate, strategy) for accumulate in (1, 4) for strategy in STRATEGIES),
    *((name, 4, "mesh of 4") for name in CASES if name != "two_terms"),
    *((name, 2, "pmap on 4") for name in CASES),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accumulate", "strategy"), SPLITS)
def test_loss_does_not_depend_on_how_a_batch_is_split(name, accumulate, strategy):
    case, means, gradient = expected(name)
    metrics, found = first_step(case, STRATEGIES[strategy](), accumulate)
    norms = {"gradient_norm", "update_norm", "learning_rate"}
    assert metrics.keys() == means.keys() | norms, "each term once, and no other"
    for metric, value in means.items():
        np.testing.assert_allclose(metrics[metric], value, rtol=1e-5)
    largest = max(np.abs(x).max() for x in jax.tree.leaves(gradient))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest),
        found,
        gradient,
    )


@pytest.mark.parametrize("name", CASES)
def test_a_batch_that_covers_nothing_has_no_loss(name):
    case = CASES[name]()
    case.batch["valid"][:] = False
    metrics, gradient = first_step(case, Pmap(), 2)
    assert metrics["loss"] == 0
    assert not any(np.any(x) for x in jax.tree.leaves(gradient))


def test_masked_sum_ignores_uncovered_elements():
    values = jnp.array([1.0, jnp.nan, 3.0, -jnp.inf])
    mask = np.array([True, False, True, False])
    assert losses.sum_and_count(values, mask) == (4, 2)
    assert losses.sum_and_count(values, 0.25 * mask) == (1, 0.5)
    gradient = jax.grad(losses.masked_sum)(values, 0.25 * mask)
    np.testing.assert_array_equal(gradient, 0.25 * mask)


def test_masked_sum_of_booleans():
    right = np.array([True, True, False, True])
    assert losses.sum_and_count(right, np.array([True, True, True, False])) == (2, 3)


def test_counts_beyond_the_integers_of_float32():
    num_pixels = 2**24 + 2
    assert losses.count(np.ones(num_pixels, bool)) == num_pixels


def test_a_mask_that_would_be_broadcast():
    with pytest.raises(ValueError, match=r"shape \(3, 3\) have a mask of shape \(3,\)"):
        losses.masked_sum(np.ones((3, 3)), np.ones(3, bool))


@dataclasses.dataclass(frozen=True)
class Inconsistent(tiny.TwoTerms):
    """A task in which each of the three may have the term `loss_size` or not."""

    missing: str

    @property
    def loss_weights(self):
        return self._without("loss_weights", tiny.TwoTerms.loss_weights)

    def loss_masks(self, batch):
        return self._without("loss_masks", super().loss_masks(batch))

    def losses(self, outputs, batch):
        return self._without("losses", super().losses(outputs, batch))

    def _without(self, what, terms):
        return {k: v for k, v in terms.items() if what != self.missing or k != "loss_size"}


@pytest.mark.parametrize("missing", ["loss_weights", "loss_masks", "losses"])
def test_terms_must_agree(missing):
    batch = tiny.take(tiny.examples("train"), np.arange(4), 4)
    with pytest.raises(ValueError, match="loss_size"):
        losses.batch_loss(Inconsistent(missing), jnp.ones((4, tiny.CLASSES)), batch)
