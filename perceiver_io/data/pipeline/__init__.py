"""The parts all datasets share: examples, batches and streams of batches."""
