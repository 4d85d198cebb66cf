"""The streams of the datasets do not change, so that runs can resume.

Each hash is of three training batches. Those of images date from when normalisation was on the
host, and are of the pixels before it; those of flow cover both phases of the curriculum.
"""

import hashlib
import itertools

import numpy as np
import pytest

from perceiver_io.runtime import setup
from tests.helpers import experiments

AUGMENTED = dict(
    image_size=(64, 96), frame_size=(80, 112), plain_examples=2, growth_examples=2, num_workers=0
)
STREAMS = {
    "digits": ("quickstart", None, {}, 8, {"image": "94629f0c70f87750"}),
    "photos": ("photos", "conv", {}, 8, {"image": "ac5df73cdfea5f9f", "label": "c980f88a87972ebb"}),
    "flow": (
        "optical_flow",
        "procedural",
        AUGMENTED,
        2,
        {"frames": "be8835d3a701ec01", "flow": "12cbdfda3538b802"},
    ),
}


@pytest.mark.parametrize("name, preset, data, batch_size, hashes", STREAMS.values(), ids=STREAMS)
def test_streams(name, preset, data, batch_size, hashes):
    config = experiments.load(name, preset)
    config.data.update(data)
    dataset = setup.build_dataset(config, setup.build_task(config))
    stream = dataset.load("train", batch_size=batch_size, training=True, seed=3, shard=(0, 1))
    iterator = iter(stream)
    batches = list(itertools.islice(iterator, 3))
    iterator.close()
    found = {
        key: hashlib.sha256(np.concatenate([batch[key] for batch in batches]).tobytes())
        for key in hashes
    }
    assert {key: digest.hexdigest()[:16] for key, digest in found.items()} == hashes
