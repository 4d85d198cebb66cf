"""Reads and writes published weights: file formats, and how their names map to our models."""
