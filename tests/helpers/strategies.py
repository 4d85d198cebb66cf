"""Strategies compared by tests."""

import jax

from perceiver_io.training.parallel import Mesh


def mesh_of_one_device():
    """A mesh of the first device only."""
    return Mesh(jax.devices()[:1], fsdp=1)


def shardings(template):
    """The shardings of a strategy's template, to place arrays with."""
    return jax.tree.map(lambda leaf: leaf.sharding, template)
