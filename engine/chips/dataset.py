"""Reading a folder of training chips, ours or one exported by ArcGIS: :func:`open_chips`.

A :class:`ChipDataset` lists chips and facts; labels are read chip by chip by its methods, so that memory does not grow
with the folder. It can be sent to other processes.
"""

from __future__ import annotations

import contextlib
import csv
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Tuple

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning

from ..errors import ChipError
from ..jobs import RasterInput
from ..raster.gdal import gdal_errors, open_dataset, prepare_gdal
from ..raster.validity import finite_data
from . import folder as files
from . import label_files
from .label_files import Boxes, Instances

TRAIN, VALIDATION, TEST, LEFT_OUT = "train", "validation", "test", "left_out"


@dataclass(frozen=True)
class ChipClass:
    """A class of the labels; ``color`` is red, green, blue or None."""

    value: int
    name: str
    color: Optional[Tuple[int, int, int]] = None


@dataclass(frozen=True)
class BandSummary:
    """Statistics of one band over all chips, as the export wrote them."""

    name: str
    minimum: float
    maximum: float
    mean: float
    std: float


@dataclass(frozen=True)
class Chip:
    """One training sample.

    Attributes:
        stem: name without suffix, the same for the image and its labels.
        image: file of the pixels.
        image2: file of the second raster's pixels, or None.
        labels: label files; one per class for instance masks.
        class_name: the class of the whole chip where a folder says it (Imagenet), else empty.
        bounds: xmin, ymin, xmax, ymax in map units, or None if unknown.
        block: spatial block of the split; chips of one block belong together. Empty if unknown.
        part: "train", "validation", "test", "left_out" (overlaps another part) or empty if there is no split.
    """

    stem: str
    image: Path
    image2: Optional[Path] = None
    labels: Tuple[Path, ...] = ()
    class_name: str = ""
    bounds: Optional[Tuple[float, float, float, float]] = None
    block: str = ""
    part: str = ""


@dataclass(frozen=True)
class ChipDataset:
    """A folder of training chips.

    Attributes:
        folder: where it lies.
        format: metadata format, such as "PASCAL_VOC_rectangles".
        classes: classes in the order of the definition, without a background entry.
        bands, dtype, width, height: of the first chip's image.
        statistics: one summary per band; empty if the folder has none.
        statistics2: the same of the second raster.
        chips: in the order of their names.
        reference_system: "MAP_SPACE" or "PIXEL_SPACE".
        members: the folder's model definition as written by the export.
        accumulated: the accumulated statistics as written by the export.
        problems: sentences on files that were passed over.
    """

    folder: Path
    format: str
    classes: Tuple[ChipClass, ...]
    bands: int
    dtype: str
    width: int
    height: int
    statistics: Tuple[BandSummary, ...]
    statistics2: Tuple[BandSummary, ...]
    chips: Tuple[Chip, ...]
    reference_system: str = "MAP_SPACE"
    members: Mapping[str, Any] = field(default_factory=dict)
    accumulated: Mapping[str, Any] = field(default_factory=dict)
    problems: Tuple[str, ...] = ()
    coco: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.chips)

    def part(self, name: str) -> Tuple[Chip, ...]:
        """Return the chips of a part of the split: "train", "validation" or "test"."""
        return tuple(one for one in self.chips if one.part == name)

    def class_value(self, text: str) -> Optional[int]:
        """Return the class value that a label file means by ``text``; None if it is unknown.

        It is a value, a name, or “#” and a position from 0.
        """
        text = text.strip()
        if text.startswith("#"):  # YOLO: position in the list of classes
            position = _integer(text[1:])
            if position is None or not self.classes:
                return None if position is None else position + 1
            return self.classes[position].value if 0 <= position < len(self.classes) else None
        values = {one.value for one in self.classes}
        number = _integer(text)
        if number is not None and (number in values or not values):
            return number
        for one in self.classes:
            if one.name == text or one.name.lower() == text.lower():
                return one.value
        return None

    def image(self, chip: Chip, second: bool = False) -> Tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return pixels (bands, rows, columns) in the file's type and validity (rows, columns) of a chip.

        Raises:
            ChipError: the chip has no second image though it is asked for.
            RasterError: the file cannot be read.
        """
        path = chip.image2 if second else chip.image
        if path is None:
            raise ChipError(f"The chip {chip.stem} has no second image.", file=str(chip.image))
        with _opened(path) as dataset:
            pixels = dataset.read()
            nodata = dataset.nodatavals
            # Chips hold just the bands that were exported: an alpha band among them is a band like any other.
            masked = (
                MaskFlags.per_dataset in dataset.mask_flag_enums[0] and ColorInterp.alpha not in dataset.colorinterp
            )
            mask = dataset.read_masks(1) > 0 if masked else np.True_
        return pixels, mask & finite_data(pixels, nodata)

    def class_map(self, chip: Chip) -> npt.NDArray[np.int64]:
        """Return (rows, columns) class values, 0 where nothing is labelled (Classified_Tiles, Panoptic_Segmentation).

        Raises:
            ChipError: the chip has no class raster.
            RasterError: it cannot be read.
        """
        if not chip.labels:
            raise ChipError(f"The chip {chip.stem} has no label raster.", file=str(chip.image))
        return np.asarray(_read_label(chip.labels[0])[0], dtype=np.int64)

    def boxes(self, chip: Chip) -> Boxes:
        """Return the objects of a chip as boxes in its pixels; objects of unknown classes are passed over.

        Raises:
            ChipError: the label file is missing or broken, or the format has no objects.
        """
        if self.format in label_files.MASK_FORMATS:
            return self.instances(chip).boxes()
        return label_files.read_boxes(self.format, chip, self.class_value, self.coco, (self.width, self.height))

    def instances(self, chip: Chip) -> Instances:
        """Return the objects of a chip as masks (RCNN_Masks, Panoptic_Segmentation, COCO, YOLO_segmentation).

        Raises:
            ChipError: a label file is broken, or the format has no masks.
        """
        return label_files.read_instances(
            self.format, chip, self.class_value, self.coco, (self.width, self.height), _read_label
        )

    def names(self, chip: Chip) -> Tuple[str, ...]:
        """Return the class names of the whole chip (Labeled_Tiles, MultiLabeled_Tiles, Imagenet).

        Raises:
            ChipError: the label file is missing or broken, or the format labels no whole chips.
        """
        if chip.class_name:
            return (chip.class_name,)
        by_value = {one.value: one.name for one in self.classes}
        return label_files.read_names(self.format, chip, self.class_value, by_value)


def open_chips(path: str | Path) -> ChipDataset:
    """Open a folder of training chips.

    Raises:
        ChipError: the folder does not exist, holds no chips, or its side files are broken.
    """
    root = Path(path)
    if not root.is_dir():
        raise ChipError(
            f"There is no folder “{root}”.",
            stage="reading the training chips",
            file=str(root),
            hint="Choose the output folder of “Export training data”.",
        )
    accumulated, members = files.read_json(root / files.STATISTICS), files.read_json(root / files.DEFINITION)
    kind = str(accumulated.get("MetaDataMode") or members.get("MetaDataMode") or label_files.guess_format(root))
    if kind == "CycleGAN" and not members:
        members = files.read_json(root / "A" / files.DEFINITION)
        accumulated = files.read_json(root / "A" / files.STATISTICS)
    problems: List[str] = []
    chips = _chips(root, kind, problems)
    if not chips:
        raise ChipError(
            f"The folder “{root}” holds no training chips.",
            stage="reading the training chips",
            file=str(root),
            hint="Choose the output folder of “Export training data”: it holds images and esri_model_definition.emd.",
        )
    coco = label_files.read_coco(root) if kind == "COCO" else {}
    bands, dtype, width, height = _first_image(chips)
    return ChipDataset(
        folder=root,
        format=kind,
        classes=_classes(members, accumulated) or label_files.other_classes(root, kind, coco, ChipClass),
        bands=bands,
        dtype=dtype,
        width=width,
        height=height,
        statistics=_summaries(members, "AllTilesStats"),
        statistics2=_summaries(members, "AllTilesStats2"),
        chips=chips,
        reference_system=str(members.get("ImageSpaceUsed") or "MAP_SPACE"),
        members=members,
        accumulated=accumulated,
        problems=tuple(problems),
        coco=coco,
    )


def _chips(root: Path, kind: str, problems: List[str]) -> Tuple[Chip, ...]:
    rows = _chip_table(root / files.CHIP_TABLE)
    if kind == "Imagenet":
        found = [
            Chip(stem, image, class_name=folder.name, **rows.get(stem, {}))
            for folder in files.sub_folders(root / "images")
            for stem, image in files.list_files(folder, files.IMAGE_SUFFIXES).items()
        ]
        return tuple(sorted(found, key=lambda one: one.stem))
    first, second = _image_folders(root, kind)
    images, others = files.list_files(first, files.IMAGE_SUFFIXES), files.list_files(second, files.IMAGE_SUFFIXES)
    labels = label_files.list_labels(root, kind)
    chips = []
    for stem, image in images.items():
        if kind in label_files.LABEL_EXPECTED and stem not in labels:
            problems.append(f"The chip “{image.name}” has no label and is passed over.")
            continue
        partner = others.get(stem)
        chips.append(Chip(stem, image, partner, labels.get(stem, ()), **rows.get(stem, {})))
    orphans = len(set(labels) - set(images))
    if orphans:
        problems.append(f"{orphans} label files have no chip and are passed over.")
    return tuple(chips)


def _image_folders(root: Path, kind: str) -> Tuple[Path, Path]:
    if kind == "CycleGAN":
        return root / "A" / "images", root / "B" / "images"
    if not (root / "images").is_dir() and (root / "images_before").is_dir():
        return root / "images_before", root / "images_after"
    return root / "images", root / "images2"


def _chip_table(path: Path) -> Dict[str, Dict[str, Any]]:
    """Return bounds, block and part of each chip from our own table; empty for folders of others."""
    if not path.is_file():
        return {}
    rows: Dict[str, Dict[str, Any]] = {}
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                bounds = (float(row["xmin"]), float(row["ymin"]), float(row["xmax"]), float(row["ymax"]))
                rows[str(row["chip"])] = {"bounds": bounds, "block": str(row["block"]), "part": str(row["part"])}
            except (KeyError, TypeError, ValueError) as error:
                raise ChipError(
                    f"“{path.name}” is broken: {error}.", file=str(path), hint="Export the training data again."
                ) from error
    return rows


def _first_image(chips: Tuple[Chip, ...]) -> Tuple[int, str, int, int]:
    """Return bands, type, width and height of the first chip that can be opened."""
    for chip in chips[:100]:
        try:
            with open_dataset(RasterInput(str(chip.image))) as dataset:
                return dataset.count, str(np.result_type(*dataset.dtypes)), dataset.width, dataset.height
        except OSError:
            continue
    raise ChipError(
        f"None of the first chips of “{chips[0].image.parent}” can be opened.",
        stage="reading the training chips",
        file=str(chips[0].image),
        hint="Export the training data again.",
    )


def _read_label(path: Path) -> npt.NDArray[Any]:
    """Return all bands of a label raster."""
    with _opened(path) as dataset:
        return np.asarray(dataset.read())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a chip for its pixels: where it lies does not matter, and working that out takes longer than opening."""
    prepare_gdal()
    options = {"GEOREF_SOURCES": "NONE"} if path.suffix.lower() in (".tif", ".tiff") else {}
    with gdal_errors(str(path), "read"), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, **options) as dataset:
            yield dataset


def _classes(members: Mapping[str, Any], accumulated: Mapping[str, Any]) -> Tuple[ChipClass, ...]:
    found = []
    for entry in members.get("Classes") or accumulated.get("Classes") or ():
        if not isinstance(entry, dict):
            continue
        value = _integer(str(entry.get("Value", entry.get("ClassValue", ""))))
        if value is None:
            continue
        name = entry.get("Name", entry.get("ClassName"))
        found.append(ChipClass(value, str(name if name is not None else value), _colour(entry.get("Color"))))
    return tuple(found)


def _colour(value: Any) -> Optional[Tuple[int, int, int]]:
    if not isinstance(value, list) or len(value) < 3 or not all(isinstance(one, int) and one >= 0 for one in value):
        return None  # the export writes -1, -1, -1 for no colour
    return (value[0], value[1], value[2])


def _integer(text: str) -> Optional[int]:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def _summaries(members: Mapping[str, Any], key: str) -> Tuple[BandSummary, ...]:
    found = []
    for entry in members.get(key) or ():
        try:
            numbers = [float(entry[name]) for name in ("Min", "Max", "Mean", "StdDev")]
        except (KeyError, TypeError, ValueError):
            return ()
        found.append(BandSummary(str(entry.get("BandName") or ""), *numbers))
    return tuple(found)
