"""Image classification."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import numpy as np
import optax
import scipy.special
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from perceiver_io.config.annotations import EACH_ONCE, Size
from perceiver_io.data.pipeline.dataset import Dataset
from perceiver_io.data.vision import DATASETS
from perceiver_io.errors import UserError
from perceiver_io.tasks.class_figures import shown_rows
from perceiver_io.tasks.classification import Classification
from perceiver_io.tasks.evaluation import Evaluator
from perceiver_io.tasks.image_classification import figures
from perceiver_io.tasks.image_classification.mixing import mix_pairs
from perceiver_io.tasks.task import Batch, Section


@dataclasses.dataclass(frozen=True)
class ImageClassification(Classification):
    """Assigns one of `num_classes` classes to an image; settings are those of `Classification`.

    Batches hold `image` [B, H, W, C] from 0 to 255. With MixUp or CutMix, labels become
    probabilities.

    Attributes:
        cross_entropy: "softmax" over the classes, or a "sigmoid" for each class, summed over them,
            as the CoAtNet paper pre-trains on ImageNet-21K and JFT (appendix). Probabilities in
            predictions are a softmax of the logits in both.
        evaluation_sizes: further sizes of images, (height, width), at which each split is
            evaluated.
    """

    cross_entropy: Literal["softmax", "sigmoid"] = "softmax"
    evaluation_sizes: Annotated[tuple[Size, ...], EACH_ONCE] = ()

    datasets: ClassVar[Mapping[str, str]] = DATASETS

    def evaluators(self, config: Section) -> dict[str, Evaluator]:
        """`SPLIT` at the size of `config.data`, and `SPLIT_HEIGHTxWIDTH` at each further size.

        Raises UserError for data whose images have a single size.
        """
        data = config["data"]
        if self.evaluation_sizes and "image_size" not in data:
            raise UserError(
                f"config.task.evaluation_sizes is {self.evaluation_sizes}, but images of "
                f"{data['name']} have one size: leave it out."
            )
        found = super().evaluators(config)
        for height, width in self.evaluation_sizes:
            resized = {**config, "data": {**data, "image_size": (height, width)}}
            at_size = super().evaluators(resized)
            found |= {f"{split}_{height}x{width}": one for split, one in at_size.items()}
        return found

    def augmented(self, batch: Batch) -> Batch:
        """Pairs mixed by MixUp or CutMix, if the dataset has drawn the parameters."""
        if "mixup_weight" not in batch:
            return batch
        image, label = mix_pairs(
            batch["image"],
            self.probabilities(batch),
            weight=batch["mixup_weight"],
            box=batch["cutmix_box"],
        )
        return batch | {"image": image, "label": label}

    def losses(self, outputs: Float[Array, "B K"], batch: Batch) -> dict[str, Float[Array, " B"]]:
        """Cross-entropy against the smoothed labels, in nats."""
        if self.cross_entropy == "softmax":
            return super().losses(outputs, batch)
        targets = self.targets(outputs, batch)
        return {"loss": optax.sigmoid_binary_cross_entropy(outputs, targets).sum(-1)}

    def model_inputs(self, batch: Batch) -> dict[str, Array | np.ndarray]:
        """The images, as the model's `inputs`."""
        return {"inputs": batch["image"]}

    def figure(self, outputs: Float[np.ndarray, "B K"], batch: Batch, dataset: Dataset) -> Figure:
        """Up to 24 valid images, spread over the batch, with the model's prediction above each."""
        shown = shown_rows(batch["valid"])
        return figures.classified_images(
            images=[np.rint(batch["image"][i]).astype(np.uint8) for i in shown],
            labels=batch["label"][shown],
            probabilities=scipy.special.softmax(outputs[shown], axis=-1),
            class_names=dataset.class_names,
        )
