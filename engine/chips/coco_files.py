"""The COCO files of a data set: all chips, and each part of the split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from .classes import LabelClass
from .formats.coco import FOLDER, write_file
from .naming import final_paths
from .splitting import PARTS

Members = Dict[str, Any]


def write(
    root: Path,
    before: Path,
    chips: Sequence[Tuple[int, Mapping[str, Any]]],
    classes: Sequence[LabelClass],
    parts: Mapping[str, str],
) -> None:
    """Write ``annotations/instances.json`` and one file for each part that has chips.

    Args:
        root: folder of the data set.
        before: folder with the files of earlier exports.
        chips: number and receipt of each new chip.
        classes: all classes; their values are the category ids.
        parts: part of each chip by its stem.
    """
    old: Members = {"images": [], "annotations": []}
    path = before / FOLDER / "instances.json"
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
    categories = [{"id": one.value, "name": one.name, "supercategory": ""} for one in classes]
    for part in ("", *PARTS):
        images = [one for one in _images(old, chips) if not part or parts.get(Path(one["file_name"]).stem) == part]
        if part and not images:
            continue
        chosen = {one["id"] for one in images}
        found = (one for one in _annotations(old, chips) if one["image_id"] in chosen)
        name = f"instances_{part}.json" if part else "instances.json"
        write_file(root / FOLDER / name, images, found, categories)


def _images(old: Members, chips: Sequence[Tuple[int, Mapping[str, Any]]]) -> List[Members]:
    found = list(old["images"])
    for number, chip in chips:
        width, height = chip["size"]
        name = Path(final_paths(chip, number, "images")[0]).name
        found.append({"id": number, "file_name": name, "width": width, "height": height})
    return found


def _annotations(old: Members, chips: Sequence[Tuple[int, Mapping[str, Any]]]) -> Iterator[Members]:
    yield from old["annotations"]
    following = max((int(one["id"]) for one in old["annotations"]), default=0) + 1
    for number, chip in chips:
        for one in chip["annotations"]:
            yield {"id": following, "image_id": number, **one}
            following += 1
