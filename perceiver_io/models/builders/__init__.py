"""Builders of models: short functions whose arguments are the keys of `config.model`.

Each returns a `Blueprint`. The table of all is in `perceiver_io.models.architectures`.
"""
