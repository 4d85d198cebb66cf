"""Rendering of random scenes: two frames and the exact optical flow between them."""
