"""What a folder of chips holds on disk: its files, found by listing, and its JSON side files, read with limits.

A training folder may come from a stranger. Nothing that its files say is ever used as a path: files are found by
listing the known sub-folders and paired by their names, and links that lead out of the folder are passed over.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

from ..errors import ChipError
from ..package import lenient

IMAGE_SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".mrf", ".bmp", ".jp2")
DEFINITION = "esri_model_definition.emd"
STATISTICS = "esri_accumulated_stats.json"
MAP = "map.txt"
STATS_TEXT = "stats.txt"
SPLIT = "split.json"
CHIP_TABLE = "chips.csv"
CONTACT_SHEET = "contact_sheet.png"
_MAX_JSON = 16 * 2**20


def list_files(folder: Path, suffixes: Tuple[str, ...]) -> Dict[str, Path]:
    """Return the files of one folder by stem, sorted; empty if the folder does not exist."""
    found: Dict[str, Path] = {}
    if not folder.is_dir():
        return found
    root = folder.resolve()
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in suffixes or entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            if entry.is_file():
                found[stem] = path
    return dict(sorted(found.items()))


def sub_folders(folder: Path) -> Iterator[Path]:
    """Yield the folders below ``folder`` in the order of their names, links left out."""
    if folder.is_dir():
        yield from sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())


def read_json(path: Path) -> Dict[str, Any]:
    """Return the object in a JSON file, or an empty one if there is no such file.

    Raises:
        ChipError: the file is too large, or holds no JSON object.
    """
    if not path.is_file():
        return {}
    if path.stat().st_size > _MAX_JSON:
        raise ChipError(f"“{path.name}” is larger than 16 MB, which no such file is.", file=str(path))
    text = lenient.decode(path.read_bytes())[0]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _leniently(text, path)
    if not isinstance(value, dict):
        raise ChipError(f"“{path.name}” holds no JSON object.", file=str(path))
    return value


def _leniently(text: str, path: Path) -> Any:
    try:
        return lenient.parse(text).value
    except (ValueError, RecursionError) as error:
        raise ChipError(
            f"“{path.name}” is no valid JSON: {error}",
            stage="reading the training chips",
            file=str(path),
            hint="Export the training data again.",
        ) from error
