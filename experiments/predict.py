"""What a trained model makes of a person's own images, texts and videos.

    python -m experiments.predict --task=classify --weights=WEIGHTS --inputs=IMAGE_OR_FOLDER
    python -m experiments.predict --task=fill_mask --weights=WEIGHTS --text="The sky is [MASK:4]."
    python -m experiments.predict --task=flow --weights=WEIGHTS --inputs=FIRST --inputs=SECOND
    python -m experiments.predict --task=autoencode --weights=WEIGHTS --inputs=VIDEO

Each with --output=DIR, the folder for the results, `predictions.json` among them. WEIGHTS is a run
folder of this project, one of its checkpoints, a folder of Hugging Face, an original pickle, or
bundled:NAME. In Python, `perceiver_io.load(WEIGHTS).predict` gives the same as arrays.
"""

import json

from absl import flags

from perceiver_io.runtime import program

TASK = flags.DEFINE_string("task", None, "The task of the weights, by its name.", required=True)
WEIGHTS = flags.DEFINE_string(
    "weights", None, "Run folder, published weights or bundled:NAME.", required=True
)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the results.", required=True)
SETTING = flags.DEFINE_multi_string(
    "setting", [], "NAME=VALUE that original weights do not show, such as num_heads=8; repeatable."
)
JSON = flags.DEFINE_bool("json", False, "Prints one JSON object.")
# Flags of single tasks; each task has its own defaults.
FLAGS_OF_TASKS = (
    flags.DEFINE_multi_string("inputs", None, "Files or folders; repeatable."),
    flags.DEFINE_multi_string("text", None, "A text with [MASK] or [MASK:5]; repeatable."),
    flags.DEFINE_integer("pictures", None, "Of how many images or texts pictures are drawn."),
    flags.DEFINE_bool("attention", None, "Draws what the model looks at: attention_*.png."),
    flags.DEFINE_integer("top_k", None, "How many answers to list."),
    flags.DEFINE_integer("batch_size", None, "Images, texts or tiles at a time."),
    flags.DEFINE_integer("steps", None, "Steps that a text is filled in."),
    flags.DEFINE_integer("chunk_size", None, "Points that are decoded at a time."),
    flags.DEFINE_integer("overlap", None, "Least pixels that neighbouring tiles of flow share."),
    flags.DEFINE_string("flow_format", None, "Files of flow: `flo`, or `kitti` for KITTI's PNG."),
)


def main() -> None:
    """Writes the results, and prints them."""
    from perceiver_io.runtime import prediction

    program.start_jax()
    given = {flag.name: flag.value for flag in FLAGS_OF_TASKS if flag.value is not None}
    report = prediction.write(TASK.value, WEIGHTS.value, OUTPUT.value, given, SETTING.value)
    print(json.dumps(report.summary, ensure_ascii=False) if JSON.value else report.text)


if __name__ == "__main__":
    program.run(main, TASK, WEIGHTS, OUTPUT)
