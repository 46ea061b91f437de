"""The cache of unpacked packages: one folder per content hash, filled once, safe for several jobs at a time.

A package is unpacked into a part folder of its own and renamed when it is complete, so that no job ever sees half of
it and two jobs that unpack the same package do not meet. What a file's content was is remembered under its path, size
and times, so that opening the same large package again costs nothing; code is never taken from that memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, Optional, Tuple

from ..caches import package_cache
from ..errors import OutputError

UNUSED_DAYS = 30
_PART = ".part-"
_SETTLED_NS = 3_000_000_000  # a file changed within its clock's grain of being hashed could change again unseen


@dataclass(frozen=True)
class PackageFile:
    """One file of a package: name with slashes, size in bytes, SHA-256 of its content in hexadecimal digits."""

    name: str
    size: int
    sha256: str


def digest_of(files: Iterable[PackageFile]) -> str:
    """Return the identity of a package: SHA-256 over the sorted list of (name, size, SHA-256) of its files."""
    total = hashlib.sha256()
    for one in sorted(files, key=lambda file: file.name.encode("utf-8")):
        total.update(f"{one.name}\0{one.size}\0{one.sha256}\n".encode())
    return f"sha256:{total.hexdigest()}"


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, read in small pieces."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(1 << 20), b""):
            total.update(piece)
    return total.hexdigest()


class PackageStore:
    """The cache below ``folder`` (made when first written to)."""

    def __init__(self, folder: Optional[Path] = None) -> None:
        self.folder = folder or package_cache()

    def find(self, digest: str) -> Optional[Tuple[Path, Tuple[PackageFile, ...]]]:
        """Return the folder and files of an unpacked package, or None if it is not there whole."""
        place = self._place(digest)
        try:
            listed = json.loads((place / "index.json").read_text("utf-8"))
            files = tuple(PackageFile(str(name), int(size), str(sha)) for name, size, sha in listed["files"])
            whole = all((place / "files" / one.name).stat().st_size == one.size for one in files)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if not whole or digest_of(files) != digest:
            return None
        with contextlib.suppress(OSError):
            os.utime(place)
        return place / "files", files

    def add(self, contents: Iterable[Tuple[str, Iterator[bytes]]]) -> Tuple[Path, Tuple[PackageFile, ...], str]:
        """Unpack named streams and return (folder, files, digest); what was there already is kept.

        Raises:
            OutputError: the cache cannot be written.
        """
        part = self._new_part()
        try:
            files = [self._write(part / "files", name, stream) for name, stream in contents]
            digest = digest_of(files)
            index = {"files": [[one.name, one.size, one.sha256] for one in files]}
            (part / "index.json").write_text(json.dumps(index), "utf-8")
            self._publish(part, digest)
        except OSError as error:
            raise _full(self.folder, error) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return self._place(digest) / "files", tuple(files), digest

    def free_bytes(self) -> int:
        """Return how many bytes the cache's disk has left."""
        folder = self.folder
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return shutil.disk_usage(folder).free

    def _place(self, digest: str) -> Path:
        return self.folder / digest.replace("sha256:", "")

    def _new_part(self) -> Path:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._sweep()
            part = Path(tempfile.mkdtemp(prefix=_PART, dir=self.folder))
            (part / "files").mkdir(mode=0o700)
        except OSError as error:
            raise _full(self.folder, error) from error
        return part

    @staticmethod
    def _write(folder: Path, name: str, stream: Iterator[bytes]) -> PackageFile:
        path = folder.joinpath(*name.split("/"))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        total, size = hashlib.sha256(), 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            for piece in stream:
                file.write(piece)
                total.update(piece)
                size += len(piece)
        return PackageFile(name, size, total.hexdigest())

    def _publish(self, part: Path, digest: str) -> None:
        """Give the part its final name; a whole copy that another job put there meanwhile stays."""
        place = self._place(digest)
        for _ in range(3):
            if self.find(digest) is not None:
                return
            if place.exists():  # a damaged copy: out of the way, so that the new one can take its place
                with contextlib.suppress(OSError):
                    place.rename(Path(tempfile.mkdtemp(prefix=_PART, dir=self.folder)) / "damaged")
            try:
                part.rename(place)
                return
            except OSError:
                if not place.exists():
                    raise
        raise OSError(f"{place} is in the way")

    def _sweep(self) -> None:
        """Remove parts of jobs that died, and packages that nobody opened for a month."""
        now = time.time()
        for one in self.folder.iterdir():
            with contextlib.suppress(OSError):
                days = (now - one.stat().st_mtime) / 86_400
                if days > (1 if one.name.startswith(_PART) else UNUSED_DAYS) and one.is_dir():
                    shutil.rmtree(one, ignore_errors=True)
                elif days > UNUSED_DAYS and one.suffix == ".seen":
                    one.unlink()

    def recall(self, path: Path) -> str:
        """Return what :meth:`remember` noted for exactly this state of a file, or an empty text."""
        try:
            return str(json.loads(self._note(path).read_text("utf-8"))["content"])
        except (OSError, ValueError, KeyError, TypeError):
            return ""

    def remember(self, path: Path, content: str) -> None:
        """Note what the content of a file is, unless it changed so recently that it may change again unseen."""
        with contextlib.suppress(OSError):
            state = path.stat()
            if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < _SETTLED_NS:
                return
            note = self._note(path)
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            part = note.with_name(f"{note.name}.{os.getpid()}")
            part.write_text(json.dumps({"path": str(path), "content": content}), "utf-8")
            os.replace(part, note)

    def _note(self, path: Path) -> Path:
        state = path.stat()
        identity: Dict[str, object] = {
            "path": str(path.absolute()),
            "state": [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino, state.st_dev],
        }
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        return self.folder / f"{name[:32]}.seen"

    def hashes(self, paths: Dict[str, Path]) -> Tuple[PackageFile, ...]:
        """Return name, size and SHA-256 of files on disk; only large files that are no code may come from memory."""
        files: List[PackageFile] = []
        for name, path in paths.items():
            size = path.stat().st_size
            may_recall = size > 1 << 20 and path.suffix.casefold() not in CODE_SUFFIXES
            sha = self.recall(path) if may_recall else ""
            if not sha:
                sha = hash_file(path)
                if may_recall:
                    self.remember(path, sha)
            files.append(PackageFile(name, size, sha))
        return tuple(files)


CODE_SUFFIXES = frozenset((".py", ".pyc", ".pyo", ".pyw", ".pyd", ".so", ".dll", ".dylib", ".emd"))


def _full(folder: Path, error: OSError) -> OutputError:
    return OutputError(
        f"The package cannot be unpacked into the cache: {error.strerror or error}.",
        stage="unpacking",
        file=str(folder),
        hint="Free some space, or name another folder in the variable DEEP_RASTER_CACHE.",
    )
