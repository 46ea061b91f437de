"""Training of pixel networks; pixels without a label take no part in the loss nor in the figures."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from .augmentation import IGNORED, Sample, padded
from .metrics import ClassFigures, Confusion

_FOCUS = 2.0


class SegmentationFamily:
    """Networks that give every pixel one score per class.

    Attributes:
        classes: names, in order of the channels.
        weights: of the classes in the loss, or None for equal ones.
        focal: whether easy pixels count less.
        dice: share of the Dice loss, 0..1.
        multiple: sides of images must be a multiple of this many pixels.
        rows: figures per class of the latest evaluation.
    """

    def __init__(
        self,
        classes: Sequence[str],
        *,
        weights: Optional[npt.NDArray[np.float64]] = None,
        focal: bool = False,
        dice: float = 0.0,
        multiple: int = 32,
    ) -> None:
        self.classes = tuple(classes)
        self.weights = None if weights is None else torch.from_numpy(weights).float()
        self.focal, self.dice, self.multiple = focal, dice, multiple
        self.rows: list[ClassFigures] = []

    def losses(self, network: nn.Module, samples: Sequence[Sample], device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the parts of the loss over labelled pixels; 0 if there is none."""
        images = torch.from_numpy(np.stack([sample.pixels for sample in samples])).to(device)
        targets = torch.from_numpy(np.stack([_targets(sample) for sample in samples])).to(device)
        return self._loss(network(images.contiguous(memory_format=torch.channels_last)).float(), targets)

    def _loss(self, scores: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        known = targets != IGNORED
        picked = targets.clamp(min=0)
        # Scores without a label are replaced, not multiplied by zero: what is infinite there must not be learnt either.
        scores = torch.where(known[:, None], scores, torch.zeros_like(scores))
        logs = F.log_softmax(scores, dim=1)
        pixel = -logs.gather(1, picked[:, None])[:, 0]
        if self.focal:
            pixel = pixel * (1 - torch.exp(-pixel)) ** _FOCUS
        weight = known.float()
        if self.weights is not None:
            weight = weight * self.weights.to(scores.device)[picked]
        parts = {"cross_entropy": (1 - self.dice) * (pixel * weight).sum() / weight.sum().clamp(min=1e-6)}
        if self.dice:
            parts["dice"] = self.dice * _dice(logs.exp(), picked, known)
        return parts

    @torch.no_grad()
    def evaluate(self, network: nn.Module, samples: Iterator[Sample], device: torch.device) -> dict[str, float]:
        """Return loss, accuracy, mean F1 and mean IoU over the labelled pixels of whole chips."""
        confusion, total, count = Confusion(self.classes), 0.0, 0
        for sample in samples:
            image = padded(sample, self.multiple)
            targets = _targets(image)
            scores = self._scores(network, image, device)
            confusion.add(targets.ravel(), scores.argmax(dim=1)[0].cpu().numpy().ravel())
            if (targets != IGNORED).any():
                parts = self._loss(scores, torch.from_numpy(targets)[None].to(device))
                total, count = total + float(torch.stack(list(parts.values())).sum()), count + 1
        self.rows, figures = confusion.table()
        return {"valid_loss": total / count if count else float("nan"), **figures}

    @torch.no_grad()
    def predict(self, network: nn.Module, sample: Sample, device: torch.device) -> dict[str, npt.NDArray[Any]]:
        """Return ``classes``: (rows, columns) positions in the classes."""
        image = padded(sample, self.multiple)
        rows, columns = sample.size
        return {"classes": self._scores(network, image, device).argmax(dim=1)[0].cpu().numpy()[:rows, :columns]}

    def _scores(self, network: nn.Module, sample: Sample, device: torch.device) -> torch.Tensor:
        network.eval()
        images = torch.from_numpy(sample.pixels)[None].to(device)
        scores: torch.Tensor = network(images.contiguous(memory_format=torch.channels_last)).float()
        return scores


def _targets(sample: Sample) -> npt.NDArray[np.int64]:
    return np.full(sample.size, IGNORED, np.int64) if sample.targets is None else sample.targets


def _dice(chances: torch.Tensor, picked: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return one minus the mean Dice coefficient of the classes that occur."""
    truth = F.one_hot(picked, chances.shape[1]).movedim(-1, 1) * known[:, None]
    chances = chances * known[:, None]
    common, total = (chances * truth).sum((0, 2, 3)), (chances + truth).sum((0, 2, 3))
    occurs = truth.sum((0, 2, 3)) > 0
    return 1 - (2 * common[occurs] / total[occurs].clamp(min=1e-6)).mean() if bool(occurs.any()) else chances.sum() * 0


def class_weights(counts: Mapping[int, int], classes: int) -> npt.NDArray[np.float64]:
    """Return weights that grow with the square root of a class's rarity, with mean 1; absent ones count as rarest."""
    known = [counts[place] for place in range(classes) if counts.get(place)]
    numbers = np.array([counts.get(place) or min(known) for place in range(classes)], dtype=np.float64)
    rarity = 1 / np.sqrt(numbers)
    weights: npt.NDArray[np.float64] = rarity / rarity.mean()
    return weights
