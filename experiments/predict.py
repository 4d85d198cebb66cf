"""Applies a trained model to your own images, point clouds, texts and videos.

    python -m experiments.predict --task=classify --weights=WEIGHTS --inputs=IMAGE_OR_FOLDER
    python -m experiments.predict --task=classify_points --weights=WEIGHTS --inputs=MESH_OR_FOLDER
    python -m experiments.predict --task=fill_mask --weights=WEIGHTS --text="The sky is [MASK:4]."
    python -m experiments.predict --task=flow --weights=WEIGHTS --inputs=FIRST --inputs=SECOND
    python -m experiments.predict --task=autoencode --weights=WEIGHTS --inputs=VIDEO
    python -m experiments.predict --task=classify_text --weights=WEIGHTS --inputs=TABLE
    python -m experiments.predict --task=command_units --weights=WEIGHTS --inputs=GAME

Like `classify_text` are `score_text` and `tag_text`: they take --text=TEXT, too, and answer in
`predictions.jsonl`.

All need --output=DIR, the folder for the results, which include `predictions.json`. WEIGHTS is a
run folder of this project, one of its checkpoints, a Hugging Face folder, an original pickle, or
bundled:NAME. In Python, `perceiver_io.load(WEIGHTS).predict` returns the same results as arrays.
"""

from absl import flags

from perceiver_io.runtime import program

TASK = flags.DEFINE_string("task", None, "Name of the task of the weights.", required=True)
WEIGHTS = flags.DEFINE_string(
    "weights", None, "Run folder, published weights or bundled:NAME.", required=True
)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the results.", required=True)
SETTING = flags.DEFINE_multi_string(
    "setting", [], "NAME=VALUE that original weights do not state, such as num_heads=8; repeatable."
)
JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")
# Flags specific to certain tasks, each of which has its own defaults.
FLAGS_OF_TASKS = (
    flags.DEFINE_multi_string("inputs", None, "Files or folders; repeatable."),
    flags.DEFINE_multi_string("text", None, "A text; [MASK] or [MASK:5] in it; repeatable."),
    flags.DEFINE_string("subset", None, "Which of the tasks of a model of several."),
    flags.DEFINE_list("columns", None, "Columns of texts in tables, such as sentence1,sentence2."),
    flags.DEFINE_integer("pictures", None, "Most images, clouds or texts to draw."),
    flags.DEFINE_bool("attention", None, "Draw attention maps: attention_*.png."),
    flags.DEFINE_integer("top_k", None, "Number of answers to list."),
    flags.DEFINE_integer("batch_size", None, "Images, clouds, texts or tiles at a time."),
    flags.DEFINE_integer("sample_seed", None, "Draw commands at random, with this seed."),
    flags.DEFINE_integer("steps", None, "Steps in which a text is filled in."),
    flags.DEFINE_integer("chunk_size", None, "Points decoded at a time."),
    flags.DEFINE_integer("overlap", None, "Least overlap of adjacent flow tiles, in pixels."),
    flags.DEFINE_string("flow_format", None, "Format of flow files: `flo`, or `kitti` (PNG)."),
)


def main() -> None:
    """Writes and prints the results."""
    from perceiver_io.runtime import prediction

    program.start_jax()
    given = {flag.name: flag.value for flag in FLAGS_OF_TASKS if flag.value is not None}
    folder = str(program.folder(OUTPUT))
    report = prediction.write(TASK.value, WEIGHTS.value, folder, given, SETTING.value)
    print(prediction.as_json(report) if JSON.value else report.text)


if __name__ == "__main__":
    program.run(main, TASK, WEIGHTS, OUTPUT)
