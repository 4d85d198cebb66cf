"""File formats of published weights, read without running anything in them."""
