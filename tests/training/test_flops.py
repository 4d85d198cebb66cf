import jax
import jax.numpy as jnp
import pytest

from perceiver_io.training.flops import count_flops

X = jnp.zeros((5, 7))
W = jnp.zeros((7, 7))


def test_a_product_counts_two_for_each_multiply_add():
    assert count_flops(lambda x, w: x @ w, X, W) == 2 * 5 * 7 * 7


def test_batched_products():
    product = lambda x, y: jnp.einsum("bij,bjk->bik", x, y)  # noqa: E731
    assert count_flops(product, jnp.zeros((3, 4, 5)), jnp.zeros((3, 5, 6))) == 2 * 3 * 4 * 5 * 6


def test_scans_multiply_even_when_nested():
    def inner(x, _):
        return x @ W, None

    def outer(x, _):
        return jax.lax.scan(inner, x, None, length=3)[0], None

    twice = lambda x: jax.lax.scan(outer, x, None, length=4)[0]  # noqa: E731
    assert count_flops(twice, X) == 12 * 2 * 5 * 7 * 7


def test_the_gradient_of_a_product_is_two_more_products_and_remat_one_again():
    def layer(w1, w2):
        return (jnp.sin(X @ w1) @ w2).sum()

    one = 2 * 5 * 7 * 7
    plain = count_flops(jax.grad(layer, argnums=(0, 1)), W, W)
    again = count_flops(jax.grad(jax.checkpoint(layer), argnums=(0, 1)), W, W)
    assert plain == 5 * one  # two forward; backward, one per weight and one between the layers
    assert again == plain + one


@pytest.mark.parametrize("groups", [1, 3])
def test_convolutions(groups):
    image, kernel = jnp.zeros((2, 8, 8, 6)), jnp.zeros((3, 3, 6 // groups, 12))

    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(
            image,
            kernel,
            (2, 2),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    assert count_flops(convolve, image, kernel) == 2 * (2 * 4 * 4 * 12) * 9 * 6 // groups


def test_branches_count_their_most_expensive_side_and_calls_are_entered():
    branch = jax.jit(lambda x: jax.lax.cond(x[0, 0] > 0, lambda x: x @ W, lambda x: x, x))
    assert count_flops(branch, X) == 2 * 5 * 7 * 7


@pytest.mark.parametrize("gradient", [False, True])
def test_platform_dependent_code_counts_the_branch_of_its_platform(gradient):
    def product(x):
        twice = lambda x: x @ W @ W  # noqa: E731
        own = lambda x: x @ W  # noqa: E731
        return jax.lax.platform_dependent(x, cpu=own, cuda=twice, default=twice)

    loss = lambda x: product(x).sum()  # noqa: E731
    one = 2 * 5 * 7 * 7
    expected = 2 * one if gradient else one
    assert count_flops(jax.value_and_grad(loss) if gradient else product, X) == expected


def test_an_unknown_length_is_an_error():
    loop = lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 3, lambda x: x @ W, x)  # noqa: E731
    with pytest.raises(NotImplementedError, match="length"):
        count_flops(loop, X)
