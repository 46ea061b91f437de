"""Panoptic_Segmentation: a class raster, and rasters of instance numbers of the classes that have instances."""

from __future__ import annotations

from ..objects import no_objects
from .base import ChipFormat, Sample, Sink, Written
from .classified_tiles import write_class_map
from .rcnn_masks import write_instances


class Panoptic(ChipFormat):
    """Class and instance rasters."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.tif`` and ``labels2/<class>/N.tif``."""
        write_class_map(sample, sink, written)
        instances = sample.instances if sample.instances is not None else no_objects()
        written.labels.extend(write_instances("labels2", instances, sample, sink))
        written.values = instances.values.tolist()


FORMAT = Panoptic()
