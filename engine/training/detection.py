"""Training of detectors with boxes, and with masks."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from .augmentation import Sample, padded
from .metrics import BoxScores, ClassFigures
from .settings import INSTANCE

# Sides of images that every backbone and pyramid can halve.
_MULTIPLE = 64


class DetectionFamily:
    """Detectors of torchvision: the network itself turns targets into losses.

    Attributes:
        classes: names, in order.
        offset: the network's label of the first class.
        rows: figures per class of the latest evaluation.
    """

    def __init__(self, classes: Sequence[str], offset: int, task: str) -> None:
        self.classes = tuple(classes)
        self.offset = offset
        self.masks = task == INSTANCE
        self.rows: list[ClassFigures] = []

    def losses(self, network: nn.Module, samples: Sequence[Sample], device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the parts of the loss."""
        images = [torch.from_numpy(sample.pixels).to(device) for sample in samples]
        losses: Mapping[str, torch.Tensor] = network(images, [self._target(sample, device) for sample in samples])
        return losses

    def _target(self, sample: Sample, device: torch.device) -> dict[str, torch.Tensor]:
        target = {
            "boxes": torch.from_numpy(np.ascontiguousarray(sample.boxes)).to(device),
            "labels": torch.from_numpy(sample.labels + self.offset).to(device),
        }
        if self.masks and sample.masks is not None:
            target["masks"] = torch.from_numpy(sample.masks.astype(np.uint8)).to(device)
        return target

    @torch.no_grad()
    def evaluate(self, network: nn.Module, samples: Iterator[Sample], device: torch.device) -> dict[str, float]:
        """Return loss and average precision (IoU 0.5, mean over classes) over whole chips."""
        scores, total, count = BoxScores(self.classes), 0.0, 0
        for sample in samples:
            image = padded(sample, _MULTIPLE)
            found = self.predict(network, image, device)
            scores.add(found["boxes"], found["scores"], found["labels"], image.boxes, image.labels)
            _losses_mode(network)
            losses = self.losses(network, [image], device)
            total, count = total + float(torch.stack([one.float() for one in losses.values()]).sum()), count + 1
        network.eval()
        self.rows, mean = scores.table()
        return {"valid_loss": total / count if count else float("nan"), "average_precision": mean}

    @torch.no_grad()
    def predict(self, network: nn.Module, sample: Sample, device: torch.device) -> dict[str, npt.NDArray[Any]]:
        """Return boxes, scores, labels (positions in the classes) and masks (n, rows, columns; 0..1) of an image."""
        network.eval()
        found = network([torch.from_numpy(sample.pixels).to(device)])[0]
        result = {name: value.float().cpu().numpy() for name, value in found.items()}
        result["labels"] = found["labels"].cpu().numpy() - self.offset
        if "masks" in result:
            result["masks"] = result["masks"][:, 0]
        return result


def _losses_mode(network: nn.Module) -> None:
    """Make the network return losses without touching the statistics of its normalisation layers."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def automatic_anchors(sizes: npt.NDArray[np.float64], count: int = 5) -> Optional[tuple[float, ...]]:
    """Return anchor sides that follow the objects' sizes (pixels), on equal steps of a ratio; None without objects."""
    if len(sizes) == 0:
        return None
    low, high = np.percentile(sizes, (5, 95))
    low = max(float(low), 4.0)
    return tuple(round(float(one), 1) for one in np.geomspace(low, max(float(high), low * 1.5), count))
