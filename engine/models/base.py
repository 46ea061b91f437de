"""What every loaded network looks like to the rest of the engine: three small interfaces over numpy batches.

A batch is ``pixels`` of shape (N, bands, rows, columns) in the raster's own type, bands already chosen and ordered as
the definition's ``ExtractBands`` says, with ``valid`` of shape (N, rows, columns), True where a pixel holds data.
Rescaling, normalisation and the fill of invalid pixels are the model's business (:mod:`.normalisation`), because only
it knows what the network was trained on. Coordinates are pixels of the batch's images: x to the right, y down, origin
at the outer corner of the upper left pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import List, Optional, Protocol, Sequence, Tuple, runtime_checkable

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TilePlan:
    """How a network wants its images cut.

    Attributes:
        width, height: pixels of one input image, halo included.
        halo: pixels on each side whose prediction is not used (context for the others).
        fixed: True if only exactly this size is accepted; False if any multiple of ``multiple`` works.
        multiple: sides must be a multiple of this many pixels.
        batch: images per call that are known to work well (1 on a CPU).
        scale: output pixels per input pixel (1 but for super-resolution).
        outer: True if the network answers for the inside of its halo alone; tiles then begin outside the raster.
        blend: True if the network looks at the whole image, so that tiles are best blended where they overlap.
        exact: True if ``halo`` covers the receptive field, so that tiling changes no output pixel.
    """

    width: int
    height: int
    halo: int = 0
    fixed: bool = True
    multiple: int = 1
    batch: int = 1
    scale: int = 1
    exact: bool = False
    outer: bool = False
    blend: bool = False


@dataclass(frozen=True)
class Detections:
    """Objects of one image.

    Attributes:
        boxes: (n, 4) float32, xmin, ymin, xmax, ymax.
        scores: (n,) float32 as the model reports them (0..1, or 0..100 for arcgis.learn packages).
        labels: (n,) int64, positions in the definition's ``Classes`` (0-based).
        rings: for models with masks or own polygons, one list of (k, 2) x, y rings per object, the outer ring first.
        attributes: further values per object, as the package declares them.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    rings: Optional[Sequence[Sequence[npt.NDArray[np.float64]]]] = None
    attributes: Sequence[dict[str, object]] = field(default_factory=tuple)


@runtime_checkable
class Detector(Protocol):
    """A network that finds objects."""

    plan: TilePlan

    def detect(self, pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> List[Detections]:
        """Return the objects of each image of the batch."""
        ...


@runtime_checkable
class PixelClassifier(Protocol):
    """A network that gives every pixel scores.

    ``values`` are the class values of the channels (channel 0 first) for classification; None for regression and
    super-resolution, whose channels are output bands.
    """

    plan: TilePlan
    values: Optional[Tuple[int, ...]]

    def scores(self, pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, channels, rows * scale, columns * scale): probabilities (0..1), or values for regression."""
        ...


@runtime_checkable
class ObjectClassifier(Protocol):
    """A network that gives every image one class.

    ``blacken`` and ``fixed_crop`` say how chips are cut around features (``BlackenAroundFeature``, ``CropSizeFixed``).
    """

    plan: TilePlan
    blacken: bool
    fixed_crop: bool

    def probabilities(self, pixels: npt.NDArray[np.generic], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
        """Return (N, classes), in the order of the definition's ``Classes``."""
        ...
