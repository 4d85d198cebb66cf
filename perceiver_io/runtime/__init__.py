"""Puts the parts together: what the programs run."""
