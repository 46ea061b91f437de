"""Giving the chips of a block their final names, inside the working folder; may be repeated after a crash."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from ..errors import OutputError
from ..workers.task import TaskContext
from . import space
from .staging import Staging, read_json

DIGITS = 12


def stem_of(number: int) -> str:
    """Return the file name, without suffix, of a chip."""
    return f"{number:0{DIGITS}d}"


def final_paths(chip: Mapping[str, Any], number: int, key: str) -> List[str]:
    """Return the final paths, relative to the root, of the files that a receipt lists under ``key``."""
    return [one.replace(chip["stem"], stem_of(number)) for one in chip[key]]


def name_chips(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Task: move the files of one block to where they will lie below the output, in the folder of what is ready.

    Args:
        payload: ``output`` folder, ``block``, ``numbers`` of its chips in the order of the receipt, ``positions`` of
            class values for YOLO, or None.
        context: of the worker; not used.

    Raises:
        OutputError: a file cannot be moved.
    """
    staging = Staging(Path(payload["output"]))
    block = int(payload["block"])
    receipt = read_json(staging.block_file(block)) or {"chips": []}
    positions = payload.get("positions")
    made: set[Path] = set()
    try:
        for chip, number in zip(receipt["chips"], payload["numbers"]):
            for source_path, target_path in zip(chip["files"], final_paths(chip, int(number), "files")):
                source = staging.block_folder(block) / chip["root"] / source_path
                target = staging.ready / chip["root"] / target_path
                if target.parent not in made:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    made.add(target.parent)
                if not source.exists() and target.exists():
                    continue  # moved before a crash
                text = _final_text(source, source_path, chip["stem"], stem_of(int(number)), positions)
                if text is not None:
                    _write(target, text)
                    source.unlink()
                    continue
                os.replace(source, target)
    except OSError as error:
        raise OutputError(
            f"A chip cannot be given its name in “{staging.output}”: {error.strerror}{space.no_room(staging.output)}. "
            "Nothing was changed there.",
            stage="writing chips",
            file=str(staging.output),
            hint="Make room and make sure that nobody uses the folder, then run the export again with “continue”.",
        ) from error
    return {"chips": len(receipt["chips"])}


def _final_text(source: Path, path: str, old: str, new: str, positions: Optional[Mapping[str, int]]) -> Optional[bytes]:
    """Return the content of a label that tells its own name or class positions; None for files that just move."""
    if source.suffix == ".xml" and not source.name.endswith(".aux.xml"):
        return source.read_bytes().replace(f"<filename>{old}".encode(), f"<filename>{new}".encode(), 1)
    if positions is not None and path.startswith("labels/"):
        parts = [line.split(" ", 1) for line in source.read_text(encoding="utf-8").splitlines()]
        return "".join(f"{positions[value]} {rest}\n" for value, rest in parts).encode()
    return None


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)
