"""Floating-point operations of a function, counted in its jaxpr.

XLA's own cost analysis counts the body of a scan once, however often it runs; this one multiplies
by the length.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn


def count_flops(function: Callable, *args: Any) -> int:
    """FLOPs of the matrix products and convolutions in `function(*args)`.

    A multiply-add counts as two, as in the Perceiver papers; all other operations, which are of
    lower order, are ignored. For conditionals, the most expensive branch counts; for
    platform-dependent code, the branch of the current platform. Nothing is computed: `args` may be
    `jax.ShapeDtypeStruct`s.

    Raises NotImplementedError for a while loop around such operations, whose length is unknown.
    """
    return _flops(jax.make_jaxpr(function)(*args).jaxpr)


def _flops(jaxpr: Jaxpr) -> int:
    return sum(map(_equation_flops, jaxpr.eqns))


def _equation_flops(equation: JaxprEqn) -> int:
    match equation.primitive.name:
        case "dot_general":
            return _dot_flops(equation)
        case "conv_general_dilated":
            return _conv_flops(equation)
        case "scan":
            return equation.params["length"] * _flops(equation.params["jaxpr"].jaxpr)
        case "cond":
            return _branch_flops(equation)
        case "while":
            if any(map(_flops, _inner_jaxprs(equation))):
                raise NotImplementedError("a while loop has no known length: use a scan")
            return 0
        case _:
            return sum(map(_flops, _inner_jaxprs(equation)))


def _branch_flops(equation: JaxprEqn) -> int:
    branches = [_flops(branch.jaxpr) for branch in equation.params["branches"]]
    platforms = equation.params.get("branches_platforms")
    if platforms is None:
        return max(branches)
    own = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
    # None stands for all platforms that are not named.
    chosen = (i for i, names in enumerate(platforms) if names is None or own in names)
    return branches[next(chosen)]


def _shape(variable: Any) -> tuple[int, ...]:
    return variable.aval.shape


def _dot_flops(equation: JaxprEqn) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = _shape(equation.invars[0])
    return 2 * math.prod(_shape(equation.outvars[0])) * math.prod(left[i] for i in contracted)


def _conv_flops(equation: JaxprEqn) -> int:
    kernel = _shape(equation.invars[1])
    features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * math.prod(_shape(equation.outvars[0])) * math.prod(kernel) // features


def _inner_jaxprs(equation: JaxprEqn) -> Iterator[Jaxpr]:
    for value in jax.tree.leaves(list(equation.params.values())):
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
