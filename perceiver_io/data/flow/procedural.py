"""Procedural optical flow: endless scenes of moving surfaces with exact flow, drawn when read.

In the spirit of AutoFlow (Sun et al. 2021, arXiv:2104.14544): layers with simple outlines, real and
procedural textures, random motions, motion blur, fog and noise. It needs no files.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np

from perceiver_io.config.construct import construct
from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.flow.rendering.effects import apply_effects
from perceiver_io.data.flow.rendering.limits import check_limits
from perceiver_io.data.flow.rendering.renderer import render
from perceiver_io.data.flow.rendering.scenes import SceneSettings, draw_scene
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source
from perceiver_io.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProceduralFlow(Source):
    """Pairs of frames of random scenes, with dense flow both ways and occlusions.

    Pair i of a split is drawn by a generator keyed by the split and i: it is the same in every run,
    whatever its seed, which decides the order only; no scene or photograph is in two splits.

    Attributes:
        frame_size: (height, width) of the frames before cropping, in pixels.
        num_train: pairs of the split train.
        num_validation: pairs of the split validation.
        num_test: pairs of the split test.
        scene: settings of SceneSettings, the difficulty.
    """

    frame_size: tuple[int, int]
    num_train: int
    num_validation: int
    num_test: int
    scene: Mapping[str, Any]

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    def __post_init__(self) -> None:
        check_limits(self, **{f"num_{split}": (1, 1e9) for split in self.splits})
        if not all(1 <= side <= 4096 for side in self.frame_size):
            raise UserError(
                f"frame_size={self.frame_size} must be at least (1, 1) and at most (4096, 4096): "
                "set config.data.frame_size to a (height, width) between them."
            )
        self._scene_settings()  # Finds wrong settings now.

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs, each rendered when it is indexed."""
        count = getattr(self, f"num_{split}")
        return _Pairs(self._scene_settings(), self.frame_size, split, count)

    def _scene_settings(self) -> SceneSettings:
        return construct(SceneSettings, self.scene, "config.data.scene")


procedural_flow = Composed(ProceduralFlow, FlowPreparation)


@dataclasses.dataclass(frozen=True)
class _Pairs(Sequence[FlowPair]):
    settings: SceneSettings
    size: tuple[int, int]
    split: str
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> FlowPair:
        if not 0 <= index < self.count:
            raise IndexError(f"pair {index} of {self.count}")
        key = (ProceduralFlow.splits.index(self.split), int(index))
        scene_rng, effect_rng = np.random.default_rng(key).spawn(2)
        cv2.setNumThreads(1)  # Worker processes share the cores already.
        rendering = render(draw_scene(self.settings, self.split, self.size, scene_rng))
        first, second = apply_effects(rendering.frames, self.settings.effect_settings(), effect_rng)
        forward, backward = (Flow(flow, np.ones(self.size, bool)) for flow in rendering.flows)
        name = f"procedural {self.split} pair {index}"
        return FlowPair(first, second, forward, backward, rendering.occluded[0], name)
