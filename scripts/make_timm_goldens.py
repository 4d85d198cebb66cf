"""Makes tests/goldens/timm: a small model of each of timm's CoAtNet families, random weights.

    python -m scripts.make_timm_goldens FOLDER

For an environment with torch, timm and safetensors; torchvision is not needed. Each sub-folder is
one that timm could publish (config.json, model.safetensors), with an image, the result of the stem
and of each stage, and the logits in io.npz.
"""

import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import torch

for part in ("", ".datasets", ".io", ".models", ".ops", ".ops.misc", ".transforms"):
    sys.modules[f"torchvision{part}"] = mock.MagicMock(__spec__=None, __path__=[])
sys.modules["torchvision.transforms.functional"] = mock.MagicMock()

import timm  # noqa: E402
import timm.models  # noqa: E402

MODELS = ("coatnet_0_224", "coatnet_0_rw_224", "coatnet_rmlp_1_rw_224")
IMAGE_SIZE = (64, 96)
# Names with a prefix are settings of one kind of block. Block 1 of a stage differs from block 0.
SIZES = dict(
    embed_dim=(8, 16, 16, 32),
    depths=(2, 2, 2, 3),
    stem_width=(4, 8),
    transformer_dim_head=8,
    transformer_rel_pos_dim=12,
)


def main(folder: Path) -> None:
    """Writes a sub-folder for each model."""
    for name in MODELS:
        torch.manual_seed(0)
        sizes = SIZES | (dict(head_hidden_size=24) if "rw" not in name else {})
        model = timm.create_model(name, img_size=IMAGE_SIZE, num_classes=5, **sizes).eval()
        randomise(model)
        timm.models.save_for_hf(model, folder / name, safe_serialization=True)
        config_file = folder / name / "config.json"
        config = json.loads(config_file.read_text())
        config["pretrained_cfg"]["input_size"] = [3, *IMAGE_SIZE]
        config_file.write_text(json.dumps(config, indent=2) + "\n")
        np.savez_compressed(folder / name / "io.npz", **run(model))


def randomise(model: torch.nn.Module) -> None:
    """Draws all parameters and statistics, so that every one of them counts."""
    with torch.no_grad():
        for name, array in model.state_dict().items():
            if name.endswith("running_var"):
                array.uniform_(0.5, 2)
            elif name.endswith(("running_mean", "bias", "gamma", "table")):
                array.normal_(0, 0.5)
            elif array.ndim == 1:
                array.normal_(1, 0.2)
            elif array.ndim:
                array.normal_(0, array[0].numel() ** -0.5)


def run(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """An image [1, H, W, 3], and what the model makes of it, channels last."""
    x = torch.randn(1, 3, *IMAGE_SIZE)
    arrays = {"in_images": channels_last(x)}
    with torch.no_grad():
        arrays["out_logits"] = model(x).numpy()
        x = model.stem(x)
        arrays["out_map_0"] = channels_last(x)
        for number, stage in enumerate(model.stages, start=1):
            x = stage(x)
            arrays[f"out_map_{number}"] = channels_last(x)
    return arrays


def channels_last(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 1).contiguous().numpy()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
