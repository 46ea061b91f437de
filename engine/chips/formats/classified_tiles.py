"""Classified_Tiles: a raster of class values per chip; 0 where nothing is labelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..paint import paint
from .base import ChipFormat, Sample, Sink, Written, count_pixels


def painted(sample: Sample) -> npt.NDArray[Any]:
    """Return the class values of the chip's pixels; where features overlap, the later one counts."""
    if sample.class_map is not None:
        return sample.class_map
    return paint(sample.objects.geometries, sample.objects.values, sample.shape, np.dtype(sample.label_type))


class ClassifiedTiles(ChipFormat):
    """Class rasters."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.tif``."""
        values = painted(sample)
        written.labels.append(sink.raster("labels", sample, values))
        count_pixels(values, written, sorted(set(sample.objects.values.tolist())))
        written.values = sample.objects.values.tolist() if sample.class_map is None else list(written.pixels or ())


FORMAT = ClassifiedTiles()
