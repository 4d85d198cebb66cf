"""Perceiver, Perceiver IO and CoAtNet in JAX and Haiku."""
