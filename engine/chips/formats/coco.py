"""COCO: one JSON file of all instances, with boxes and polygons in pixels, and one per part of the split."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List

import numpy as np
import shapely

from ..paint import paint
from .base import ChipFormat, Sample, Sink, Written, count_features, labelled_objects

FOLDER = "annotations"


def rings_of(geometry: shapely.Geometry) -> List[List[float]]:
    """Return the outer rings of a polygon as flat lists x, y, x, y, ..., to a hundredth of a pixel, unclosed."""
    parts = shapely.get_parts(geometry)
    rings = (shapely.get_coordinates(shapely.get_exterior_ring(one))[:-1] for one in parts)
    return [np.round(one, 2).ravel().tolist() for one in rings if len(one) >= 3]


def run_lengths(mask: np.ndarray[Any, Any]) -> Dict[str, Any]:
    """Return COCO's uncompressed run lengths of a mask (rows, columns): column by column, zeros first."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    if flat.size and flat[0]:
        counts.insert(0, 0)
    return {"counts": counts, "size": list(mask.shape)}


class Coco(ChipFormat):
    """Instances as JSON."""

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Collect the chip's annotations; they are written when all chips are in place."""
        objects = labelled_objects(sample)
        for geometry, value, (xmin, ymin, xmax, ymax) in zip(objects.geometries, objects.values, objects.boxes()):
            holes = shapely.get_num_interior_rings(shapely.get_parts(geometry)).any()
            one = np.array([geometry], dtype=object)
            shape: Any = run_lengths(paint(one, [1], sample.shape, np.uint8)) if holes else rings_of(geometry)
            box = [round(float(number), 2) for number in (xmin, ymin, xmax - xmin, ymax - ymin)]
            written.annotations.append(
                {
                    "category_id": int(value),
                    "bbox": box,
                    "area": round(float(geometry.area), 2),
                    "iscrowd": 0,
                    "segmentation": shape,
                }
            )
        count_features(objects, written)


FORMAT = Coco()


def write_file(
    path: Path, images: Iterable[Dict[str, Any]], annotations: Iterator[Dict[str, Any]], classes: List[Dict[str, Any]]
) -> None:
    """Write a COCO file piece by piece, so that memory does not grow with the data set."""
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(part, "w", encoding="utf-8", newline="\n") as file:
        file.write('{"info": {"description": "Deep Raster"}, "licenses": [], "categories": ')
        json.dump(classes, file, ensure_ascii=False)
        for key, items in (("images", images), ("annotations", annotations)):
            file.write(f',\n"{key}": [')
            for number, one in enumerate(items):
                file.write(",\n" if number else "\n")
                json.dump(one, file, ensure_ascii=False)
            file.write("]")
        file.write("}\n")
    os.replace(part, path)
