"""The published experiments, and tables of their plans."""

from collections.abc import Mapping
from typing import Any

_GIB = 2**30
# One of each kind that differs in cost, of those whose batches divide over that many devices.
_PRESETS = {
    "masked_lm": (
        *("bytes", "bytes_plus_plus", "bytes_128", "bytes_512", "sentencepiece"),
        *("bert_sentencepiece", "bert_bytes"),
    ),
    "imagenet": (
        *("fourier", "learned", "conv", "config_b_fourier", "config_b_conv"),
        *("config_b_fourier_pretrain", "perceiver_fourier", "perceiver_learned"),
        *("perceiver_conv", "perceiver_8_cross_attends", "perceiver_8_unshared"),
        *("perceiver_1_learned", "resnet_50", "vit_b_16", "transformer_64"),
    ),
    "optical_flow": (
        *("patches", "patches_separate", "pixels", "pixels_separate", "conv", "conv_light"),
    ),
    "kinetics": ("88x", "176x", "352x"),
    "audioset": (
        *("perceiver_raw", "perceiver_mel", "perceiver_video", "perceiver_raw_video"),
        *("perceiver_mel_video", "raw_video", "mel_video"),
    ),
    "point_clouds": ("perceiver", "transformer", "resnet_50"),
    "coatnet": (
        *("0", "1", "2", "3", "4", "5", "6", "7"),
        *("0_384", "1_384", "2_384", "3_384", "4_512", "6_512", "7_512"),
    ),
}
# Training steps per second in the Perceiver IO paper, table 1 (SPS).
PAPER = {
    "masked_lm:bytes": 7.6,
    "masked_lm:bytes_plus_plus": 4.2,
    "masked_lm:sentencepiece": 7.4,
    "masked_lm:bert_sentencepiece": 7.3,
    "masked_lm:bert_bytes": 2.9,
}


def experiments() -> list[str]:
    """CONFIG:PRESET of each."""
    return [f"{config}:{preset}" for config, presets in _PRESETS.items() for preset in presets]


def as_table(topology: str, plans: Mapping[str, Mapping[str, Any]]) -> str:
    """The last plan of each experiment; `plans` are as `report.as_json` gives them."""
    lines = [
        "| config | batch | fits | GiB on each device | shards | remat | microbatches "
        "| GB sent | steps/s, estimated | paper |",
        "|---" * 10 + "|",
        *(_row(experiment, plan) for experiment, plan in plans.items()),
    ]
    return "\n".join([f"`{topology}`:", "", *lines])


def _row(experiment: str, found: Mapping[str, Any]) -> str:
    plan = found["plans"][-1]
    sent = sum(entry["amount"] for entry in plan["bytes_sent"])
    cells = [
        f"`{experiment}`",
        str(found["batch_size"]),
        "yes" if plan["fits"] else "no",
        f"{sum(plan['memory'].values()) / _GIB:.1f}",
        str(plan["fsdp"]),
        plan["remat"] or "",
        str(plan["accumulate"]),
        f"{sent / 1e9:.2f}" if plan["seconds"] else "",
        f"{1 / plan['seconds']:.2f}" if plan["seconds"] else "",
        str(PAPER.get(experiment, "")),
    ]
    return f"| {' | '.join(cells)} |"
