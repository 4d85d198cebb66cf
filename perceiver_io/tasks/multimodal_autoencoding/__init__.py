"""Autoencoding of video, sound and a label."""
