"""YOLO_segmentation: one line per polygon, class position from 0, corners as shares of the chip's width and height."""

from __future__ import annotations

import numpy as np
import shapely

from .base import ChipFormat, Sample, Sink, Written, count_features, labelled_objects


class YoloSegmentation(ChipFormat):
    """Polygons as text; the format knows neither holes nor parts, so each part is a line of its outer ring."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.txt`` with class values, which :mod:`..publish` turns into positions."""
        rows, columns = sample.shape
        objects = labelled_objects(sample)
        lines = []
        for geometry, value in zip(objects.geometries, objects.values):
            for ring in shapely.get_exterior_ring(shapely.get_parts(geometry)):
                points = shapely.get_coordinates(ring)[:-1] / np.array([columns, rows])
                lines.append(f"{value} " + " ".join(f"{one:.6f}" for one in points.ravel()) + "\n")
        written.labels.append(sink.text("labels", sample, ".txt", "".join(lines)))
        count_features(objects, written)


FORMAT = YoloSegmentation()
