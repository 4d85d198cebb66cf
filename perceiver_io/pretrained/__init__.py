"""Published weights in and out: their files, and their names in our models."""
