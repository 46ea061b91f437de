"""YOLO: one line per object, class position from 0, centre and size as shares of the chip's width and height."""

from __future__ import annotations

from .base import ChipFormat, Sample, Sink, Written, count_features, labelled_objects


class Yolo(ChipFormat):
    """Boxes as text. Positions are filled in when the classes of the whole set are known."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write ``labels/N.txt`` with class values, which :mod:`..publish` turns into positions."""
        rows, columns = sample.shape
        objects = labelled_objects(sample)
        lines = []
        for value, (xmin, ymin, xmax, ymax) in zip(objects.values, objects.boxes()):
            x, y = (xmin + xmax) / 2 / columns, (ymin + ymax) / 2 / rows
            lines.append(f"{value} {x:.6f} {y:.6f} {(xmax - xmin) / columns:.6f} {(ymax - ymin) / rows:.6f}\n")
        written.labels.append(sink.text("labels", sample, ".txt", "".join(lines)))
        count_features(objects, written)


FORMAT = Yolo()
