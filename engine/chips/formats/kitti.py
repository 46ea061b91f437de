"""KITTI_rectangles: one line of 15 columns per object, class value first."""

from __future__ import annotations

from .base import ChipFormat, Sample, Sink, Written, count_features


class Kitti(ChipFormat):
    """Boxes as text, CRLF; an empty file for a chip without objects."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.txt``."""
        lines = [
            f"{value:3d} 0.00 0 0 {left:7.2f} {top:7.2f} {right:7.2f} {bottom:7.2f} 0 0 0 0 0 0 0\r\n"
            for value, (left, top, right, bottom) in zip(sample.objects.values, sample.objects.boxes())
        ]
        written.labels.append(sink.text("labels", sample, ".txt", "".join(lines)))
        count_features(sample.objects, written)


FORMAT = Kitti()
