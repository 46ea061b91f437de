"""The work folder of a job: finished parts beside the output, a journal of receipts, and who works on it.

The folder lies in the output's folder, so that a cluster's nodes and a later run find it, and its name follows from the
output's. It outlives a crash, a cancel and a full disk; starting the same job again goes on from it. The standard
library alone is used, because the engine process writes the journal.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from .. import locks
from ..errors import OutputError
from ..workers.frames import FrameError

PLAN, JOURNAL, LOCK, PARTS, STEPS = "plan.json", "journal.jsonl", "lock", "parts", "publish.json"


def fingerprint(members: Any) -> str:
    """Return the SHA-256 of JSON-ready members, whatever the order of their keys."""
    text = json.dumps(members, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def item_target(folder: str, name: str, suffix: str) -> Path:
    """Return the path of the output of one raster of several that run separately."""
    safe = "".join("_" if one in '<>:"/\\|?*' else one for one in name)
    return Path(folder) / f"{safe}{suffix}"


class WorkFolder:
    """The folder of one output's unfinished work."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def for_output(cls, output: str) -> WorkFolder:
        """Return the work folder that belongs to an output path."""
        target = Path(output)
        return cls(target.parent / f".{target.name}.deepraster")

    @property
    def parts(self) -> Path:
        """Folder of the finished parts."""
        return self.path / PARTS

    @property
    def steps(self) -> Path:
        """File in which the renames of the outputs are noted while they are done."""
        return self.path / STEPS

    def create(self) -> None:
        """Make the folder, and those above it.

        Raises:
            OutputError: it cannot be made.
        """
        with _refusals(self.path):
            self.parts.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Forget all finished parts; the lock stays."""
        for one in (self.path / PLAN, self.path / JOURNAL):
            with contextlib.suppress(FileNotFoundError):
                one.unlink()
        shutil.rmtree(self.parts, ignore_errors=True)
        self.create()

    def remove(self) -> None:
        """Remove the folder with everything in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the output for this process; the lock ends with the process, however it ends.

        Raises:
            OutputError: another job is writing the same output.
        """
        self.create()
        with contextlib.ExitStack() as stack:
            with _refusals(self.path):
                file = stack.enter_context((self.path / LOCK).open("a+b"))
            if not locks.take(file):
                raise OutputError(
                    "Another job is writing the same output.",
                    stage="preparing the output",
                    file=str(self.path),
                    hint="Wait for it to end, or choose another output.",
                )
            yield

    def read_plan(self) -> Optional[Dict[str, Any]]:
        """Return the plan of the unfinished work, with places for logins (:func:`..raster.secrets.fill`).

        None if there is none that can be read.
        """
        try:
            plan = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return plan if isinstance(plan, dict) else None

    def write_plan(self, plan: Dict[str, Any]) -> None:
        """Write a plan without logins (:func:`..raster.secrets.hide`) whole or not at all; for this user alone.

        The nodes of a cluster may run as other users, so their plan is as readable as the folder's other files.
        """
        shared = plan.get("job", {}).get("options", {}).get("cluster")
        data = json.dumps(plan, ensure_ascii=False).encode("utf-8")
        write_whole(self.path / PLAN, data, 0o666 if shared else 0o600)

    def receipts(self) -> List[Dict[str, Any]]:
        """Return the receipts of the journal by part, the last one of each; a torn line is left out."""
        found: Dict[int, Dict[str, Any]] = {}
        try:
            lines = (self.path / JOURNAL).read_bytes().split(b"\n")
        except OSError:
            return []
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                receipt = json.loads(line)
                found[int(receipt["group"])] = receipt
        return [found[group] for group in sorted(found)]

    def checked_receipts(self) -> List[Dict[str, Any]]:
        """Return the receipts whose parts are there with the right content."""
        return [one for one in self.receipts() if self._is_whole(one)]

    def _is_whole(self, receipt: Dict[str, Any]) -> bool:
        name = receipt.get("file")
        if not name:
            return True
        path = self.parts / Path(str(name)).name
        return path.is_file() and file_digest(path) == receipt.get("sha256")


class Journal:
    """Appends receipts, each a line that the system has when :meth:`add` returns.

    Nothing is buffered here: bytes that a full disk refuses must not be tried again when the file is closed.

    Raises:
        OutputError: from any method, when the journal cannot be written.
    """

    def __init__(self, folder: WorkFolder) -> None:
        self._path = folder.path / JOURNAL
        with _write_errors(self._path):
            self._file = self._path.open("ab", buffering=0)
            # What a crash left without its end of line must not swallow the next receipt.
            if self._path.stat().st_size:
                self._write(b"\n")

    def add(self, receipt: Dict[str, Any], group: int) -> None:
        """Append the receipt of a group.

        Raises:
            FrameError: it is not one of this group, so the worker that sent it cannot be trusted.
        """
        _check(receipt, group)
        with _write_errors(self._path):
            self._write(json.dumps(receipt).encode("ascii") + b"\n")

    def _write(self, data: bytes) -> None:
        while data:
            data = data[self._file.write(data) :]

    def close(self) -> None:
        """Bring it to the disk and close."""
        with self._file, _write_errors(self._path):
            os.fsync(self._file.fileno())

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # What went wrong already is the better message.
        with contextlib.suppress(*([OutputError] if kind else [])):
            self.close()


def _check(receipt: Dict[str, Any], group: int) -> None:
    """Refuse what is no receipt of a group: workers run foreign code."""
    name, counts = receipt.get("file", ""), receipt.get("counts", {})
    numbers = isinstance(counts, dict) and all(type(one) in (int, float) for one in counts.values())
    if receipt.get("group") != group or not isinstance(name, str) or Path(name).name != name or not numbers:
        raise FrameError(f"The answer is no receipt of part {group}.")


def write_whole(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a file under a part name, bring it to the disk, then give it its name; ``mode`` is cut by the umask.

    Raises:
        OutputError: it cannot be written.
    """
    part = path.with_name(path.name + ".part")
    try:
        with _write_errors(path):
            with open(part, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
    except OutputError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


@contextlib.contextmanager
def _write_errors(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write a file into an :class:`OutputError` that names place and free space."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"“{path}” cannot be written: {error.strerror or error}.{_free(path)}",
            stage="writing",
            file=str(path),
            hint="Make space or choose another place; what is finished is kept, and the same job goes on from there.",
        ) from error


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    """Turn the system's refusal to make a work folder into an :class:`OutputError`."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"The folder “{path.parent}” cannot be written to: {error.strerror or error}.",
            stage="preparing the output",
            file=str(path.parent),
            hint="Choose another place for the output.",
        ) from error


def _free(path: Path) -> str:
    with contextlib.suppress(OSError):
        return f" {shutil.disk_usage(path.parent).free / 1e6:.3g} MB are free there."
    return ""
