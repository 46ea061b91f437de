"""PASCAL_VOC_rectangles: one XML file per chip; the name of an object is its class value, as ArcGIS expects."""

from __future__ import annotations

from .base import ChipFormat, Sample, Sink, Written, count_features
from .voc_xml import annotation


class PascalVoc(ChipFormat):
    """Boxes as XML; a file without objects for a chip without objects."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.xml``."""
        found = [(str(value), tuple(box)) for value, box in zip(sample.objects.values, sample.objects.boxes().tolist())]
        text = annotation(sample, written.images[0], found)
        written.labels.append(sink.text("labels", sample, ".xml", text))
        count_features(sample.objects, written)


FORMAT = PascalVoc()
