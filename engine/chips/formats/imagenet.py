"""Imagenet: one chip per feature in the folder of its class; no label files."""

from __future__ import annotations

from .base import ChipFormat, Sample, Sink, Written, count_features, folder_name


class Imagenet(ChipFormat):
    """Images sorted into class folders."""

    def image_folder(self, sample: Sample) -> str:
        """Return ``images/<class>``."""
        return f"images/{folder_name(sample.name(int(sample.objects.values[0])))}"

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Count the chip's only object."""
        count_features(sample.objects, written)


FORMAT = Imagenet()
