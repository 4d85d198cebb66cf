"""What `experiments.predict` does for each of its tasks."""
