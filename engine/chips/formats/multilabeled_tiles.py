"""MultiLabeled_Tiles: the names of all classes in a chip, separated by commas, as one object's name."""

from __future__ import annotations

import numpy as np

from .base import ChipFormat, Sample, Sink, Written, count_features
from .voc_xml import annotation


class MultiLabeledTiles(ChipFormat):
    """Several classes per chip."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.xml``; its box surrounds all objects."""
        found = []
        if len(sample.objects):
            # A comma inside a name would split it in two when read.
            names = [sample.name(int(value)).replace(",", " ") for value in np.unique(sample.objects.values)]
            boxes = sample.objects.boxes()
            around = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
            found.append((",".join(names), around))
        text = annotation(sample, written.images[0], found)
        written.labels.append(sink.text("labels", sample, ".xml", text))
        count_features(sample.objects, written)


FORMAT = MultiLabeledTiles()
