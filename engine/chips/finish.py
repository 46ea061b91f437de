"""Finishing an export: statistics are merged, side files, split and contact sheet written; may be repeated.

All of it goes beside the chips in the working folder, so that a full disk leaves the output as it is.
"""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from ..errors import OutputError
from ..jobs import ExportTrainingData, from_dict
from ..workers.task import TaskContext
from . import coco_files, contact_sheet, folder, rules, side_files, space
from .classes import LabelClass
from .items import Item
from .naming import final_paths, stem_of
from .plan import read_plan
from .side_files import DataSet
from .splitting import LEFT_OUT, PARTS, Placed, Split, split_chips
from .staging import Staging, read_json
from .statistics import BandStatistics, ClassStatistics

_FEW = 10
_FIELDS = ("chip", "image", "part", "block", "xmin", "ymin", "xmax", "ymax", "turn", "group", "objects", "classes")
Row = Dict[str, Any]


def finish_export(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Task: write everything that describes the data set as a whole.

    Args:
        payload: ``output`` folder, ``export``: digest of the job and counts, by which a finished export is known, and
            ``secrets``: logins in the plan's places.
        context: of the worker; not used.

    Returns:
        warnings: sentences on classes that have few samples.

    Raises:
        OutputError: a file cannot be written.
    """
    staging = Staging(Path(payload["output"]))
    plan = read_plan(staging, payload["secrets"])
    job = from_dict(plan["job"])
    if not isinstance(job, ExportTrainingData):
        raise OutputError("The plan of the export holds another job.", file=str(staging.plan_file))
    numbers = read_json(staging.numbers_file)
    warnings: List[str] = []
    try:
        for root in plan["bands"]:
            found = _Root(staging, plan, job, root, numbers)
            found.export = payload["export"]
            warnings.extend(found.finish())
    except OSError as error:
        raise OutputError(
            f"The side files of the chips cannot be written to “{staging.output}”: {error.strerror or error}"
            f"{space.no_room(staging.output)}. Nothing was changed there.",
            stage="finishing the export",
            file=str(staging.output),
            hint="Make room, then run the export again with “continue”.",
        ) from error
    return {"warnings": warnings}


class _Root:
    """One root folder of the output: the output itself, or A or B of CycleGAN."""

    def __init__(
        self,
        staging: Staging,
        plan: Mapping[str, Any],
        job: ExportTrainingData,
        root: str,
        numbers: Mapping[str, Any],
    ) -> None:
        self._staging = staging
        self._plan = plan
        self._job = job
        self._name = root
        self._folder = staging.ready / root
        self._before = staging.kept / root
        self._numbers: Mapping[str, Sequence[int]] = numbers["numbers"]
        self._start = int(numbers["starts"][root])
        self._traits = rules.traits(job.format)
        self._items = [Item.from_dict(one) for one in plan["items"]]
        self._bands: List[List[BandStatistics]] = [[], []]
        self._classes = ClassStatistics()
        self._instances: Set[int] = set()
        self.export: Dict[str, Any] = {}

    def finish(self) -> List[str]:
        """Write all files; return warnings."""
        chips = self._collect()
        data = self._data_set(len(chips))
        rows = [*_rows_before(self._before / folder.CHIP_TABLE), *(self._row(number, one) for number, one in chips)]
        split = split_chips([_placed(one) for one in rows], self._job.split)
        for row, part, block in zip(rows, split.parts, split.blocks):
            row["part"], row["block"] = part, block
        lines = (self._map_paths(number, one) for number, one in chips)
        side_files.write_map(self._folder / folder.MAP, self._before / folder.MAP, lines)
        side_files.write_all(self._folder, data)
        _write_table(self._folder / folder.CHIP_TABLE, rows)
        self._write_split(rows, split)
        if self._job.format == "COCO":
            coco_files.write(
                self._folder, self._before, chips, data.classes, {one["chip"]: one["part"] for one in rows}
            )
        if self._job.format in ("YOLO", "YOLO_segmentation"):
            self._write_yolo(rows, data.classes)
        contact_sheet.write(self._folder, self._before)
        return _balance(data) if data.labelled else []

    def _collect(self) -> List[Tuple[int, Row]]:
        """Return (number, receipt) of this root's chips by number, and add up the statistics of its blocks."""
        found: List[Tuple[int, Row]] = []
        for block in self._plan["blocks"]:
            if self._items[int(block["item"])].root != self._name:
                continue
            receipt = read_json(self._staging.block_file(int(block["id"])))
            for total, key in zip(self._bands, ("bands", "bands2")):
                _add(total, [BandStatistics.from_state(one) for one in receipt[key]])
            self._classes.merge(ClassStatistics.from_dict(receipt["classes"]))
            self._instances.update(receipt["instances"])
            found.extend(zip(self._numbers.get(str(block["id"]), ()), receipt["chips"]))
        return sorted(found, key=lambda one: one[0])

    def _data_set(self, new: int) -> DataSet:
        """Return the facts of the whole data set: what was there before and the new chips."""
        before = folder.read_json(self._before / folder.STATISTICS)
        old_definition = folder.read_json(self._before / folder.DEFINITION)
        features = not self._traits.pixel_statistics
        old_values = [int(one["ClassValue"]) for one in before.get("Classes") or ()]
        classes = ClassStatistics.from_esri(
            before.get("FeatureStats" if features else "ClassPixelStats"), old_values, not features
        )
        classes.merge(self._classes)
        bands = [
            _added([BandStatistics.from_state(one) for one in before.get(key) or ()], total)
            for key, total in zip(("BandStatsState", "BandStatsState2"), self._bands)
        ]
        own, second = self._plan["bands"][self._name], self._plan["bands2"]
        grid = next(one.grid for one in self._items if one.root == self._name)
        sensors = int((before.get("InputRastersProps") or {}).get("RasterCount") or 0)
        return DataSet(
            format=self._job.format,
            tile=(self._job.tile_size_x, self._job.tile_size_y),
            bands=int(own["count"]),
            band_names=tuple(own["names"]),
            sensors=sensors + int(own["sensors"]),
            cell_size=(*grid.cell_size, grid.crs),
            classes=self._merged_classes(old_definition.get("Classes") or ()),
            instance_classes=self._instance_classes(old_definition),
            tiles=int(before.get("NumTiles") or 0) + new,
            next_index=self._start + new,
            features=features,
            band_statistics=bands[0],
            class_statistics=classes,
            band_names2=tuple(second["names"]) if second else (),
            sensors2=int(second["sensors"]) if second else 0,
            band_statistics2=bands[1],
            options={
                "BlackenAroundFeature": self._job.blacken,
                "IsMultidimensional": False,
                "CropTileMode": "Fixed_Size" if self._job.crop_mode == rules.FIXED_SIZE else "Variable_Size",
                "ImageSpaceUsed": self._job.reference_system,
            },
        )

    def _merged_classes(self, old: Sequence[Mapping[str, Any]]) -> List[LabelClass]:
        """Return all classes: sorted by value; for YOLO earlier ones first, because positions must not change."""
        found = _classes_before(old)
        planned = {one.value: one for one in (LabelClass.from_dict(one) for one in self._plan["classes"])}
        for value in sorted({*planned, *self._classes.number_of, *self._instances}):
            found.setdefault(value, planned.get(value, LabelClass(value, str(value))))
        if self._job.format.startswith("YOLO"):
            return list(found.values())
        return [found[value] for value in sorted(found)]

    def _instance_classes(self, old: Mapping[str, Any]) -> List[LabelClass]:
        """Return the classes that have instances, in this export or before it."""
        found = _classes_before(old.get("Panoptic_Segmentation_Instance_Classes") or ())
        planned = {one.value: one for one in (LabelClass.from_dict(one) for one in self._plan["instance_classes"])}
        for value in {*planned, *self._instances}:
            found.setdefault(value, planned.get(value, LabelClass(value, str(value))))
        return [found[value] for value in sorted(found)]

    def _map_paths(self, number: int, chip: Row) -> List[str]:
        images, labels = final_paths(chip, number, "images"), final_paths(chip, number, "labels")
        return [images[0], *labels, *images[1:]]

    def _row(self, number: int, chip: Row) -> Row:
        item = self._items[int(chip["item"])]
        xmin, ymin, xmax, ymax = chip["bounds"]
        return {
            "chip": stem_of(number),
            "image": final_paths(chip, number, "images")[0],
            "xmin": xmin,
            "ymin": ymin,
            "xmax": xmax,
            "ymax": ymax,
            "turn": chip["turn"],
            # Images without CRS may share coordinates without sharing a pixel.
            "group": "" if item.grid.crs else f"{item.name}:",
            "objects": chip["objects"],
            "classes": " ".join(str(one) for one in chip["classes"]),
        }

    def _write_split(self, rows: Sequence[Row], split: Split) -> None:
        members: Dict[str, Any] = {
            "shares": dict(zip(PARTS, self._job.split)),
            "block_size": split.block_size,
            "exports": [*(read_json(self._before / folder.SPLIT) or {}).get("exports", ()), self.export],
        }
        members |= {part: [one["chip"] for one in rows if one["part"] == part] for part in (*PARTS, LEFT_OUT)}
        side_files.write_text(self._folder / folder.SPLIT, json.dumps(members, indent=1) + "\n")

    def _write_yolo(self, rows: Sequence[Row], classes: Sequence[LabelClass]) -> None:
        side_files.write_text(self._folder / "classes.txt", "".join(f"{one.name}\n" for one in classes))
        for part in PARTS:
            lines = "".join(f"./{one['image']}\n" for one in rows if one["part"] == part)
            side_files.write_text(self._folder / f"{part}.txt", lines)
        names = "".join(f"  {number}: {json.dumps(one.name)}\n" for number, one in enumerate(classes))
        text = f"train: train.txt\nval: validation.txt\ntest: test.txt\nnames:\n{names}"
        side_files.write_text(self._folder / "data.yaml", text)


def _classes_before(entries: Sequence[Mapping[str, Any]]) -> Dict[int, LabelClass]:
    """Return the classes of a definition by value, in its order."""
    found: Dict[int, LabelClass] = {}
    for entry in entries:
        if entry.get("Value") is not None:
            colour = entry.get("Color") or []
            known = (colour[0], colour[1], colour[2]) if len(colour) == 3 and min(colour) >= 0 else None
            found[int(entry["Value"])] = LabelClass(int(entry["Value"]), str(entry["Name"]), known)
    return found


def _add(total: List[BandStatistics], others: Sequence[BandStatistics]) -> None:
    if others and not total:
        total.extend(BandStatistics() for _ in others)
    for one, other in zip(total, others):
        one.add(other)


def _added(before: List[BandStatistics], new: Sequence[BandStatistics]) -> List[BandStatistics]:
    _add(before, new)
    return before


def _rows_before(path: Path) -> Iterator[Row]:
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)


def _placed(row: Row) -> Placed:
    bounds = (float(row["xmin"]), float(row["ymin"]), float(row["xmax"]), float(row["ymax"]))
    return Placed(str(row["chip"]), bounds, {int(one): 1 for one in str(row["classes"]).split()}, str(row["group"]))


def _write_table(path: Path, rows: Sequence[Row]) -> None:
    part = path.with_name(path.name + ".part")
    with open(part, "w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _FIELDS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    os.replace(part, path)


def _balance(data: DataSet) -> List[str]:
    """Return a warning for each class with few samples, and one for a large imbalance."""
    found = []
    numbers: Dict[int, int] = {one.value: data.class_statistics.images_of.get(one.value, 0) for one in data.classes}
    for one in data.classes:
        if numbers[one.value] < _FEW:
            found.append(
                f"The class “{one.name}” is on {numbers[one.value]} chips only; a network hardly learns a class from "
                f"fewer than {_FEW}."
            )
    most: Optional[int] = max(numbers.values(), default=None)
    least = min((one for one in numbers.values() if one >= _FEW), default=None)
    if most and least and most > 100 * least:
        found.append(f"The most frequent class is on {most / least:.0f} times as many chips as the rarest.")
    return found
