"""Procedural optical flow: random scenes of moving surfaces with exact flow, rendered on the fly.

In the spirit of AutoFlow (Sun et al. 2021, arXiv:2104.14544): layers with simple outlines, real and
procedural textures, random motions, motion blur, fog and noise. It needs no files.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, ClassVar

import cv2
import numpy as np

from perceiver_io.config.annotations import Count, within
from perceiver_io.data.flow.files import Flow
from perceiver_io.data.flow.pair import FlowPair
from perceiver_io.data.flow.pairs import FlowPreparation
from perceiver_io.data.flow.rendering.effects import apply_effects
from perceiver_io.data.flow.rendering.renderer import render
from perceiver_io.data.flow.rendering.scenes import SceneSettings, draw_scene
from perceiver_io.data.pipeline.dataset import Composed
from perceiver_io.data.pipeline.sources import Source

Side = Annotated[int, within(1, 4096)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProceduralFlow(Source):
    """Pairs of frames of random scenes, with dense flow in both directions and occlusions.

    Pair i of a split is drawn by a generator keyed by the split and i, so it is the same in every
    run: the seed of a run decides only the order. No scene or photograph occurs in two splits.

    Attributes:
        frame_size: (height, width) of the frames before cropping, in pixels.
        num_train: number of pairs in the split train.
        num_validation: number of pairs in the split validation.
        num_test: number of pairs in the split test.
        scene: content and difficulty of the scenes.
    """

    frame_size: tuple[Side, Side]
    num_train: Count
    num_validation: Count
    num_test: Count
    scene: SceneSettings

    splits: ClassVar[tuple[str, ...]] = ("train", "validation", "test")

    def __call__(self, split: str) -> Sequence[FlowPair]:
        """The split's pairs, each rendered when indexed."""
        count = getattr(self, f"num_{split}")
        return _Pairs(self.scene, self.frame_size, split, count)


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
        first, second = apply_effects(rendering.frames, self.settings.effects, effect_rng)
        forward, backward = (Flow(flow, np.ones(self.size, bool)) for flow in rendering.flows)
        name = f"procedural {self.split} pair {index}"
        return FlowPair(first, second, forward, backward, rendering.occluded[0], name)
