"""Where environments live: folders outside the plugin and the checkout, named after what they were made from."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from .. import locks
from ..errors import EnvironmentFault, JobCancelled

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
MARKER = "deep_raster_environment.json"


def home(location: str = "") -> Path:
    """Return the folder of our data: ``location``, else DEEP_RASTER_HOME, else the platform's place for user data."""
    named = location or os.environ.get("DEEP_RASTER_HOME", "")
    if named:
        return Path(named).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "deep_raster"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "deep_raster"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "deep_raster"


def requirement_files(frameworks: Sequence[str]) -> List[Path]:
    """Return the requirement files of the engine with the frameworks, the common one first."""
    return [REQUIREMENTS / f"{name}.txt" for name in ("base", *frameworks)]


def requirement_lines(files: Sequence[Path]) -> List[str]:
    """Return the requirements of the files without comments, so that a reworded comment makes no new environment."""
    lines = [line.split("#")[0].strip() for one in files for line in one.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line]


def key_of(files: Sequence[Path], version: str, machine: str) -> str:
    """Return the SHA-256 (hex) of the requirements together with the Python version (``3.11``) and machine type."""
    text = "\n".join([version, machine.lower(), *requirement_lines(files)])
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def interpreter_of(folder: Path) -> Path:
    """Return the interpreter of the venv in ``folder``."""
    return folder / "Scripts" / "python.exe" if sys.platform == "win32" else folder / "bin" / "python3"


def read_marker(folder: Path) -> Optional[Dict[str, Any]]:
    """Return what the success marker of an environment says, or None if it was never finished."""
    try:
        members = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return members if isinstance(members, dict) else None


def write_marker(folder: Path, members: Dict[str, Any]) -> None:
    """Write the success marker in one step; it is the last file of an environment."""
    part = folder / (MARKER + ".part")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(members, stream, indent=2, sort_keys=True)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(folder / MARKER)


def finished_environments(location: str = "") -> Iterator[Tuple[Path, Tuple[str, ...]]]:
    """Yield folder and frameworks of each finished environment that was made from today's requirements."""
    for marker in sorted((home(location) / "environments").glob(f"*/{MARKER}")):
        members = read_marker(marker.parent)
        if members is None or not interpreter_of(marker.parent).exists():
            continue
        frameworks = tuple(str(one) for one in members.get("frameworks", ()))
        files = requirement_files(frameworks)
        if not all(one.is_file() for one in files):
            continue
        if members.get("key") == key_of(files, str(members.get("python", "")), str(members.get("machine", ""))):
            yield marker.parent, frameworks


@contextmanager
def only_one(path: Path, on_wait: Callable[[str], None], is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock file at ``path``; wait while another process holds it. A process that dies lets go of it.

    Raises:
        JobCancelled: the wait was cancelled.
        EnvironmentFault: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+b")
    except OSError as error:
        raise EnvironmentFault(
            f"The folder {path.parent} cannot be written: {error.strerror or error}.", hint="Choose another location."
        ) from error
    with stream:
        while not locks.take(stream):
            on_wait("Waiting for another set-up of the same environment to end")
            if is_cancelled():
                raise JobCancelled("The set-up was cancelled while another one was running.")
            time.sleep(0.2)
        yield
