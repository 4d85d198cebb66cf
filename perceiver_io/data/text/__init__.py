"""Text: tokenizers, texts to learn a language from, and texts with labels."""

# The choices of config.data.name in each task, as dotted names.
PLAIN = {
    "bundled_text": "perceiver_io.data.text.text_folder.bundled_text",
    "c4": "perceiver_io.data.text.tfds_texts.c4",
    "mixture": "perceiver_io.data.text.mixture.mixture",
    "text_folder": "perceiver_io.data.text.text_folder.text_folder",
    "wikipedia": "perceiver_io.data.text.tfds_texts.wikipedia",
}
CLASSIFIED = {
    "glue": "perceiver_io.data.text.glue.glue_classification",
    "text_file": "perceiver_io.data.text.text_file.classified_text_file",
}
SCORED = {
    "glue": "perceiver_io.data.text.glue.glue_regression",
    "text_file": "perceiver_io.data.text.text_file.scored_text_file",
}
TAGGED = {"tagged_file": "perceiver_io.data.text.tagged_file.tagged_file"}
SEVERAL_TASKS = {"task_mixture": "perceiver_io.data.text.task_mixture.task_mixture"}
