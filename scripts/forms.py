"""The plain form of a model, which the benchmarks compare with."""

from ml_collections import ConfigDict

from perceiver_io.training.flops import textbook


def plain_form(config: ConfigDict) -> ConfigDict:
    """The config of the same function without anything that saves time or memory.

    That is: attention as it is written, all queries at once, nothing recomputed.
    """
    form = ConfigDict(config.to_dict())
    form.model = textbook(form.model)
    form.model.encoder.latent_stack.remat = False
    form.model.decoder.query_chunk_size = None
    return form
