"""Strategies compared by tests."""

import jax

from perceiver_io.training.parallel import Mesh


def mesh_of_one_device(monkeypatch):
    """A mesh of the first device only."""
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: 1)
        make_mesh = jax.make_mesh
        patch.setattr(
            jax, "make_mesh", lambda *a, **k: make_mesh(*a, devices=jax.devices()[:1], **k)
        )
        return Mesh(fsdp=1)
