"""Assembles the parts of the library into what the programs run."""
