"""Models of StarCraft II: encodings, entity encoders and the pointer against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from perceiver_io.config.unit_features import COLUMN, UNIT_FEATURES, Bits, Category, Root, Share
from perceiver_io.models.starcraft import pointer
from perceiver_io.models.starcraft.embedding import NUM_ONES, encoded
from perceiver_io.models.weights import MLP, Linear
from tests.helpers.architectures import initialised, small

pytestmark = pytest.mark.usefixtures("for_cpu")

MODELS = ("perceiver_io_commander", "transformer_commander")


def by_hand(row):
    """The concatenated encodings of a unit: one-hot ones, then numbers."""
    ones, numbers = [], []
    for (_, encoding), value in zip(UNIT_FEATURES.values(), row, strict=True):
        if isinstance(encoding, Share):
            numbers.append(value / encoding.whole)
        elif isinstance(encoding, Bits):
            text = format(int(value), "b").zfill(encoding.digits)[::-1]
            numbers += [float(x) for x in text[: encoding.digits]]
        elif isinstance(encoding, Category):
            ones.append(np.eye(encoding.size)[min(int(value), encoding.size - 1)])
        elif isinstance(encoding, Root):
            size = int(encoding.most**0.5) + 1
            ones.append(np.eye(size)[int(min(value, encoding.most) ** 0.5)])
        else:
            ones.append(np.eye(encoding.most + 1)[int(min(value, encoding.most))])
    return np.concatenate(ones), np.array(numbers)


def test_encodings():
    rows = np.random.default_rng(0).uniform(0, 2000, (1, 5, len(UNIT_FEATURES)))
    rows = rows.astype(np.float32)
    # At their limits.
    rows[0, 0] = 0
    for name, value in dict(x=255.9, health=1500, shield=999.9, energy=400, cooldown=32.5).items():
        rows[0, 1, COLUMN[name]] = value
    found = encoded(jnp.asarray(rows))
    for place, row in enumerate(rows[0]):
        ones, numbers = by_hand(row)
        assert len(ones) == NUM_ONES
        np.testing.assert_array_equal(np.sort(found.ones[0, place]), np.flatnonzero(ones))
        np.testing.assert_allclose(found.numbers[0, place], numbers, rtol=1e-6)


def apply(model, params, state, inputs, **query):
    function = jax.jit(
        lambda x: model.apply(params, state, None, inputs=x, query=query, is_training=False)[0]
    )
    return jax.tree.map(np.asarray, function(inputs))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_order_and_empty_slots_do_not_matter(name):
    """Permuted units permute the output; more empty slots, whatever is in them, change nothing."""
    section, inputs = small(name)
    model, params, state = initialised(section, inputs)
    selected = np.array([[4, 0, -1], [2, 4, 0]])
    before = apply(model, params, state, inputs, selected=selected)
    order = np.random.default_rng(1).permutation(13)
    place = np.argsort(order)
    empty = {name: np.ones((2, 4, *x.shape[2:]), x.dtype) for name, x in inputs.items()}
    empty["unit_mask"][:] = False
    more = {name: np.concatenate([x, empty[name]], axis=1)[:, order] for name, x in inputs.items()}
    moved = np.where(selected >= 0, place[selected], selected)
    after = apply(model, params, state, more, selected=moved)
    close = dict(rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(after["action"], before["action"], **close)
    np.testing.assert_allclose(after["target"][:, place[:9]], before["target"], **close)
    columns = [*place[:9], 13]
    np.testing.assert_allclose(after["selected"][..., columns], before["selected"], **close)
    assert (after["selected"][..., place[9:]] == pointer.EXCLUDED).all()
    for part in ("selected", "target"):
        own = before["chosen"][part]
        np.testing.assert_array_equal(after["chosen"][part], np.where(own >= 0, place[own], own))
    assert np.abs(before["target"][:, :6]).max() < 1e20 and np.ptp(before["action"]) > 1e-3


K, U, P, S, B = 5, 7, 4, 6, 3


def random_pointer(seed=0):
    rng = np.random.default_rng(seed)

    def layer(i, j):
        return Linear(rng.normal(size=(i, j)) / i**0.5, rng.normal(size=j))

    weights = pointer.Pointer(
        keys=MLP(layer(S, 8), layer(8, K)),
        end=rng.normal(size=K),
        query=MLP(layer(S, 8), layer(8, K)),
        picked=layer(K, 8),
    )
    entities, state = rng.normal(size=(B, U, S)), rng.normal(size=(B, S))
    selectable = np.arange(U) % 3 != np.arange(B)[:, None]
    arrays = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (weights, entities, state))
    return arrays, selectable


def relu_layers(layers, x, extra=0.0):
    hidden = np.maximum(x @ layers.hidden.weight + layers.hidden.bias + extra, 0)
    return hidden @ layers.output.weight + layers.output.bias


def probabilities(weights, entities, state, selectable, picked):
    """Of all units and the end, after the units `picked`, for a single example."""
    keys = np.stack([*(relu_layers(weights.keys, x) for x in entities), weights.end])
    summed = sum((keys[place] for place in picked), np.zeros(K))
    extra = summed @ weights.picked.weight + weights.picked.bias
    logits = keys @ relu_layers(weights.query, state, extra) / K**0.5
    may = [bool(x) and place not in picked for place, x in enumerate(selectable)]
    may.append(bool(picked) or not any(may))
    return scipy.special.softmax(np.where(may, logits, -np.inf))


def test_the_loss_of_known_picks():
    """Teacher forcing: each pick's log probability, one after the other."""
    (weights, entities, state), selectable = random_pointer()
    selected = np.array([[1, 5, -1, -1], [0, 3, 2, 6], [4, -1, -1, -1]])
    among = pointer.choices(weights, entities, jnp.asarray(selectable))
    logits = pointer.known_picks(weights, among, state, jnp.asarray(selected))
    assert logits.shape == (B, P, U + 1)
    found = jax.nn.log_softmax(logits)
    for row in range(B):
        picks = [place for place in selected[row] if place >= 0]
        for step, pick in enumerate([*picks, U][:P]):
            expected = probabilities(
                weights, entities[row], state[row], selectable[row], picks[:step]
            )
            np.testing.assert_allclose(found[row, step, pick], np.log(expected[pick]), rtol=1e-4)
            assert ((found[row, step] < -1e20) == (expected == 0)).all()


@pytest.mark.parametrize("sampled", [False, True])
def test_own_picks_are_selections(sampled):
    """They end, start with a unit, and have none twice and none that cannot be selected."""
    lengths = []
    for seed in range(20):
        (weights, entities, state), selectable = random_pointer(seed)
        selectable[1] = np.arange(U) == 4
        selectable[2] = False
        rng = jax.random.key(seed) if sampled else None
        among = pointer.choices(weights, entities, jnp.asarray(selectable))
        picks = np.asarray(pointer.own_picks(weights, among, state, U + 1, rng))
        for row, own in enumerate(picks):
            units_picked = own[own >= 0]
            count = len(units_picked)
            lengths.append(count)
            assert (own[count:] == pointer.NOTHING).all() and count <= U
            assert len(set(units_picked)) == count and selectable[row, units_picked].all()
            assert (count > 0) == selectable[row].any()
    assert len(set(lengths)) > 3


def test_own_picks_are_the_most_probable_ones():
    (weights, entities, state), selectable = random_pointer(3)
    among = pointer.choices(weights, entities, jnp.asarray(selectable))
    found = np.asarray(pointer.own_picks(weights, among, state, P, None))
    for row in range(B):
        picked = []
        while len(picked) < P:
            best = probabilities(
                weights, entities[row], state[row], selectable[row], picked
            ).argmax()
            if best == U:
                break
            picked.append(int(best))
        assert found[row, : len(picked)].tolist() == picked


def test_random_picks_follow_the_probabilities():
    (weights, entities, state), selectable = random_pointer(1)
    among = pointer.choices(weights, entities[:1], jnp.asarray(selectable[:1]))
    draw = jax.jit(jax.vmap(lambda key: pointer.own_picks(weights, among, state[:1], 1, key)))
    first = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))[:, 0, 0]
    expected = probabilities(weights, entities[0], state[0], selectable[0], [])[:U]
    np.testing.assert_allclose(np.bincount(first, minlength=U) / 4000, expected, atol=0.03)


@pytest.mark.slow
def test_parts_depend_on_those_before_them():
    """The action type sees nothing of the command; the target sees the selection."""
    section, inputs = small(MODELS[0])
    model, params, state = initialised(section, inputs)
    first, other = np.array([[4, 0, -1], [2, -1, -1]]), np.array([[0, 4, -1], [4, -1, -1]])
    one = apply(model, params, state, inputs, selected=first, action=np.array([1, 1]))
    two = apply(model, params, state, inputs, selected=other, action=np.array([2, 1]))
    np.testing.assert_array_equal(one["action"], two["action"])
    jax.tree.map(np.testing.assert_array_equal, one["chosen"], two["chosen"])
    assert np.abs(one["target"] - two["target"])[:, :6].max(1).min() > 1e-3
    changed = np.abs(one["selected"][:, 0] - two["selected"][:, 0]).max(-1)
    assert changed[0] > 1e-3 and changed[1] == 0, "the first pick sees the action type only"
