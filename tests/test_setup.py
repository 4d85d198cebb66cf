"""What the programs share: the first batch and the sections are checked."""

import numpy as np
import pytest

from experiments import setup
from perceiver_io.errors import UserError


class _Images:
    def batch_spec(self, batch_size):
        return {"image": ((batch_size, 2), np.float32), "valid": ((batch_size,), np.bool_)}


def test_a_batch_must_be_as_its_dataset_promises():
    good = {"image": np.zeros((3, 2), np.float32), "valid": np.ones(3, bool)}
    assert setup.checked(good, _Images()) is good
    for wrong in (
        {"image": np.zeros((3, 2))},
        {"image": np.zeros((3, 1), np.float32)},
        {"extra": np.zeros(3)},
    ):
        with pytest.raises(UserError, match="_Images is .*but its batch_spec promises"):
            setup.checked(good | wrong, _Images())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.training.update(epochs=3), "config.training.epochs is not a setting"),
        (lambda c: c.logging.update(evry=3), r"config.logging.evry is not .*did you mean 'every'"),
        (lambda c: c.training.__delitem__("accumulate"), "config.training lacks accumulate"),
        (lambda c: c.__delitem__("init_from"), "config lacks init_from"),
        (lambda c: c.task.update(smoothing=0.1), "config.task.smoothing is not a setting"),
        (lambda c: c.data.update(colour=True), "config.data.colour is not a setting of Digits"),
        (
            lambda c: c.parallel.update(name="pmap"),
            r"""parallel.fsdp is not .*section: --config.parallel="{'name': 'pmap', ...}".""",
        ),
        (lambda c: c.parallel.update(fdsp=1), "config.parallel.fdsp .*did you mean 'fsdp'"),
    ],
)
def test_sections_with_missing_or_unexpected_keys(change, message):
    config = setup.config_from_flags("configs/quickstart.py")
    with config.unlocked():
        change(config)
    with pytest.raises(UserError, match=message):
        setup.build_parts(config)
