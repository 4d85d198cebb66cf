"""The flow model that comes with the package: `bundled:flow`."""

import dataclasses

import numpy as np
import pytest

import perceiver_io
from perceiver_io.config.construct import construct
from perceiver_io.data.flow.procedural import ProceduralFlow
from perceiver_io.runtime import configuration, weights

CONFIG = configuration.load("configs/optical_flow.py:laptop", ())


@pytest.mark.slow
def test_it_is_the_model_of_its_config():
    loaded = weights.load("bundled:flow")
    assert {**CONFIG.model.to_dict(), **loaded.model} == CONFIG.model.to_dict()
    files = list(weights.locate("bundled:flow").iterdir())
    assert sum(file.stat().st_size for file in files) < 8e6


@pytest.mark.slow
def test_it_finds_motion_that_it_was_not_trained_on():
    names = (field.name for field in dataclasses.fields(ProceduralFlow))
    settings = {name: CONFIG.data[name] for name in names}
    pairs = construct(ProceduralFlow, settings, "config.data")("test")
    model = perceiver_io.load("bundled:flow")
    errors, lengths = [], []
    for pair in (pairs[index] for index in range(6)):
        (flow,) = model.predict([pair.first, pair.second])
        errors.append(np.linalg.norm(flow - pair.flow.flow, axis=-1).mean())
        lengths.append(np.linalg.norm(pair.flow.flow, axis=-1).mean())
    assert np.mean(errors) < 0.6 * np.mean(lengths)
