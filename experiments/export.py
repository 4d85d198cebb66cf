"""Writes trained weights as a folder for transformers, or a small one for this project.

    python -m experiments.export --weights=RUN --output=FOLDER [--layout=portable [--dtype=float16]]

RUN is a run folder of this project, one of its checkpoints, or published weights. Of models that
transformers lacks, the error says which settings differ; a portable folder holds any model,
with how its inputs are prepared, and every `--weights` and `perceiver_io.load` takes it.
"""

from absl import flags

from perceiver_io.runtime import program

WEIGHTS = flags.DEFINE_string("weights", None, "Run folder or published weights.", required=True)
OUTPUT = flags.DEFINE_string("output", None, "New or empty folder to write into.", required=True)
SETTING = flags.DEFINE_multi_string(
    "setting", [], "NAME=VALUE that original weights do not state, such as num_heads=8; repeatable."
)
LAYOUT = flags.DEFINE_enum(
    "layout", "transformers", ["transformers", "portable"], "Who is to read the folder."
)
DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16"], "Of the numbers in a portable folder."
)


def main() -> None:
    """Writes the exported folder."""
    from perceiver_io.runtime.export import export

    program.start_jax()
    folder = str(program.folder(OUTPUT))
    model = export(WEIGHTS.value, folder, SETTING.value, LAYOUT.value, DTYPE.value)
    print(f"{model} written to {folder}")


if __name__ == "__main__":
    program.run(main, WEIGHTS, OUTPUT)
