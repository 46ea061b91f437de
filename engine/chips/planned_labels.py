"""The labels of an export while it is planned: their classes, and their objects stored block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from ..errors import JobError
from ..jobs import ExportTrainingData, RasterInput, VectorInput
from ..raster.gdal import shown
from ..raster.source import RasterSource
from . import attribute_table, rules
from .classes import ClassRule, LabelClass, find_classes
from .items import Item, block_window
from .label_store import LabelCounts, LabelLayer, store_labels


class PlannedLabels:
    """The labels of an export while it is planned.

    Args:
        job: the export.
        traits: of its format.
        known: classes that the output folder has already.

    Raises:
        JobError: the labels have no such class field, or their values cannot be classes.
    """

    def __init__(self, job: ExportTrainingData, traits: rules.Traits, known: Sequence[LabelClass]) -> None:
        self._job = job
        self._traits = traits
        self.from_features = job.labels is not None
        self.counts = LabelCounts()
        self.classes: List[LabelClass] = []
        self.instance_classes: List[LabelClass] = []
        self._layers: Dict[str, LabelLayer] = {}
        zero = not traits.zero_is_background
        known = known if job.existing != rules.REPLACE else ()
        if job.labels is not None:
            rule, self.classes = find_classes(job.labels, job.class_field, zero, known)
            points = traits.per_object and job.crop_mode == rules.FIXED_SIZE and not job.blacken
            self._layers["labels"] = self._layer(job.labels, rule, points)
        elif job.label_raster is not None:
            self.classes = attribute_table.read_classes(job.label_raster)
            _check_class_raster(job.label_raster)
        if job.instances is not None:
            rule, self.instance_classes = self._instance_classes(job.instances)
            self._layers["instances"] = self._layer(job.instances, rule, False)
        elif job.instances_raster is not None:
            self.instance_classes = attribute_table.read_classes(job.instances_raster)
            _check_class_raster(job.instances_raster)
        names = {one.value: one for one in self.classes}
        self.instance_classes = [names.get(one.value, one) for one in self.instance_classes]
        self.classes.extend(one for one in self.instance_classes if one.value not in names)

    def _layer(self, vector: VectorInput, rule: ClassRule, points_allowed: bool) -> LabelLayer:
        return LabelLayer(vector, rule, self._job.buffer_radius, points_allowed)

    def _instance_classes(self, vector: VectorInput) -> Tuple[ClassRule, List[LabelClass]]:
        """Return the classes of the instance data: by the labels' class field where it has one, else by the rules."""
        try:
            return find_classes(vector, self._job.class_field, False, self.classes)
        except JobError:
            return find_classes(vector, "", False, self.classes)

    def store(self, items: Sequence[Item], blocks: Sequence[Mapping[str, Any]], staging: Path) -> None:
        """Store the objects of every block."""
        for kind, layer in self._layers.items():
            for number, item in enumerate(items):
                mine = [
                    (int(one["id"]), block_window(item, one, self._traits.per_object))
                    for one in blocks
                    if one["item"] == number
                ]
                found = store_labels(layer, item.grid, mine, staging / kind)
                if kind == "labels":
                    self._add(found)
        if self.from_features and self.counts.values:
            self.classes = [
                one for one in self.classes if one.value in self.counts.values or one in self.instance_classes
            ]

    def _add(self, found: LabelCounts) -> None:
        self.counts.read += found.read
        self.counts.stored += found.stored
        self.counts.without_class += found.without_class
        self.counts.dropped = max(self.counts.dropped, found.dropped)
        self.counts.repaired += found.repaired
        for value, number in found.values.items():
            self.counts.values[value] = self.counts.values.get(value, 0) + number

    def label_type(self, items: Sequence[Item]) -> str:
        """Return the smallest unsigned type that holds every class value of features, or the class raster's own."""
        if self._job.label_raster is not None:
            with RasterSource.open([self._job.label_raster], items[0].grid) as source:
                return str(source.dtype) if source.dtype.kind in "ui" and source.dtype.itemsize <= 4 else "int32"
        highest = max((one.value for one in self.classes), default=1)
        return str(np.min_scalar_type(highest)) if highest < 2**32 else "int64"

    def notes(self) -> List[str]:
        """Return sentences on features that were left out or repaired."""
        found = []
        for number, one, several in (
            (self.counts.without_class, "has no class and is left out", "have no class and are left out"),
            (
                self.counts.dropped,
                "has no geometry that can be used and is left out",
                "have no geometry that can be used and are left out",
            ),
            (self.counts.repaired, "had an invalid geometry, which was repaired", ""),
        ):
            if number:
                found.append(f"1 feature {one}." if number == 1 else f"{number} features {several or one}.")
        return found


def _check_class_raster(raster: RasterInput) -> None:
    with RasterSource.open([raster]) as source:
        if source.count != 1:
            raise JobError(
                f"A class raster has one band, but “{shown(raster.path)}” has {source.count}.",
                stage="reading the labels",
                file=shown(raster.path),
                hint="Select its class band.",
            )
