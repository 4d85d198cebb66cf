"""NumPy references for the models' arithmetic, and helpers for parameters and trees."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np

from perceiver_io.models.perceiver.tokens import dense_positions


def normal(*shape, seed=0):
    """Standard normal numbers in float32."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def random_mask(batch, length, seed=1, empty=True):
    """Each row keeps the first and some others; if `empty`, the last of several rows keeps none."""
    mask = np.random.default_rng(seed).random((batch, length)) < 0.6
    mask[:, 0] = True
    if empty and batch > 1:
        mask[-1] = False
    return jnp.asarray(mask)


def values_and_gradients(function, *arguments):
    """function(*arguments), and the gradients of a random projection of it by all arguments."""

    def both(*arguments):
        value, pullback = jax.vjp(function, *arguments)
        rng = np.random.default_rng(5)
        project = lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype)  # noqa: E731
        return value, pullback(jax.tree.map(project, value))

    return jax.jit(both)(*arguments)


def attention(queries, keys, values, scale, key_mask=None, query_mask=None, bias=None):
    """Attention, one head of one example at a time, in float64: [B, O, H, V]."""
    weights = attention_weights(queries, keys, scale, key_mask, bias)
    batch, num_queries, num_heads, _ = queries.shape
    result = np.zeros((len(weights), num_queries, num_heads, values.shape[-1]))
    for b, h in np.ndindex(len(weights), num_heads):
        result[b, :, h] = weights[b, h] @ example(values, b)[:, h]
        if query_mask is not None:
            result[b, ~example(query_mask, b), h] = 0
    return result


def attention_weights(queries, keys, scale, key_mask=None, bias=None):
    """Softmax over unmasked keys, zeros where all are masked: [B, H, O, M], float64."""
    batch = max(len(x) for x in (queries, keys, key_mask, bias) if x is not None)
    _, num_queries, num_heads, _ = queries.shape
    weights = np.zeros((batch, num_heads, num_queries, keys.shape[1]))
    bias = np.broadcast_to(0 if bias is None else bias, weights.shape)
    for b, h, o in np.ndindex(batch, num_heads, num_queries):
        products = example(keys, b)[:, h].astype(np.float64) @ example(queries, b)[o, h]
        logits = scale * products + bias[b, h, o]
        seen = np.ones(len(logits), bool) if key_mask is None else example(key_mask, b)
        if seen.any():
            exponentials = np.exp(logits[seen] - logits[seen].max())
            weights[b, h, o, seen] = exponentials / exponentials.sum()
    return weights


def attention_gradients(queries, keys, values, scale, cotangent, key_mask=None, bias=None):
    """Gradients of sum(attention * cotangent) by queries, keys, values, and the bias if any."""
    weights = attention_weights(queries, keys, scale, key_mask, bias)
    gradients = [np.zeros((len(weights), *x.shape[1:])) for x in (queries, keys, values)]
    of_bias = np.zeros(weights.shape)
    for b, h in np.ndindex(*weights.shape[:2]):
        a, g = weights[b, h], cotangent[b, :, h]
        of_weights = g @ example(values, b)[:, h].T
        of_logits = a * (of_weights - (a * of_weights).sum(-1, keepdims=True))
        gradients[0][b, :, h] = scale * of_logits @ example(keys, b)[:, h]
        gradients[1][b, :, h] = scale * of_logits.T @ example(queries, b)[:, h]
        gradients[2][b, :, h] = a.T @ g
        of_bias[b, h] = of_logits
    arrays = [queries, keys, values]
    if bias is not None:
        arrays.append(bias)
        gradients.append(of_bias)
    return [unbroadcast(x, y.shape) for x, y in zip(gradients, arrays, strict=True)]


def unbroadcast(x, shape):
    """The sum over the axes that were broadcast from `shape`."""
    axes = tuple(i for i, size in enumerate(shape) if size == 1 < x.shape[i])
    return x.sum(axes, keepdims=True)


def with_dense_positions(tokens):
    """The same tokens with a row of positions for each example."""
    return tokens._replace(positions=dense_positions(tokens.positions))


def example(x, index):
    """The row of an example, as a NumPy array; a batch of one holds for every example."""
    return np.asarray(x[index if len(x) > 1 else 0])


def layer_norm(x, params):
    x = np.asarray(x, np.float64)
    centred = x - x.mean(-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return centred / deviation * params["scale"] + params["offset"]


def linear(x, params):
    return np.asarray(x, np.float64) @ params["w"] + params["b"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def mlp(x, params, name):
    hidden = linear(layer_norm(x, params[f"{name}/norm"]), params[f"{name}/hidden"])
    return linear(gelu(hidden), params[f"{name}/output"])


def multi_head(queries, inputs, params, name, num_heads, key_mask=None, query_mask=None):
    """Multi-head attention with the projections of the module called `name`."""

    def project(x, which):
        x = linear(x, params[f"{name}/{which}"])
        return x.reshape(*x.shape[:2], num_heads, -1)

    q, k, v = project(queries, "query"), project(inputs, "key"), project(inputs, "value")
    attended = attention(q, k, v, q.shape[-1] ** -0.5, key_mask, query_mask)
    return linear(attended.reshape(*attended.shape[:2], -1), params[f"{name}/output"])


def cross_attend(queries, inputs, params, name, num_heads, residual, **masks):
    normal_queries = layer_norm(queries, params[f"{name}/norm_queries"])
    normal_inputs = layer_norm(inputs, params[f"{name}/norm_inputs"])
    x = multi_head(normal_queries, normal_inputs, params, f"{name}/attention", num_heads, **masks)
    x = np.asarray(queries) + x if residual else x
    return x + mlp(x, params, f"{name}/mlp")


def self_attend(x, params, name, num_heads, **masks):
    x = np.asarray(x, np.float64)
    normalised = layer_norm(x, params[f"{name}/norm"])
    attention_name = f"{name}/attention"
    x = x + multi_head(normalised, normalised, params, attention_name, num_heads, **masks)
    return x + mlp(x, params, f"{name}/mlp")


def post_norm_self_attend(x, params, name, num_heads, **masks):
    """The layer as in BERT, with post-normalisation."""
    x = np.asarray(x, np.float64)
    x = x + multi_head(x, x, params, f"{name}/attention", num_heads, **masks)
    x = layer_norm(x, params[f"{name}/norm"])
    hidden = gelu(linear(x, params[f"{name}/mlp/hidden"]))
    x = x + linear(hidden, params[f"{name}/mlp/output"])
    return layer_norm(x, params[f"{name}/mlp/norm"])


def random_params(init, *arguments, **keywords):
    """Random parameters with the shapes of a Haiku `init`, which is traced but not run."""
    init_here = lambda key, x: init(key, *x, **keywords)  # noqa: E731
    return randomised(jax.eval_shape(init_here, jax.random.key(0), arguments))


def random_params_and_state(init, **inputs):
    """The same with Haiku's state, all zeros, like the initial state of batch norm."""
    params, state = jax.eval_shape(lambda key, x: init(key, **x), jax.random.key(0), inputs)
    zeros = lambda x: jnp.asarray(np.zeros(x.shape, x.dtype))  # noqa: E731
    return randomised(params), jax.tree.map(zeros, state)


def randomised(params, seed=0):
    """Parameters of the same shapes without zeros or ones, so that every term counts."""
    rng = np.random.default_rng(seed)

    def draw(module, name, value):
        width = value.shape[0] if name == "w" else 4.0
        return jnp.asarray(
            (name == "scale") + rng.normal(size=value.shape) / np.sqrt(width), value.dtype
        )

    return hk.data_structures.map(draw, params)


def as_float64(params):
    return jax.tree.map(lambda x: np.asarray(x, np.float64), params)


def assert_close(actual, expected, tolerance=1e-5):
    """Checks for each leaf that differences are at most `tolerance` times the largest magnitude."""
    actual, expected = jax.tree.map(np.asarray, (actual, expected))
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    paths = jax.tree_util.tree_leaves_with_path(actual)
    for (path, x), y in zip(paths, jax.tree.leaves(expected), strict=True):
        assert x.shape == y.shape, f"{jax.tree_util.keystr(path)}: {x.shape} for {y.shape}"
        x, y = x.astype(np.float64), y.astype(np.float64)
        limit = tolerance * max(1.0, np.abs(y).max(initial=0.0))
        np.testing.assert_allclose(x, y, rtol=0, atol=limit, err_msg=jax.tree_util.keystr(path))
