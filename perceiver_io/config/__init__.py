"""Config sections and what is made of them."""
