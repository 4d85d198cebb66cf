"""Taggers of sound and video: sizes of the papers' models, patches, presence of modalities."""

import jax
import numpy as np
import pytest

from perceiver_io.errors import UserError
from perceiver_io.models.architectures import build
from perceiver_io.models.builders import tagging
from tests.helpers import experiments
from tests.helpers.architectures import CLIPS, initialised, small

pytestmark = pytest.mark.usefixtures("for_cpu")

# In millions, as printed in the papers.
PAPER_PARAMETERS = {
    "perceiver_raw_video": 21.0,
    "perceiver_mel_video": 21.0,
    "raw_video": 25.0,
    "mel_video": 88.2,
}


@pytest.mark.parametrize("preset", PAPER_PARAMETERS)
def test_parameters_of_the_papers(preset):
    params, _ = build(experiments.load("audioset", preset).model).shapes()
    count = experiments.num_parameters(params)
    assert round(count / 1e6, 1) == PAPER_PARAMETERS[preset]


def test_numbers_of_inputs_of_the_paper():
    """Perceiver, section 4.2."""
    assert tagging.waveform(61_440, 128, 64).num_tokens == 480
    assert tagging.spectrogram((60, 80), 64).num_tokens == 4800
    assert tagging.video((32, 224, 224), 16).num_tokens == 12_544


@pytest.mark.parametrize("name", ["perceiver_io_clip_tagger", "perceiver_clip_tagger"])
def test_a_missing_modality_has_no_influence(name):
    section, _ = small(name)
    model, params, state = initialised(section, CLIPS)

    @jax.jit
    def apply(inputs):
        return model.apply(params, state, None, inputs=inputs, is_training=False)[0]

    logits = apply(CLIPS)
    assert logits.shape == (2, 5)
    changed = apply(CLIPS | {"sound": CLIPS["sound"] + 1})
    assert np.abs(changed[0] - logits[0]).max() > 1e-3, "the first example has sound"
    np.testing.assert_array_equal(changed[1], logits[1])
    changed = apply(CLIPS | {"video": CLIPS["video"] + 1})
    assert np.abs(changed - logits).max(1).min() > 1e-3, "both have video"


def test_sound_or_video_alone():
    section, _ = small("perceiver_io_clip_tagger")
    for name in ("sound", "video"):
        alone = {key: value for key, value in section.items() if key != name}
        (other,) = {"sound", "video"} - {name}
        assert set(build(alone).input_spec["inputs"]) == {other, "present"}
    neither = {key: value for key, value in section.items() if key not in ("sound", "video")}
    with pytest.raises(UserError, match="sound and config.model.video are both None"):
        build(neither)
