"""Pairs of frames with their optical flow: datasets, files, augmentation, a renderer."""
