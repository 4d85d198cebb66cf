"""Writes trained weights as a folder that Hugging Face's transformers reads.

    python -m experiments.export --weights=RUN --output=FOLDER

RUN is a run folder of this project, one of its checkpoints, or published weights. Of models that
transformers lacks, the error says which settings differ.
"""

from absl import flags

from perceiver_io.data.vision.imagenet_classes import imagenet_class_names
from perceiver_io.pretrained.weights import save_huggingface
from perceiver_io.runtime import setup, weights

IMAGENET_CLASSES = 1000

WEIGHTS = flags.DEFINE_string("weights", None, "Run folder or published weights.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "New or empty folder to write into.", required=True)
SETTING = flags.DEFINE_multi_string(
    "setting", [], "NAME=VALUE that original weights do not show, such as num_heads=8; repeatable."
)


def main() -> None:
    """Writes the folder."""
    setup.start_jax()
    loaded = weights.load(WEIGHTS.value, **weights.parse_settings(SETTING.value))
    if loaded.class_names is None and loaded.model.get("num_classes") == IMAGENET_CLASSES:
        loaded = loaded._replace(class_names=imagenet_class_names())
    save_huggingface(OUTPUT.value, loaded)
    print(f"{loaded.model['name']} written to {OUTPUT.value}")


if __name__ == "__main__":
    setup.run(main)
