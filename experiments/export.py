"""Exports trained weights as a folder that Hugging Face's transformers can load.

    python -m experiments.export --weights=RUN --output=FOLDER

RUN is a run folder of this project, one of its checkpoints, or published weights. For models that
transformers does not have, the error message says which settings differ.
"""

from absl import flags

from perceiver_io.runtime import program

WEIGHTS = flags.DEFINE_string("weights", None, "Run folder or published weights.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "New or empty folder to write into.", required=True)
SETTING = flags.DEFINE_multi_string(
    "setting", [], "NAME=VALUE that original weights do not state, such as num_heads=8; repeatable."
)


def main() -> None:
    """Writes the exported folder."""
    from perceiver_io.runtime.export import export

    program.start_jax()
    model = export(WEIGHTS.value, OUTPUT.value, SETTING.value)
    print(f"{model} written to {OUTPUT.value}")


if __name__ == "__main__":
    program.run(main, WEIGHTS, OUTPUT)
