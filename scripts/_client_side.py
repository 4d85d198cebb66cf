"""The side of `transformers` in `scripts.check_clients`, for an environment with torch and Pillow.

python -m scripts._client_side FOLDER QUESTIONS

Answers what `questions.json` in the folder QUESTIONS asks of the model in FOLDER, as a person would
with transformers, into `answers.npz` beside it.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from scripts._transformers_side import frame_patches

FLOW_UNIT = 20.0
"""Pixels that a unit of flow stands for there."""


def classes(folder: Path, questions: Path) -> dict[str, np.ndarray]:
    """`probabilities` [N, classes] of the images whose paths are asked about."""
    classifier = transformers.pipeline("image-classification", model=str(folder))
    numbers = classifier.model.config.label2id
    paths = json.loads((questions / "questions.json").read_text())
    probabilities = np.zeros((len(paths), len(numbers)))
    for row, found in zip(probabilities, classifier(paths, top_k=len(numbers)), strict=True):
        row[[numbers[entry["label"]] for entry in found]] = [entry["score"] for entry in found]
    return {"probabilities": probabilities}


def masks(folder: Path, questions: Path) -> dict[str, np.ndarray]:
    """`probabilities` [U, ids] of the unknown bytes of texts; padded, `ids` and `mask` of these."""
    filler = transformers.pipeline("fill-mask", model=str(folder))
    texts = json.loads((questions / "questions.json").read_text())
    num_ids = filler.model.config.vocab_size
    rows = []
    for text in texts:
        found = filler(text, top_k=num_ids)
        for place in found if isinstance(found[0], list) else [found]:
            row = np.zeros(num_ids)
            row[[entry["token"] for entry in place]] = [entry["score"] for entry in place]
            rows.append(row)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    padded = tokenizer(texts, padding="max_length", return_tensors="np")
    shorter = tokenizer(texts, padding=True, return_tensors="np")["input_ids"]
    return {
        "probabilities": np.stack(rows),
        "ids": padded["input_ids"],
        "mask": padded["attention_mask"],
        "shorter_ids": shorter,
    }


@torch.inference_mode()
def flow(folder: Path, questions: Path) -> dict[str, np.ndarray]:
    """`flow` [1, H, W, 2] in pixels of `frames.npy` [1, 2, H, W, 3], from -1 to 1."""
    model = transformers.PerceiverForOpticalFlow.from_pretrained(folder).eval()
    patches = frame_patches(np.load(questions / "frames.npy"))
    return {"flow": FLOW_UNIT * model(patches).logits.numpy()}


if __name__ == "__main__":
    transformers.utils.logging.disable_progress_bar()
    folder, questions = map(Path, sys.argv[1:])
    (architecture,) = json.loads((folder / "config.json").read_text())["architectures"]
    answer = {"PerceiverForMaskedLM": masks, "PerceiverForOpticalFlow": flow}.get(
        architecture, classes
    )
    np.savez(questions / "answers.npz", **answer(folder, questions))
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
