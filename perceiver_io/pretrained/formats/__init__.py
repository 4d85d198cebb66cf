"""File formats of published weights, read without executing any code in them."""
