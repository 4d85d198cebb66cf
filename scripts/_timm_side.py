"""The `timm` side of `scripts.benchmark_coatnet`, for an environment with torch.

python -m scripts._timm_side make|serve MODEL FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np
import torch

from scripts.make_timm_goldens import randomise, timm
from scripts.side_process import GRADIENT, MATRIX_SIZE, serve


def make(name: str, folder: Path) -> None:
    """Saves a model with random weights."""
    torch.manual_seed(0)
    model = timm.create_model(name)
    randomise(model)
    save_model(model, folder)


def serve_model(name: str, folder: Path) -> None:
    """Takes a training step with the folder's batch on request."""
    model = timm.create_model(name, checkpoint_path=folder / "model.safetensors").train()
    # oneDNN prefers this order, with which timm, too, trains faster.
    model = model.to(memory_format=torch.channels_last)
    images = torch.from_numpy(np.load(folder / "inputs.npy")).permute(0, 3, 1, 2)
    targets = torch.from_numpy(np.load(folder / "targets.npy"))
    learning_rate, weight_decay = np.load(folder / "optimizer.npy")
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True
    )
    matrix = torch.randn(MATRIX_SIZE, MATRIX_SIZE)
    latest = {}

    def run() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images), targets)
        loss.backward()
        optimizer.step()
        latest["loss"] = loss.item()

    @torch.inference_mode()
    def multiply() -> None:
        torch.mm(matrix, matrix)

    def save() -> None:
        np.save(folder / "timm.npy", np.float32(latest["loss"]))
        with torch.no_grad():
            for weights in model.parameters():
                weights.copy_(weights.grad)
        save_model(model, folder / GRADIENT)

    run()  # creates the optimizer's state
    optimizer.zero_grad()
    versions = f"timm {timm.__version__}, torch {torch.__version__}"
    serve({"run": run, "multiply": multiply, "save": save}, versions=versions)


def save_model(model: torch.nn.Module, folder: Path) -> None:
    """Saves a model as timm publishes them."""
    model = model.to(memory_format=torch.contiguous_format)
    timm.models.save_for_hf(model, folder, safe_serialization=True)


if __name__ == "__main__":
    action, model_name, path = sys.argv[1:]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    {"make": make, "serve": serve_model}[action](model_name, Path(path))
