"""What all chip formats share: a sample goes in, files and counts come out."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from rasterio.features import shapes

from .. import tiff
from ..class_maps import ClassMap
from ..images import ImageWriter
from ..objects import Objects

# Up to here comparing is faster than sorting.
_FEW_CLASSES = 20
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


@dataclass(frozen=True)
class Sample:
    """One chip before it is written.

    Attributes:
        stem: file name without suffix.
        pixels: (bands, rows, columns).
        second: pixels of the second raster, or None.
        transform: chip pixels to map.
        objects: features in chip pixels; empty if the labels are pixels.
        class_map: the labels as pixels, if they come from a class raster or the format wants them so, else None.
        instances: objects of the instance data in chip pixels, or None.
        names: class names by value.
    """

    stem: str
    pixels: npt.NDArray[Any]
    second: Optional[npt.NDArray[Any]]
    transform: Affine
    objects: Objects
    class_map: Optional[ClassMap]
    instances: Optional[Objects]
    names: Mapping[int, str]

    @property
    def shape(self) -> Tuple[int, int]:
        """Rows and columns."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def name(self, value: int) -> str:
        """Return the name of a class; its value as text if it has none."""
        return self.names.get(value, str(value))


@dataclass
class Written:
    """What was written for one chip.

    Attributes:
        images: image paths relative to the root of the data set, the first raster's first.
        labels: label paths, in the order of ``map.txt``.
        values, areas: class value and area of each labelled object.
        pixels: pixels of each class, for formats that count pixels.
        annotations: what a format collects for one file of the whole set.
    """

    images: List[str] = field(default_factory=list)
    labels: List[str] = field(default_factory=list)
    values: List[int] = field(default_factory=list)
    areas: List[float] = field(default_factory=list)
    pixels: Optional[Dict[int, int]] = None
    annotations: List[Dict[str, Any]] = field(default_factory=list)


class Sink:
    """Writes files below a folder, and remembers them.

    Attributes:
        files: paths of all files relative to the folder, side files included.
        size: bytes of all files.
    """

    def __init__(self, folder: Path, images: ImageWriter) -> None:
        self._root = str(folder)
        self._images = images
        self._made: set[str] = set()
        self.files: List[str] = []
        self.size = 0

    def image(self, folder: str, sample: Sample, pixels: npt.NDArray[Any]) -> str:
        """Write pixels in the chip format asked for; return the image's path."""
        written = self._images.write(Path(self._path(folder, sample.stem)), pixels, sample.transform)
        self.files.extend(f"{folder}/{one.name}" for one in written)
        self.size += sum(one.stat().st_size for one in written)
        return f"{folder}/{written[0].name}"

    def raster(self, folder: str, sample: Sample, values: npt.NDArray[Any]) -> str:
        """Write a label raster (rows, columns) or (bands, rows, columns) as TIFF; return its path."""
        bands = values if values.ndim == 3 else values[None]
        data = tiff.encode(bands, self._images.crs, sample.transform)
        return self._file(folder, f"{sample.stem}.tif", data)

    def text(self, folder: str, sample: Sample, suffix: str, text: str) -> str:
        """Write a text file in UTF-8 as it is; return its path."""
        return self._file(folder, sample.stem + suffix, text.encode("utf-8"))

    def _file(self, folder: str, name: str, data: bytes) -> str:
        with open(self._path(folder, name), "wb") as file:
            file.write(data)
        self.files.append(f"{folder}/{name}")
        self.size += len(data)
        return f"{folder}/{name}"

    def _path(self, folder: str, name: str) -> str:
        if folder not in self._made:
            os.makedirs(os.path.join(self._root, folder), exist_ok=True)
            self._made.add(folder)
        return os.path.join(self._root, folder, name)


class ChipFormat:
    """A chip format; formats without labels need nothing more."""

    def write(self, sample: Sample, sink: Sink) -> Written:
        """Write the image or images of a chip and its labels."""
        written = Written()
        written.images.append(sink.image(self.image_folder(sample), sample, sample.pixels))
        if sample.second is not None:
            written.images.append(sink.image("images2", sample, sample.second))
        self.write_labels(sample, sink, written)
        return written

    def image_folder(self, sample: Sample) -> str:
        """Return the folder of the chip's image."""
        return "images"

    def write_labels(self, sample: Sample, sink: Sink, written: Written) -> None:
        """Write the label files and fill in what they hold."""


def labelled_objects(sample: Sample) -> Objects:
    """Return the sample's objects; of a class raster, each connected region of one class is an object."""
    if sample.class_map is None:
        return sample.objects
    return regions(sample.class_map.pixels, sample.transform)


def regions(values: npt.NDArray[Any], transform: Affine) -> Objects:
    """Return the regions of one value other than 0 that are connected by edges, from top to bottom."""
    values = values.astype(np.int32)
    found = [(shapely.geometry.shape(one), int(value)) for one, value in shapes(values, mask=values > 0)]
    found.sort(key=lambda one: (one[0].bounds[1], one[0].bounds[0], one[1]))
    geometries = np.empty(len(found), dtype=object)
    geometries[:] = [one for one, _ in found]
    cell = abs(transform.determinant)
    return Objects(
        geometries,
        np.array([value for _, value in found], dtype=np.int64),
        np.array([one.area * cell for one, _ in found], dtype=float),
        np.full(len(found), -1, dtype=np.int64),
    )


def count_features(objects: Objects, written: Written) -> None:
    """Note every object with its class and area."""
    written.values = objects.values.tolist()
    written.areas = objects.areas.tolist()


def count_pixels(class_map: ClassMap, written: Written) -> None:
    """Note how many pixels each class has."""
    candidates = sorted(set(class_map.values.tolist()))
    if len(candidates) <= _FEW_CLASSES:
        found = {value: int(np.count_nonzero(class_map.pixels == value)) for value in candidates}
        written.pixels = {value: number for value, number in found.items() if number and value}
        return
    values, numbers = np.unique(class_map.pixels, return_counts=True)
    written.pixels = {int(value): int(number) for value, number in zip(values, numbers) if value}


def folder_name(name: str) -> str:
    """Return a class name as a folder's name that every file system takes."""
    safe = _FORBIDDEN.sub("_", name).strip().rstrip(".") or "_"
    return f"{safe}_" if safe.upper().split(".")[0] in _RESERVED else safe


_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{one}{number}" for one in ("COM", "LPT") for number in range(1, 10))}
