"""Training of networks that give a whole image one class."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, Optional, Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from .augmentation import Sample, central
from .metrics import ClassFigures, Confusion


class ClassificationFamily:
    """Classifiers of timm.

    Attributes:
        classes: names, in order of the outputs.
        side: of the images, in pixels.
        weights: of the classes in the loss, or None for equal ones.
        smoothing: doubt about the labels, 0..1.
        rows: figures per class of the latest evaluation.
    """

    def __init__(
        self,
        classes: Sequence[str],
        side: int,
        *,
        weights: Optional[npt.NDArray[np.float64]] = None,
        smoothing: float = 0.0,
    ) -> None:
        self.classes = tuple(classes)
        self.side, self.smoothing = side, smoothing
        self.weights = None if weights is None else torch.from_numpy(weights).float()
        self.rows: list[ClassFigures] = []

    def losses(self, network: nn.Module, samples: Sequence[Sample], device: torch.device) -> Mapping[str, torch.Tensor]:
        """Return the loss."""
        images = torch.from_numpy(np.stack([sample.pixels for sample in samples])).to(device)
        labels = torch.tensor([sample.label for sample in samples], device=device)
        scores = network(images.contiguous(memory_format=torch.channels_last)).float()
        weights = None if self.weights is None else self.weights.to(device)
        return {"cross_entropy": F.cross_entropy(scores, labels, weights, label_smoothing=self.smoothing)}

    @torch.no_grad()
    def evaluate(self, network: nn.Module, samples: Iterator[Sample], device: torch.device) -> dict[str, float]:
        """Return loss, accuracy, mean F1 and mean IoU over the middles of the chips."""
        confusion, total, count = Confusion(self.classes), 0.0, 0
        for sample in samples:
            scores = self._scores(network, sample, device)
            label = torch.tensor([sample.label], device=device)
            total, count = total + float(F.cross_entropy(scores, label)), count + 1
            confusion.add(np.array([sample.label]), scores.argmax(dim=1).cpu().numpy())
        self.rows, figures = confusion.table()
        return {"valid_loss": total / count if count else float("nan"), **figures}

    @torch.no_grad()
    def predict(self, network: nn.Module, sample: Sample, device: torch.device) -> dict[str, npt.NDArray[Any]]:
        """Return ``label``, the position of the class, and its ``score`` (0..1)."""
        chances = self._scores(network, sample, device).softmax(dim=1)[0].cpu().numpy()
        return {"label": np.array(int(chances.argmax())), "score": np.array(float(chances.max()))}

    def _scores(self, network: nn.Module, sample: Sample, device: torch.device) -> torch.Tensor:
        network.eval()
        image = central(sample, self.side)
        scores: torch.Tensor = network(torch.from_numpy(image.pixels)[None].to(device)).float()
        return scores
