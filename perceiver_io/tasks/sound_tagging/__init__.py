"""Classes of sounds and videos, any number for each."""
