"""Label files of every chip format, read as boxes, masks or names.

Coordinates are pixels of the chip: x to the right, y down, origin at the outer corner of the upper left pixel.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Type
from xml.etree.ElementTree import Element, ParseError  # nosec B405 - types; defusedxml parses

import numpy as np
import numpy.typing as npt
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from ..errors import ChipError
from . import folder as files
from .paint import paint_rings

if TYPE_CHECKING:
    from .dataset import Chip, ChipClass

LABEL_SUFFIX = {
    "KITTI_rectangles": (".txt",),
    "PASCAL_VOC_rectangles": (".xml",),
    "Labeled_Tiles": (".xml",),
    "MultiLabeled_Tiles": (".xml",),
    "Classified_Tiles": files.IMAGE_SUFFIXES,
    "Panoptic_Segmentation": files.IMAGE_SUFFIXES,
    "YOLO": (".txt",),
    "YOLO_segmentation": (".txt",),
}
LABEL_EXPECTED = frozenset(LABEL_SUFFIX) - {"YOLO", "YOLO_segmentation"}
MASK_FORMATS = frozenset(("RCNN_Masks", "Panoptic_Segmentation"))
COCO_FILE = Path("annotations") / "instances.json"
_MAX_XML = 32 * 2**20
_MAX_COCO = 4 * 2**30
ClassValue = Callable[[str], Optional[int]]


@dataclass(frozen=True)
class Boxes:
    """Objects of one chip: ``boxes`` (n, 4) float32 xmin, ymin, xmax, ymax; ``labels`` (n,) int64 class values."""

    boxes: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Instances:
    """Objects of one chip: ``masks`` (n, rows, columns) bool; ``labels`` (n,) int64 class values."""

    masks: npt.NDArray[np.bool_]
    labels: npt.NDArray[np.int64]

    def boxes(self) -> Boxes:
        """Return the boxes around the masks; every mask has at least one pixel."""
        rows, columns = np.asarray(self.masks.any(axis=2)), np.asarray(self.masks.any(axis=1))
        boxes = np.zeros((len(self.labels), 4), dtype=np.float32)
        for index in range(len(self.labels)):
            y, x = np.flatnonzero(rows[index]), np.flatnonzero(columns[index])
            boxes[index] = x[0], y[0], x[-1] + 1, y[-1] + 1
        return Boxes(boxes, self.labels)


def guess_format(root: Path) -> str:
    """Return the format of a folder without side files, by its layout.

    Raises:
        ChipError: the layout is none that is known.
    """
    if (root / COCO_FILE).is_file():
        return "COCO"
    if (root / "A" / "images").is_dir() and (root / "B" / "images").is_dir():
        return "CycleGAN"
    if any(files.list_files(root / "labels", (".xml",))):
        return "PASCAL_VOC_rectangles"
    texts = files.list_files(root / "labels", (".txt",))
    if texts:
        first = next((line for one in texts.values() for line in one.read_text("utf-8", "replace").splitlines()), "")
        columns = len(first.split())
        return "KITTI_rectangles" if columns == 15 else "YOLO" if columns in (0, 5) else "YOLO_segmentation"
    if any(files.list_files(root / "labels", files.IMAGE_SUFFIXES)):
        return "Classified_Tiles"
    if any(files.sub_folders(root / "labels")):
        return "RCNN_Masks"
    if any(files.sub_folders(root / "images")):
        return "Imagenet"
    if (root / "images").is_dir():
        return "Export_Tiles"
    raise ChipError(
        f"The folder “{root}” holds no training chips.",
        stage="reading the training chips",
        file=str(root),
        hint="Choose the output folder of “Export training data”: it holds images and esri_model_definition.emd.",
    )


def list_labels(root: Path, kind: str) -> Dict[str, Tuple[Path, ...]]:
    """Return the label files of each chip by its stem; of panoptic sets the class raster first, then the instances."""
    found: Dict[str, Tuple[Path, ...]] = {}
    if kind in LABEL_SUFFIX:
        found = {stem: (path,) for stem, path in files.list_files(root / "labels", LABEL_SUFFIX[kind]).items()}
    if kind in MASK_FORMATS:
        for folder in files.sub_folders(root / ("labels" if kind == "RCNN_Masks" else "labels2")):
            for stem, path in files.list_files(folder, files.IMAGE_SUFFIXES).items():
                found[stem] = (*found.get(stem, ()), path)
    return found


def read_boxes(kind: str, chip: Chip, class_value: ClassValue, coco: Mapping[str, Any], size: Tuple[int, int]) -> Boxes:
    """Return the boxes of a chip; see :meth:`.dataset.ChipDataset.boxes`."""
    readers: Dict[str, Callable[[], List[Tuple[str, List[float]]]]] = {
        "PASCAL_VOC_rectangles": lambda: _voc(chip),
        "KITTI_rectangles": lambda: _kitti(chip),
        "YOLO": lambda: _yolo(chip, size),
        "YOLO_segmentation": lambda: _yolo(chip, size),
        "COCO": lambda: [(str(one["category_id"]), _from_coco(one["bbox"])) for one in coco.get(chip.image.name, ())],
    }
    if kind not in readers:
        raise ChipError(
            f"Chips of the format {kind} have no boxes.", hint="Export as PASCAL_VOC_rectangles, or use another model."
        )
    boxes, labels = [], []
    for text, box in readers[kind]():
        value = class_value(text)
        if value is None or not all(math.isfinite(one) for one in box) or box[2] <= box[0] or box[3] <= box[1]:
            continue
        boxes.append(box)
        labels.append(value)
    return Boxes(np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(labels, dtype=np.int64))


def _from_coco(bbox: List[float]) -> List[float]:
    x, y, width, height = (float(one) for one in bbox)
    return [x, y, x + width, y + height]


def _xml(path: Path) -> Element:
    """Return the root of an XML file; entities and document types are refused."""
    try:
        if path.stat().st_size > _MAX_XML:
            raise ChipError(f"The label “{path.name}” is larger than 32 MB.", file=str(path))
        root: Element = ElementTree.parse(path, forbid_dtd=True).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, RecursionError) as error:
        raise ChipError(
            f"The label “{path.name}” is no XML that can be read: {error}.",
            stage="reading the training chips",
            file=str(path),
        ) from error
    return root


def _label(chip: Chip) -> Path:
    if not chip.labels:
        raise ChipError(f"The chip {chip.stem} has no label.", file=str(chip.image))
    return chip.labels[0]


def _voc(chip: Chip) -> List[Tuple[str, List[float]]]:
    path, found = _label(chip), []
    for item in _xml(path).iter("object"):
        box = item.find("bndbox")
        corners = [box.findtext(name) if box is not None else None for name in ("xmin", "ymin", "xmax", "ymax")]
        try:
            found.append((item.findtext("name") or "", [float(one or "") for one in corners]))
        except ValueError as error:
            raise ChipError(f"The label “{path.name}” has a box without numbers.", file=str(path)) from error
    return found


def _lines(path: Path) -> List[List[str]]:
    try:
        text = path.read_text("utf-8", "replace")
    except OSError as error:
        raise ChipError(f"The label “{path.name}” cannot be read: {error}.", file=str(path)) from error
    return [line.split() for line in text.splitlines() if line.strip()]


def _kitti(chip: Chip) -> List[Tuple[str, List[float]]]:
    path, found = _label(chip), []
    for words in _lines(path):
        try:
            found.append((words[0], [float(one) for one in words[4:8]]))
        except ValueError as error:
            raise ChipError(f"The label “{path.name}” has a line without numbers.", file=str(path)) from error
        if len(found[-1][1]) != 4:
            raise ChipError(f"The label “{path.name}” has a line that is too short.", file=str(path))
    return found


def _yolo_rows(chip: Chip, size: Tuple[int, int]) -> List[Tuple[str, npt.NDArray[np.float64]]]:
    """Return the class position as “#0”, “#1”, ... and the numbers, in pixels, of each line.

    A chip without a label file has no objects.
    """
    found = []
    for path in chip.labels[:1]:
        for words in _lines(path):
            try:
                numbers = np.array([float(one) for one in words[1:]])
                position = int(words[0])
            except ValueError as error:
                raise ChipError(f"The label “{path.name}” has a line without numbers.", file=str(path)) from error
            if len(numbers) < 4 or len(numbers) % 2:
                raise ChipError(f"The label “{path.name}” has a line that is too short.", file=str(path))
            found.append((f"#{position}", numbers * np.resize(np.array(size, dtype=float), len(numbers))))
    return found


def _yolo(chip: Chip, size: Tuple[int, int]) -> List[Tuple[str, List[float]]]:
    found = []
    for text, numbers in _yolo_rows(chip, size):
        if len(numbers) == 4:
            x, y, width, height = numbers
            box = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        else:
            points = numbers.reshape(-1, 2)
            box = [*points.min(axis=0), *points.max(axis=0)]
        found.append((text, [float(one) for one in box]))
    return found


def read_instances(
    kind: str,
    chip: Chip,
    class_value: ClassValue,
    coco: Mapping[str, Any],
    size: Tuple[int, int],
    read_raster: Callable[[Path], npt.NDArray[Any]],
) -> Instances:
    """Return the masks of a chip; see :meth:`.dataset.ChipDataset.instances`."""
    masks: List[npt.NDArray[np.bool_]] = []
    labels: List[int] = []
    if kind in MASK_FORMATS:
        for path in chip.labels[1 if kind == "Panoptic_Segmentation" else 0 :]:
            value = class_value(path.parent.name)
            if value is None:
                continue
            for band in read_raster(path):
                for number in np.unique(band[band > 0]):
                    masks.append(band == number)
                    labels.append(value)
    elif kind in ("COCO", "YOLO_segmentation"):
        for text, mask in _masks(kind, chip, coco, size):
            value = class_value(text)
            if value is not None and mask.any():
                masks.append(mask)
                labels.append(value)
    else:
        raise ChipError(f"Chips of the format {kind} have no masks.", hint="Export as RCNN_Masks.")
    shape = (0, size[1], size[0])
    return Instances(np.stack(masks) if masks else np.zeros(shape, bool), np.array(labels, dtype=np.int64))


def _masks(
    kind: str, chip: Chip, coco: Mapping[str, Any], size: Tuple[int, int]
) -> Iterator[Tuple[str, npt.NDArray[np.bool_]]]:
    shape = (size[1], size[0])
    if kind == "YOLO_segmentation":
        for text, numbers in _yolo_rows(chip, size):
            if len(numbers) >= 6:
                yield text, paint_rings([numbers.reshape(-1, 2)], shape)
        return
    for one in coco.get(chip.image.name, ()):
        segmentation = one.get("segmentation")
        if isinstance(segmentation, dict):
            yield str(one["category_id"]), _decoded(segmentation, shape, chip)
        elif isinstance(segmentation, list):
            rings = [np.array(ring, dtype=float).reshape(-1, 2) for ring in segmentation if len(ring) >= 6]
            mask = np.zeros(shape, dtype=bool)
            for ring in rings:  # parts of one object may overlap, so they are not painted by the even-odd rule
                mask |= paint_rings([ring], shape)
            yield str(one["category_id"]), mask


def _decoded(segmentation: Mapping[str, Any], shape: Tuple[int, int], chip: Chip) -> npt.NDArray[np.bool_]:
    """Return the mask of uncompressed run lengths: column by column, zeros first."""
    counts = segmentation.get("counts")
    if not isinstance(counts, list) or list(segmentation.get("size") or ()) != list(shape):
        raise ChipError(
            f"The COCO file has a mask of “{chip.image.name}” in a form that cannot be read.", file=str(chip.image)
        )
    lengths = np.array(counts, dtype=np.int64)
    if (lengths < 0).any() or int(lengths.sum()) != shape[0] * shape[1]:
        raise ChipError(f"The COCO file has a mask of another size than “{chip.image.name}”.", file=str(chip.image))
    flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return np.asarray(flat.reshape(shape, order="F"))


def read_names(kind: str, chip: Chip, class_value: ClassValue, by_value: Mapping[int, str]) -> Tuple[str, ...]:
    """Return the class names of a whole chip; see :meth:`.dataset.ChipDataset.names`."""
    if kind not in ("Labeled_Tiles", "MultiLabeled_Tiles"):
        raise ChipError(
            f"Chips of the format {kind} have no label for the whole chip.", hint="Export as Labeled_Tiles or Imagenet."
        )
    item = next(_xml(_label(chip)).iter("object"), None)
    text = (item.findtext("name") or "") if item is not None else ""
    if kind == "MultiLabeled_Tiles":
        return tuple(one.strip() for one in text.split(",") if one.strip())
    value = class_value(text)
    return () if value is None else (by_value.get(value, text.strip()),)


def read_coco(root: Path) -> Dict[str, Any]:
    """Return annotations by image file name, and the categories under the empty name.

    Raises:
        ChipError: the file is missing or no COCO file.
    """
    path = root / COCO_FILE
    try:
        if path.stat().st_size > _MAX_COCO:
            raise ChipError("The COCO file is larger than 4 GB.", file=str(path))
        members = json.loads(path.read_text("utf-8"))
        names = {int(one["id"]): Path(str(one["file_name"])).name for one in members["images"]}
        found: Dict[str, Any] = {"": list(members["categories"])}
        for one in members["annotations"]:
            found.setdefault(names[int(one["image_id"])], []).append(one)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ChipError(
            f"“{path.name}” is no COCO file that can be read: {error}.",
            stage="reading the training chips",
            file=str(path),
        ) from error
    return found


def other_classes(root: Path, kind: str, coco: Mapping[str, Any], make: Type[ChipClass]) -> Tuple[ChipClass, ...]:
    """Return the classes of folders without a model definition, as far as their layout tells them."""
    if kind == "COCO":
        return tuple(make(int(one["id"]), str(one["name"])) for one in coco.get("", ()))
    if kind == "Imagenet":
        return tuple(make(number, one.name) for number, one in enumerate(files.sub_folders(root / "images"), 1))
    if kind == "RCNN_Masks":
        return tuple(make(number, one.name) for number, one in enumerate(files.sub_folders(root / "labels"), 1))
    names = root / "classes.txt"
    if names.is_file():
        lines = names.read_text("utf-8", "replace").splitlines()
        return tuple(make(number, one.strip()) for number, one in enumerate(lines, 1) if one.strip())
    return ()
