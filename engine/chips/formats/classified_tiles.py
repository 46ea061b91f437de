"""Classified_Tiles: a raster of class values per chip; 0 where nothing is labelled."""

from __future__ import annotations

from .base import ChipFormat, Sample, Sink, Written, count_pixels


def write_class_map(sample: Sample, sink: Sink, written: Written) -> None:
    """Write ``labels/N.tif`` and count its pixels."""
    if sample.class_map is None:
        raise ValueError("A chip of class values comes with its class raster.")
    written.labels.append(sink.raster("labels", sample, sample.class_map.pixels))
    count_pixels(sample.class_map, written)
    written.values = sample.class_map.values.tolist()


class ClassifiedTiles(ChipFormat):
    """Class rasters."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.tif``."""
        write_class_map(sample, sink, written)


FORMAT = ClassifiedTiles()
