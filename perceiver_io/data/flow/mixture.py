"""Weighted mixtures of the datasets in this folder."""

from perceiver_io.data.flow import DATASETS
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.pipeline.mixture import mixture_of

mixture = mixture_of(DATASETS, FlowPreparation)
