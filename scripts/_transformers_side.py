"""The `transformers` side of `scripts.benchmark_transformers`, for an environment with torch.

python -m scripts._transformers_side make|serve MODEL FOLDER
"""

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

from scripts.side_process import GRADIENT, MATRIX_SIZE, serve


@dataclasses.dataclass(frozen=True)
class Case:
    """A published model.

    Attributes:
        model: its class in transformers.
        config: settings that differ from its defaults.
        unit: of its output, in ours. Flow is in units of 20 pixels there.
    """

    model: str
    config: dict
    unit: float = 1.0


CASES = {
    "language": Case("PerceiverForMaskedLM", dict(qk_channels=256, v_channels=1280)),
    "flow": Case(
        "PerceiverForOpticalFlow",
        dict(
            num_latents=2048,
            d_latents=512,
            num_blocks=1,
            num_self_attends_per_block=24,
            num_self_attention_heads=16,
            num_cross_attention_heads=1,
        ),
        unit=20.0,
    ),
    "imagenet": Case(
        "PerceiverForImageClassificationFourier",
        dict(
            num_latents=512,
            d_latents=1024,
            num_blocks=8,
            num_self_attends_per_block=6,
            num_self_attention_heads=8,
            num_cross_attention_heads=1,
            num_labels=1000,
        ),
    ),
}


def make(case: Case, folder: Path) -> None:
    """Saves a model with random weights, including biases and norm scales."""
    model = getattr(transformers, case.model)(transformers.PerceiverConfig(**case.config))
    torch.manual_seed(0)
    with torch.no_grad():
        for weights in model.parameters():
            noise = torch.randn_like(weights)
            if weights.ndim == 1:
                weights += 0.1 * noise
            else:
                weights.copy_(noise * weights.shape[-1] ** -0.5)
    model.save_pretrained(folder)


def serve_case(case: Case, folder: Path) -> None:
    """Runs the saved model on request, with its gradient if the folder has `targets.npy`."""
    model = getattr(transformers, case.model).from_pretrained(folder).eval()
    for weights in model.parameters():
        weights.sum()  # reads the memory-mapped file into memory
    inputs = {
        "language": tokens,
        "flow": frame_patches,
        "imagenet": channels_first,
    }[folder.name](np.load(folder / "inputs.npy"))
    targets = folder / "targets.npy"
    labels = tokens(np.load(targets)).flatten() if targets.exists() else None
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE)

    latest = {}

    @torch.inference_mode()
    def apply() -> None:
        latest["results"] = model(inputs).logits.numpy()

    def gradient() -> None:
        model.zero_grad()  # else the gradients of two runs would be in memory
        logits = model(inputs).logits.flatten(0, -2)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        loss.backward()
        latest["results"] = loss.detach().numpy()

    @torch.inference_mode()
    def multiply() -> None:
        torch.mm(matrix, matrix)

    def save() -> None:
        np.save(folder / "transformers.npy", case.unit * latest["results"])
        if labels is not None:
            save_gradient(model, folder / GRADIENT)

    run = apply if labels is None else gradient
    serve({"run": run, "multiply": multiply, "save": save}, versions=versions())


def save_gradient(model: torch.nn.Module, folder: Path) -> None:
    """Saves the gradient in the form of weights, which it overwrites."""
    with torch.no_grad():
        for weights in model.parameters():
            weights.copy_(weights.grad)
    model.save_pretrained(folder)


def tokens(ids: np.ndarray) -> torch.Tensor:
    """Ids as a torch tensor."""
    return torch.from_numpy(ids.astype(np.int64))


def channels_first(images: np.ndarray) -> torch.Tensor:
    """[B, H, W, C] -> [B, C, H, W]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def frame_patches(frames: np.ndarray) -> torch.Tensor:
    """[B, 2, H, W, 3] -> [B, 2, 27, H, W]: 3x3 neighbourhoods, padded with zeros."""
    _, _, height, width, _ = frames.shape
    padded = np.pad(frames, [(0, 0), (0, 0), (1, 1), (1, 1), (0, 0)])
    shifted = [
        padded[:, :, row : row + height, column : column + width]
        for row in range(3)
        for column in range(3)
    ]
    patches = np.concatenate(shifted, axis=-1).transpose(0, 1, 4, 2, 3)
    return torch.from_numpy(np.ascontiguousarray(patches))


def versions() -> str:
    """Versions of the libraries in use."""
    return f"transformers {transformers.__version__}, torch {torch.__version__}"


if __name__ == "__main__":
    action, name, path = sys.argv[1:]
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    {"make": make, "serve": serve_case}[action](CASES[name], Path(path))
