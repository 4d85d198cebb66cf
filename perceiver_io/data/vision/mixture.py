"""Weighted mixtures of the datasets in this folder."""

from perceiver_io.data.pipeline.mixture import mixture_of
from perceiver_io.data.vision import DATASETS
from perceiver_io.data.vision.images import PhotographPreparation

mixture = mixture_of(DATASETS, PhotographPreparation)
