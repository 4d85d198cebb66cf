"""Datasets: NumPy in, NumPy out."""
