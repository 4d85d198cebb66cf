"""Optical flow: robust losses, end-point error, and the metrics of Sintel and KITTI."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import Limit, Natural
from perceiver_io.config.construct import listing
from perceiver_io.data.flow import DATASETS
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.losses import sum_and_count
from perceiver_io.tasks.evaluation import Evaluator, Submitter
from perceiver_io.tasks.optical_flow import figures as flow_figures
from perceiver_io.tasks.optical_flow.evaluation import WholeImages
from perceiver_io.tasks.optical_flow.tiling import scaled
from perceiver_io.tasks.task import Batch, Section, Task

Field = Float[Array, "B H W 2"]
PerPixel = Float[Array, "B H W"]

# Pixels per unit of flow in the loss, as for the published models.
LOSS_UNIT = 20.0

# Limits in pixels per frame of the speed ranges for which Sintel reports errors separately.
SPEEDS = {"s0_10": (0.0, 10.0), "s10_40": (10.0, 40.0), "s40": (40.0, float("inf"))}


def end_point(error: Field) -> PerPixel:
    """The length of the error vector."""
    # The gradient of the square root is infinite at zero.
    return jnp.sqrt(jnp.square(error).sum(-1) + 1e-12)


def l1(error: Field) -> PerPixel:
    """The sum of the absolute errors of both components."""
    return jnp.abs(error).sum(-1)


def robust(error: Field) -> PerPixel:
    """(L1 + 0.01)^0.4, as in the fine-tuning of PWC-Net (1709.02371): reduces outliers' weight."""
    return (l1(error) + 0.01) ** 0.4


LOSSES: Mapping[str, Callable[[Field], PerPixel]] = {
    "end_point": end_point,
    "l1": l1,
    "robust": robust,
}


@dataclasses.dataclass(frozen=True)
class OpticalFlow(Task):
    """Estimates the displacement of each pixel from a frame to the next.

    Batches hold `frames` [B, 2, H, W, 3] (uint8), `flow` [B, H, W, 2] in pixels, `flow_valid`
    [B, H, W] and `valid` [B]; those of whole images also `occluded` [B, H, W], if it is known. The
    model's outputs are flow [B, H, W, 2] in pixels.

    Attributes:
        loss_name: one of `LOSSES`, applied to errors in units of 20 pixels.
        overlap: least overlap of adjacent tiles of whole images, in pixels; None: 20, or less if
            tiles are small.
    """

    loss_name: Annotated[str, Limit(f"one of {listing(LOSSES)}", LOSSES.__contains__)] = "end_point"
    overlap: Natural | None = None

    datasets: ClassVar[Mapping[str, str]] = DATASETS

    evaluates_any_size: ClassVar[bool] = True

    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The frames from -1 to 1, as the model's `inputs`."""
        return {"inputs": scaled(batch["frames"])}

    def loss_masks(self, batch: Batch) -> dict[str, Bool[Array, "B H W"]]:
        """The pixels whose flow is known."""
        return {"loss": _known(batch)}

    def losses(self, outputs: Field, batch: Batch) -> dict[str, PerPixel]:
        """The loss `loss_name` of each pixel."""
        return {"loss": LOSSES[self.loss_name](_error(outputs, batch) / LOSS_UNIT)}

    def metrics(
        self, outputs: Field, batch: Batch
    ) -> dict[str, tuple[Float[Array, ""], Float[Array, ""]]]:
        """Metrics over all known pixels of all examples.

        - `epe`: end-point error in pixels; `epe_per_pair`: the mean of the pairs' means, which
          weights all pairs equally, however few pixels are known (KITTI's EPE in most papers).
        - `1px`, `3px`, `5px`: fraction of pixels whose error is larger than that.
        - `fl_all`: fraction of pixels whose error is above 3 pixels and above 5% of the true flow's
          length (KITTI 2015).
        - `epe_s0_10`, `epe_s10_40`, `epe_s40`: end-point error by the length of the true flow.
        - `epe_matched`, `epe_unmatched`: of pixels that are visible in both frames, or only in one.

        A metric for which there are no pixels has a count of 0.
        """
        known = _known(batch)
        epe = jnp.sqrt(jnp.square(_error(outputs, batch)).sum(-1))
        speed = jnp.sqrt(jnp.square(batch["flow"]).sum(-1))
        values = {
            "epe": (epe, known),
            **{f"{limit}px": (epe > limit, known) for limit in (1, 3, 5)},
            "fl_all": ((epe > 3) & (epe > 0.05 * speed), known),
        }
        for name, (least, most) in SPEEDS.items():
            values[f"epe_{name}"] = (epe, known & (speed >= least) & (speed < most))
        if "occluded" in batch:
            occluded = jnp.asarray(batch["occluded"])
            values["epe_matched"] = (epe, known & ~occluded)
            values["epe_unmatched"] = (epe, known & occluded)
        sums = {name: sum_and_count(*value) for name, value in values.items()}
        return sums | {"epe_per_pair": _mean_of_pairs(epe, known)}

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """Two for each split: `SPLIT` for centre crops, `SPLIT_whole` for whole images.

        Centre crops have the size of training examples, take one pass of the model, and show the
        training loss; whole images, processed in tiles, are what benchmarks measure.
        """
        # Another config's examples may differ in size from the model's frames.
        data = {**config["data"], "image_size": tuple(config["model"]["image_size"])}
        crops = super().evaluators({**config, "data": data})
        whole = self._whole_images(config)
        return crops | {f"{split}_whole": images for split, images in whole.items()}

    def submitters(self, config: Section) -> dict[str, Submitter]:
        """Writers of submissions for Sintel and KITTI."""
        return {split: images.submit for split, images in self._whole_images(config).items()}

    def _whole_images(self, config: Section) -> dict[str, WholeImages]:
        dataset, evaluation = self.build_dataset(config["data"]), config["evaluation"]
        return {
            split: WholeImages(
                self,
                dataset,
                split,
                tile_size=tuple(config["model"]["image_size"]),
                batch_size=evaluation["batch_size"],
                overlap=self.overlap,
            )
            for split in evaluation["splits"]
        }

    def figure(
        self, outputs: Float[np.ndarray, "B H W 2"], batch: Batch, dataset: Dataset
    ) -> Figure:
        """Up to 4 pairs, spread over the batch: frames, true and predicted flow, and error."""
        del dataset
        valid = np.flatnonzero(batch["valid"])
        shown = valid[np.linspace(0, len(valid) - 1, min(len(valid), 4)).astype(int)]
        return flow_figures.compared_flow(
            [
                flow_figures.ComparedFlow(
                    batch["frames"][i, 0],
                    batch["frames"][i, 1],
                    outputs[i],
                    batch["flow"][i],
                    batch["flow_valid"][i],
                )
                for i in shown
            ]
        )


def _known(batch: Batch) -> Bool[Array, "B H W"]:
    """The pixels of valid examples whose flow is known."""
    return jnp.asarray(batch["flow_valid"]) & jnp.asarray(batch["valid"])[:, None, None]


def _error(outputs: Field, batch: Batch) -> Field:
    """Outputs minus flow; 0 where the flow is not known, to keep the gradient finite there."""
    return jnp.where(_known(batch)[..., None], outputs - batch["flow"], 0)


def _mean_of_pairs(
    epe: PerPixel, known: Bool[Array, "B H W"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    count = known.sum((1, 2))
    means = jnp.where(known, epe, 0).sum((1, 2)) / jnp.maximum(count, 1)
    return sum_and_count(means, count > 0)
