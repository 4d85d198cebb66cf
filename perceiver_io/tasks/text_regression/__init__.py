"""Scores of sentences and pairs."""
