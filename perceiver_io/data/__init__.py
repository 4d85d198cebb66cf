"""Datasets: numpy in, numpy out."""
