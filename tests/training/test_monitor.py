"""Averages of metrics, and detection of non-finite steps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from perceiver_io.training.monitor import Monitor, NotFiniteError


def test_averages_since_the_last_record():
    monitor = Monitor(jax.device_get)
    for step, loss in enumerate([1.0, 2.0, 6.0]):
        monitor.add(step, {"loss": jnp.float32(loss)})
    assert monitor.average() == {"loss": 3.0}
    monitor.add(3, {"loss": jnp.float32(5.0)})
    assert monitor.average() == {"loss": 5.0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_names_the_first_non_finite_step(bad):
    monitor = Monitor(jax.device_get)
    losses = [1.0, bad, bad]
    for step, loss in enumerate(losses, start=7):
        monitor.add(step, {"loss": jnp.float32(1.0), "update_norm": jnp.float32(loss)})
    with pytest.raises(NotFiniteError) as error:
        monitor.check()
    assert error.value.step == 8


def test_earlier_steps_are_checked_without_a_request():
    monitor = Monitor(jax.device_get)
    monitor.add(1, {"loss": jnp.float32(np.nan)})
    with pytest.raises(NotFiniteError):
        for step in range(2, 5):
            monitor.add(step, {"loss": jnp.float32(1.0)})
