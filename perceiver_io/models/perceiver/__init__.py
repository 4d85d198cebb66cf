"""Perceiver IO (2107.14795) and the original Perceiver (2103.03206), from the same parts."""
