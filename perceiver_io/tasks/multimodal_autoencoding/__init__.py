"""Autoencoding of videos with sound and a class label."""
