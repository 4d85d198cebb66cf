"""Checks that Hugging Face's transformers answers from an exported folder as this project does.

    python -m scripts.check_clients --torch_python=PYTHON [--weights=WEIGHTS]...

PYTHON is that of another environment: `python -m venv torch && torch/bin/pip install torch==2.13.0
transformers safetensors pillow`. WEIGHTS are what `experiments.export` takes, of a classifier of
images, a masked language model or one of optical flow; by default small ones of each, random, in
tests/goldens, the classifiers once more with a mean, a deviation, a crop and a resampling of their
own. Each is exported; both sides answer from the folder:

- a classifier by `pipeline("image-classification")`: photos of several sizes and kinds, as files.
  Largest difference of a probability.
- a masked language model by `pipeline("fill-mask")`: the probabilities of unknown bytes, among
  bytes as here, where transformers has them among all ids; and `AutoTokenizer` with padding, whose
  ids and mask must be the same.
- optical flow by the model itself, as transformers has no more: relative to the largest flow.

What the weights themselves answer here, before the export, is compared too, for information: a run
crops parts of pixels, and an original file reads texts without special tokens.

Exits with status 1 if a difference is above 1e-4.
"""

import io
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

if not __package__:  # Run as a file: imports start at the repository's root.
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from absl import flags
from PIL import ExifTags, Image

from perceiver_io import data
from perceiver_io.data.text import tokenizers
from perceiver_io.data.text.bytes import ByteTokenizer
from perceiver_io.errors import UserError
from perceiver_io.pretrained.published import save_huggingface
from perceiver_io.runtime import prediction, program, weights
from perceiver_io.runtime.export import export
from perceiver_io.tasks.image_classification.prediction import ImageClassifier
from perceiver_io.tasks.masked_lm.prediction import MaskFiller
from perceiver_io.tasks.optical_flow.prediction import FlowEstimator

TORCH_PYTHON = flags.DEFINE_string(
    "torch_python",
    None,
    "Python of an environment with torch, transformers and Pillow.",
    required=True,
)
WEIGHTS = flags.DEFINE_multi_string("weights", [], "Weights to export and ask; repeatable.")

LIMIT = 1e-4
ROOT = Path(__file__).parents[1]
GOLDENS = ROOT / "tests" / "goldens" / "huggingface"
PHOTOS = Path(data.__file__).parent / "bundled" / "photos" / "photos.zip"
OWN_PREPARATION = dict(
    mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), evaluation_crop=0.9, resample="bilinear"
)
TEXTS = ("The sky is [MASK].", "\u00dcbermut tut [MASK][MASK]ten gut.", "[MASK]")
# Height and width of photos, and the ending of their files.
SIZES = (((64, 64), "png"), ((301, 223), "jpg"), ((97, 640), "jpg"), ((900, 1300), "jpg"))


class Difference(NamedTuple):
    """Of one kind of answer: from transformers, and from the weights before the export."""

    what: str
    client: float
    source: float


def main() -> None:
    """Checks what the flags name."""
    if not Path(TORCH_PYTHON.value).is_file():
        raise UserError(
            f"There is no {TORCH_PYTHON.value}: give the Python of an environment with torch, "
            "transformers and Pillow; `python -m scripts.check_clients --help` says how to make "
            "one."
        )
    good = True
    print(f"{'':60} {'':14} {'transformers':>12} {'not exported':>12}")
    with tempfile.TemporaryDirectory() as temporary:
        for number, source in enumerate(WEIGHTS.value or defaults(Path(temporary) / "own")):
            for found in check(source, Path(temporary) / str(number)):
                good &= found.client <= LIMIT
                print(f"{source:60} {found.what:14} {found.client:12.1e} {found.source:12.1e}")
    sys.exit(not good)


def defaults(folder: Path) -> Iterator[str]:
    """Small random models, and in `folder` the classifiers with preparations of their own."""
    for golden in sorted(GOLDENS.glob("*/config.json")):
        source = str(golden.parent)
        if golden.parent.name in ("masked_lm", "optical_flow"):
            yield source
        elif golden.parent.name.startswith("image_"):
            yield source
            loaded = weights.load(source)
            preparation = dict(loaded.preparation, **OWN_PREPARATION)
            changed = folder / golden.parent.name
            save_huggingface(changed, loaded._replace(preparation=preparation))
            yield str(changed)


def check(source: str, folder: Path) -> Iterator[Difference]:
    """Differences of all kinds of answers of one model, which is exported into the folder."""
    folder.mkdir()
    export(source, str(folder / "model"))
    before, after = prediction.load(source), prediction.load(folder / "model")
    checks = {ImageClassifier: check_classes, MaskFiller: check_masks, FlowEstimator: check_flow}
    if type(after) not in checks:
        raise UserError(f"Nothing of {source} is compared: it is of another task.")
    yield from checks[type(after)](before, after, folder)


def check_classes(
    before: ImageClassifier, after: ImageClassifier, folder: Path
) -> Iterator[Difference]:
    """Probabilities of photos."""
    paths = list(map(str, photos(folder)))
    ours, source = (probabilities(model, paths) for model in (after, before))
    theirs = ask(folder, paths)["probabilities"]
    yield Difference("classes", largest(ours - theirs), largest(ours - source))


def photos(folder: Path) -> Iterator[Path]:
    """Photos of several sizes and kinds; one lies on its side, one is grey."""
    with zipfile.ZipFile(PHOTOS) as archive:
        names = [name for name in archive.namelist() if name.startswith("test/")]
        for number, ((height, width), ending) in enumerate(SIZES):
            name = names[number * (len(names) // len(SIZES))]
            photo = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            photo = photo.resize((width, height), Image.Resampling.BICUBIC)
            orientation = Image.Exif()
            if number == 1:
                orientation[ExifTags.Base.Orientation] = 6
            if number == 2:
                photo = photo.convert("L")
            path = folder / f"photo_{number}.{ending}"
            photo.save(path, exif=orientation)
            yield path


def probabilities(model: ImageClassifier, paths: Sequence[str]) -> np.ndarray:
    """Of all classes [N, K], in their order."""
    found = model.predict(paths, top_k=len(model.class_names))
    ordered = np.zeros(found.probabilities.shape)
    np.put_along_axis(ordered, found.classes, found.probabilities, axis=1)
    return ordered


def check_masks(before: MaskFiller, after: MaskFiller, folder: Path) -> Iterator[Difference]:
    """Probabilities of unknown bytes, and ids of padded texts."""
    tokenizer = ByteTokenizer()
    ours, source = (byte_probabilities(model) for model in (after, before))
    answers = ask(folder, TEXTS)
    theirs = answers["probabilities"][:, tokenizer.num_reserved :]
    theirs /= theirs.sum(axis=1, keepdims=True)
    yield Difference("masks", largest(ours - theirs), largest(ours - source))
    texts = [tokenizers.encode_masked(tokenizer, text) for text in TEXTS]
    longest = after.trained.section["max_length"]
    padded, mask = tokenizers.pad(tokenizer, texts, longest - 2)
    ids, mask = tokenizers.enclosed(tokenizer, padded, mask)
    different = np.any(ids != answers["ids"]) + np.any(mask != answers["mask"])
    different += np.any(ids[:, : max(map(len, texts)) + 2] != answers["shorter_ids"])
    yield Difference("tokenizer", different, 0.0)


def byte_probabilities(model: MaskFiller) -> np.ndarray:
    """Of each unknown byte of the texts [U, 256]."""
    rows = []
    for found in model.predict(TEXTS, top_k=256):
        ordered = np.zeros(found.probabilities.shape)
        np.put_along_axis(ordered, found.candidates, found.probabilities, axis=1)
        rows.append(ordered)
    return np.concatenate(rows)


def check_flow(before: FlowEstimator, after: FlowEstimator, folder: Path) -> Iterator[Difference]:
    """Flow between random frames of the model's size."""
    frames = np.random.default_rng(0).uniform(-1, 1, (2, *after.trained.section["image_size"], 3))
    frames = frames.astype(np.float32)
    np.save(folder / "frames.npy", frames[None])
    ours, source = after.predict(frames), before.predict(frames)
    scale = np.abs(ours).max()
    theirs = ask(folder, ())["flow"]
    yield Difference("flow", largest(ours - theirs) / scale, largest(ours - source) / scale)


def ask(folder: Path, questions: Sequence[str]) -> Mapping[str, np.ndarray]:
    """What transformers answers from the folder `model`."""
    (folder / "questions.json").write_text(json.dumps(questions))
    command = [TORCH_PYTHON.value, "-m", "scripts._client_side", folder / "model", folder]
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return np.load(folder / "answers.npz")


def largest(difference: np.ndarray) -> float:
    """The largest entry in size; NaN if there is one."""
    return float(np.abs(difference).max())


if __name__ == "__main__":
    program.run(main)
