"""Single-shot detectors of the fast.ai school: FastaiSSD and arcgis.learn's SingleShotDetector.

Anchors and boxes are (y, x) centres and (height, width) sizes in fractions of the image. Sources: the published
FastaiSSD (Esri/raster-deep-learning, Apache-2.0) and models that arcgis.learn saved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from .torch_models import Found, best_of_each_class

CHANNELS = 256
MOST_PER_CLASS = 50  # boxes of a class that enter suppression; the published code fixes it


@dataclass(frozen=True)
class Anchors:
    """Prior boxes.

    Attributes:
        centres: (n, 2) y, x.
        sizes: (n, 2) height, width.
        cells: (n, 1) side of the grid cell of each anchor.
    """

    centres: torch.Tensor
    sizes: torch.Tensor
    cells: torch.Tensor

    @classmethod
    def on_grids(cls, grids: Sequence[int], zooms: Sequence[float], ratios: Sequence[Sequence[float]]) -> Anchors:
        """Lay anchors on square grids; the first coordinate varies slowest, then the second, then zoom, then ratio."""
        shapes = np.array([(zoom * high, zoom * wide) for zoom in zooms for high, wide in ratios])
        centres, sizes, cells = [], [], []
        for grid in grids:
            line = np.linspace(1 / (2 * grid), 1 - 1 / (2 * grid), grid)
            points = np.stack(np.meshgrid(line, line, indexing="ij"), axis=-1).reshape(-1, 2)
            centres.append(np.repeat(points, len(shapes), axis=0))
            sizes.append(np.tile(shapes / grid, (grid * grid, 1)))
            cells.append(np.full((grid * grid * len(shapes), 1), 1 / grid))
        return cls(*(torch.from_numpy(np.concatenate(part)).float() for part in (centres, sizes, cells)))

    def to(self, device: torch.device) -> Anchors:
        """Return the anchors on a device."""
        return Anchors(self.centres.to(device), self.sizes.to(device), self.cells.to(device))

    def boxes(self, deltas: torch.Tensor) -> torch.Tensor:
        """Return (n, 4) ymin, xmin, ymax, xmax in fractions; anchors move by half a cell, change by half a size."""
        moved = deltas.tanh()
        centres = moved[:, :2] / 2 * self.cells + self.centres
        sizes = (moved[:, 2:] / 2 + 1) * self.sizes
        return torch.cat([centres - sizes / 2, centres + sizes / 2], dim=1)


class StandardConv(nn.Module):
    """Convolution, ReLU, batch normalisation, in this order; dropout is a matter of training.

    Args:
        entering: input channels.
        stride: of the 3 x 3 convolution.
        padding: of the convolution.
        grid: side to which the map is enlarged before the convolution, if the convolution alone cannot reach it.
    """

    def __init__(self, entering: int, stride: int, padding: int = 1, grid: Optional[int] = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, CHANNELS, 3, stride, padding)
        self.bn = nn.BatchNorm2d(CHANNELS)
        self.grid = grid

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the map of the next grid."""
        if self.grid is not None:
            images = functional.interpolate(images, (self.grid, self.grid), mode="nearest")
        result: torch.Tensor = self.bn(self.conv(images).relu())
        return result


class OutConv(nn.Module):
    """Class scores and box deltas of one grid.

    ``column_major`` says in which order cells are listed: columns first in FastaiSSD (its anchors nevertheless call
    the slow coordinate y, and weights were trained so), rows first in arcgis.learn.
    """

    def __init__(self, anchors: int, outputs: int, column_major: bool) -> None:
        super().__init__()
        self.oconv1 = nn.Conv2d(CHANNELS, outputs * anchors, 3, padding=1)
        self.oconv2 = nn.Conv2d(CHANNELS, 4 * anchors, 3, padding=1)
        self.anchors, self.column_major = anchors, column_major

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (N, cells * anchors, classes) and (N, cells * anchors, 4)."""
        return self._flat(self.oconv1(images)), self._flat(self.oconv2(images))

    def _flat(self, maps: torch.Tensor) -> torch.Tensor:
        order = (0, 3, 2, 1) if self.column_major else (0, 2, 3, 1)
        return maps.permute(order).reshape(len(maps), -1, maps.shape[1] // self.anchors)


def found_objects(
    logits: torch.Tensor, boxes: torch.Tensor, size: Sequence[int], threshold: float, overlap: float
) -> Found:
    """Return the objects of one image.

    Args:
        logits: (n, classes) without the background's.
        boxes: (n, 4) ymin, xmin, ymax, xmax in fractions.
        size: (rows, columns) of the image.
        threshold: scores must exceed it.
        overlap: intersection over union above which the weaker box of a class goes.
    """
    rows, columns = size
    scale = boxes.new_tensor([columns, rows, columns, rows])
    corners = boxes[:, [1, 0, 3, 2]]
    found = best_of_each_class(corners, logits.sigmoid(), overlap, threshold, MOST_PER_CLASS)
    return {**found, "boxes": found["boxes"] * scale}
