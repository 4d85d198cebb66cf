"""What a trained model makes of a person's own images, texts and films.

    python -m experiments.predict --task=classify --weights=WEIGHTS --inputs=IMAGE_OR_FOLDER
    python -m experiments.predict --task=fill_mask --weights=WEIGHTS --text="The sky is [MASK:4]."
    python -m experiments.predict --task=flow --weights=WEIGHTS --inputs=FIRST --inputs=SECOND
    python -m experiments.predict --task=autoencode --weights=WEIGHTS --inputs=VIDEO

Each with --output=DIR, the folder for the results, `predictions.json` among them. WEIGHTS is a run
folder of this project, one of its checkpoints, a folder of Hugging Face, or an original pickle.
"""

import json
from typing import Any

from absl import flags

from perceiver_io.models.architectures import build
from perceiver_io.runtime import program, weights
from perceiver_io.runtime.kinds import KINDS, check_flags, check_model
from perceiver_io.tasks.common import Trained, create_folder
from perceiver_io.tasks.optical_flow.program import FORMATS

TASK = flags.DEFINE_enum("task", None, list(KINDS), "What to predict.", required=True)
WEIGHTS = flags.DEFINE_string("weights", None, "Run folder or published weights.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the results.", required=True)
SETTING = flags.DEFINE_multi_string(
    "setting", [], "NAME=VALUE that original weights do not show, such as num_heads=8; repeatable."
)
JSON = flags.DEFINE_bool("json", False, "Prints one JSON object.")
# Flags of single tasks; each task has its own defaults.
FLAGS_OF_TASKS = (
    flags.DEFINE_multi_string("inputs", None, "Files or folders; repeatable."),
    flags.DEFINE_multi_string("text", None, "A text with [MASK] or [MASK:5]; repeatable."),
    flags.DEFINE_bool("attention", None, "Draws what the model looks at: attention_*.png."),
    flags.DEFINE_integer("top_k", None, "How many answers to list."),
    flags.DEFINE_integer("batch_size", None, "Images, texts or tiles at a time."),
    flags.DEFINE_integer("steps", None, "Steps that a text is filled in."),
    flags.DEFINE_integer("chunk_size", None, "Points that are decoded at a time."),
    flags.DEFINE_integer("overlap", None, "Least pixels that neighbouring tiles of flow share."),
    flags.DEFINE_enum("flow_format", None, list(FORMATS), "Files of flow: .flo, or PNG of KITTI."),
)


def main() -> None:
    """Writes the results, and prints them."""
    kind = KINDS[TASK.value]
    given = {flag.name: flag.value for flag in FLAGS_OF_TASKS if flag.value is not None}
    check_flags(TASK.value, given)
    output = create_folder(OUTPUT.value)
    program.start_jax()
    trained = load(WEIGHTS.value, weights.parse_settings(SETTING.value))
    check_model(TASK.value, WEIGHTS.value, trained.weights.model["name"])
    prediction = kind.predict(trained, output, **given)
    summary = json.dumps(prediction.summary, ensure_ascii=False)
    (output / "predictions.json").write_text(summary + "\n", encoding="utf-8")
    print(summary if JSON.value else prediction.text)


def load(path: str, settings: dict[str, Any]) -> Trained:
    """The weights at a path with their model. Raises UserError if there are none."""
    loaded = weights.load(path, **settings)
    return Trained(build(loaded.model), loaded, weights.load_preparation(path))


if __name__ == "__main__":
    program.run(main)
