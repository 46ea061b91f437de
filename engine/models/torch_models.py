"""The three kinds of model over a PyTorch network: what is common to all architectures."""

from __future__ import annotations

from typing import Callable, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import nms

from ..errors import ModelError
from .base import Detections, TilePlan
from .masks import mask_rings
from .torch_runtime import Runner

Pixels = npt.NDArray[np.generic]
Valid = npt.NDArray[np.bool_]
# One image's objects: "boxes" (n, 4) xmin, ymin, xmax, ymax, "scores" (n,) 0..1, "labels" (n,) positions in Classes,
# and, for networks with masks, "masks" (n, rows, columns) probabilities.
Found = Mapping[str, torch.Tensor]
MASK_THRESHOLD = 0.5


class TorchPixelClassifier:
    """A network that gives every pixel scores.

    Args:
        runner: the network on its device.
        plan: how images are cut.
        values: class values of the channels; None for regression, whose channels are output bands.
        excluded: channels that must never win (background that is not wanted, classes to be ignored).
    """

    def __init__(
        self, runner: Runner, plan: TilePlan, values: Optional[Tuple[int, ...]], excluded: Sequence[int] = ()
    ) -> None:
        if values is not None and set(range(len(values))) <= set(excluded):
            raise ModelError(
                "Every class of the model is excluded, so no pixel could get one.",
                stage="loading the model",
                hint="Set predict_background to true, or correct ignore_mapped_class in the model definition.",
            )
        self.runner, self.plan, self.values = runner, plan, values
        self._excluded = list(excluded)

    def scores(self, pixels: Pixels, valid: Valid) -> npt.NDArray[np.float32]:
        """Return (N, channels, rows, columns): probabilities (0..1), or values for regression."""
        images = self.runner.prepare(pixels, valid)
        return np.stack(self.runner.run(images, self._predict))

    def _predict(self, images: torch.Tensor) -> Sequence[npt.NDArray[np.float32]]:
        return [one.numpy() for one in self.runner.precise(images, self.predict).cpu()]

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Return the scores of prepared images, on the device, as :meth:`scores` does."""
        outputs = main_output(self.runner.network(images)).float()
        if outputs.shape[-2:] != images.shape[-2:]:
            raise ModelError(
                f"The network answers an image of {images.shape[3]} x {images.shape[2]} pixels with one of "
                f"{outputs.shape[3]} x {outputs.shape[2]}.",
                stage="predicting",
            )
        if self.values is None:
            return outputs
        if outputs.shape[1] != len(self.values):
            raise ModelError(
                f"The network tells {outputs.shape[1]} classes apart, but the definition lists {len(self.values)} "
                "(background included).",
                stage="predicting",
                hint="Correct Classes of the model definition.",
            )
        if self._excluded:
            outputs[:, self._excluded] = -torch.inf
        return outputs.softmax(dim=1)


class TorchObjectClassifier:
    """A network that gives every image one class.

    Args:
        runner: the network on its device.
        plan: how images are cut.
        blacken: whether pixels outside the feature are set to 0.
        fixed_crop: whether chips have the image size whatever the feature's.
        classes: how many the definition lists.
        independent: the score above which a class is among the labels of a chip, if classes do not exclude each other;
            None if they do.
    """

    def __init__(
        self,
        runner: Runner,
        plan: TilePlan,
        *,
        blacken: bool,
        fixed_crop: bool,
        classes: int,
        independent: Optional[float] = None,
    ) -> None:
        self.runner, self.plan, self.blacken, self.fixed_crop = runner, plan, blacken, fixed_crop
        self._classes, self._independent = classes, independent

    def probabilities(self, pixels: Pixels, valid: Valid) -> npt.NDArray[np.float32]:
        """Return (N, classes), in the order of the definition's ``Classes``."""
        images = self.runner.prepare(pixels, valid)
        return np.stack(self.runner.run(images, self._predict))

    def _predict(self, images: torch.Tensor) -> Sequence[npt.NDArray[np.float32]]:
        return [one.numpy() for one in self.runner.precise(images, self.predict).cpu()]

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Return the probabilities of prepared images, on the device."""
        outputs = main_output(self.runner.network(images)).float()
        if outputs.ndim != 2 or outputs.shape[1] != self._classes:
            raise ModelError(
                f"The network answers with numbers of shape {tuple(outputs.shape[1:])}, but the definition lists "
                f"{self._classes} classes.",
                stage="predicting",
                hint="Correct Classes of the model definition.",
            )
        return outputs.softmax(dim=1) if self._independent is None else outputs.sigmoid()

    def labels(self, probabilities: npt.NDArray[np.float32], names: Sequence[str]) -> Optional[List[Tuple[str, str]]]:
        """Return the labels of each chip and the scores of all classes, both joined by semicolons.

        None if classes exclude each other. A chip without any class above the threshold has an empty label.
        """
        if self._independent is None:
            return None
        return [
            (
                ";".join(name for name, score in zip(names, row) if score > self._independent),
                ";".join(f"{score:.6g}" for score in row),
            )
            for row in probabilities.tolist()
        ]


class TorchDetector:
    """A network that finds objects.

    Args:
        runner: the network on its device.
        plan: how images are cut.
        find: maps prepared images to the objects of each, above the threshold, overlapping ones suppressed.
        classes: how many the definition lists; objects of others are dropped.
        percent: whether scores are reported as 0..100 (packages of arcgis.learn) instead of 0..1.
        boxes_only: whether masks are replaced by their rectangles.
    """

    def __init__(
        self,
        runner: Runner,
        plan: TilePlan,
        find: Callable[[torch.Tensor], Sequence[Found]],
        *,
        classes: int,
        percent: bool = False,
        boxes_only: bool = False,
    ) -> None:
        self.runner, self.plan, self._find = runner, plan, find
        self._classes, self._factor, self._boxes_only = classes, 100.0 if percent else 1.0, boxes_only

    def detect(self, pixels: Pixels, valid: Valid) -> List[Detections]:
        """Return the objects of each image of the batch."""
        return self.runner.run(self.runner.prepare(pixels, valid), self._predict)

    def _predict(self, images: torch.Tensor) -> Sequence[Detections]:
        return [self._detections(found) for found in self._find(images)]

    def _detections(self, found: Found) -> Detections:
        boxes = found["boxes"].float().cpu().numpy()
        scores = found["scores"].float().cpu().numpy() * np.float32(self._factor)
        labels = found["labels"].to(torch.int64).cpu().numpy()
        known = (labels >= 0) & (labels < self._classes)
        if "masks" not in found:
            return Detections(boxes[known], scores[known], labels[known])
        masks = (found["masks"] >= MASK_THRESHOLD).cpu().numpy()
        rings = [mask_rings(mask) if one else None for mask, one in zip(masks, known)]
        kept = np.array([place for place, ring in enumerate(rings) if ring is not None], dtype=np.int64)
        outlines = [rings[place] or [] for place in kept]
        if self._boxes_only:
            outlines = [[_rectangle(ring[0])] for ring in outlines]
        return Detections(boxes[kept], scores[kept], labels[kept], outlines)


def _rectangle(outline: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    (left, top), (right, bottom) = outline.min(axis=0), outline.max(axis=0)
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])


def main_output(outputs: object) -> torch.Tensor:
    """Return the tensor that counts, of networks that answer with one, several (auxiliary heads) or a dictionary."""
    if isinstance(outputs, Mapping):
        outputs = outputs["out"] if "out" in outputs else next(iter(outputs.values()))
    if isinstance(outputs, (list, tuple)):
        outputs = outputs[0]
    if not isinstance(outputs, torch.Tensor):
        raise ModelError("The network does not answer with numbers that this program knows.", stage="predicting")
    return outputs


def best_of_each_class(
    boxes: torch.Tensor, scores: torch.Tensor, overlap: float, threshold: float, most: int
) -> dict[str, torch.Tensor]:
    """Return the objects of one image: class by class the best boxes, those that overlap a better one dropped.

    Args:
        boxes: (n, 4) xmin, ymin, xmax, ymax.
        scores: (n, classes), 0..1.
        overlap: intersection over union above which the weaker box goes.
        threshold: scores must exceed it.
        most: boxes per class that enter the comparison, the best ones.
    """
    kept_boxes, kept_scores, kept_labels = [], [], []
    for label, column in enumerate(scores.unbind(dim=1)):
        places = (column > threshold).nonzero()[:, 0]
        places = places[column[places].argsort(descending=True, stable=True)[:most]]
        kept = places[nms(boxes[places], column[places], overlap)]
        kept_boxes.append(boxes[kept])
        kept_scores.append(column[kept])
        kept_labels.append(torch.full_like(kept, label))
    return {"boxes": torch.cat(kept_boxes), "scores": torch.cat(kept_scores), "labels": torch.cat(kept_labels)}
