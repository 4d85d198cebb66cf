"""What all datasets share: examples, batches and their streams."""
