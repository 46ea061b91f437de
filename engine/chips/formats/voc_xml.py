"""The XML of PASCAL VOC as ArcGIS writes and reads it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Iterable, Tuple
from xml.sax.saxutils import escape  # nosec B406 - writes, never parses

from .base import Sample

Box = Tuple[float, float, float, float]


def annotation(sample: Sample, image: str, objects: Iterable[Tuple[str, Box]]) -> str:
    """Return the annotation of a chip: ``objects`` are name and box in pixels of the chip."""
    bands, rows, columns = sample.pixels.shape
    parts = [
        '<?xml version="1.0"?>\n<annotation>\n',
        f"    <filename>{escape(PurePosixPath(image).name)}</filename>\n",
        "    <source>\n        <annotation>Deep Raster</annotation>\n    </source>\n",
        f"    <size>\n        <width>{columns}</width>\n        <height>{rows}</height>\n",
        f"        <depth>{bands}</depth>\n    </size>\n",
    ]
    for name, (xmin, ymin, xmax, ymax) in objects:
        parts.append(
            f"    <object>\n        <name>{escape(name)}</name>\n        <bndbox>\n"
            f"            <xmin>{max(0.0, xmin):.2f}</xmin>\n            <ymin>{max(0.0, ymin):.2f}</ymin>\n"
            f"            <xmax>{min(columns, xmax):.2f}</xmax>\n            <ymax>{min(rows, ymax):.2f}</ymax>\n"
            "        </bndbox>\n    </object>\n"
        )
    parts.append("</annotation>\n")
    return "".join(parts)
