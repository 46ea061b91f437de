"""Labeled_Tiles: one chip per feature; its XML holds that one object."""

from __future__ import annotations

from .base import ChipFormat, Sample, Sink, Written, count_features
from .voc_xml import annotation


class LabeledTiles(ChipFormat):
    """One class per chip."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.xml`` with the chip's only object."""
        box = sample.objects.boxes().tolist()[0]
        text = annotation(sample, written.images[0], [(str(sample.objects.values[0]), tuple(box))])
        written.labels.append(sink.text("labels", sample, ".xml", text))
        count_features(sample.objects, written)


FORMAT = LabeledTiles()
