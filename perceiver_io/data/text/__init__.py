"""Text: tokenizers, and texts to learn a language from."""

# The choices of config.data.name in masked language modelling, as dotted names.
PLAIN = {
    "bundled_text": "perceiver_io.data.text.text_folder.bundled_text",
    "c4": "perceiver_io.data.text.tfds_texts.c4",
    "mixture": "perceiver_io.data.text.mixture.mixture",
    "text_folder": "perceiver_io.data.text.text_folder.text_folder",
    "wikipedia": "perceiver_io.data.text.tfds_texts.wikipedia",
}
