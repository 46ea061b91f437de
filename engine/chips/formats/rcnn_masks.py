"""RCNN_Masks: per class a raster of instance numbers; overlapping instances go to further bands."""

from __future__ import annotations

from ..objects import Objects
from ..paint import paint_instances
from .base import ChipFormat, Sample, Sink, Written, count_features, folder_name, labelled_objects


def write_instances(folder: str, objects: Objects, sample: Sample, sink: Sink) -> list[str]:
    """Write one raster per class of the chip below ``folder``; return their paths in the order of the class values."""
    paths = []
    for value in sorted(set(objects.values.tolist())):
        bands, _ = paint_instances(objects.geometries[objects.values == value], sample.shape)
        paths.append(sink.raster(f"{folder}/{folder_name(sample.name(value))}", sample, bands))
    return paths


class RcnnMasks(ChipFormat):
    """Instance masks."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/<class>/N.tif`` for the classes in the chip."""
        objects = labelled_objects(sample)
        written.labels.extend(write_instances("labels", objects, sample, sink))
        count_features(objects, written)


FORMAT = RcnnMasks()
