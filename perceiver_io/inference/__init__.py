"""Inference: plain functions around a model's `apply`, `encode` and `decode`."""
