"""Plans: a training step compiled for machines that one does not have, and what it would need."""
