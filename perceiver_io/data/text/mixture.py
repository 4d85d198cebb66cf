"""Weighted mixtures of plain texts; parts are mixed by their number of crops, hence of tokens."""

from perceiver_io.data.pipeline.mixture import mixture_of
from perceiver_io.data.text import PLAIN
from perceiver_io.data.text.masking import MaskedTextPreparation

mixture = mixture_of(PLAIN, MaskedTextPreparation)
