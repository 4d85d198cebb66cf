"""Video files: frames and sound."""
