"""Read zip archives that nobody vouches for: check the whole directory first, then stream entry by entry.

The standard library's ``zipfile`` repairs what it should refuse: it drops ``..``, keeps the last of two equal names,
takes prefixes, tails and two archives in one. Here every byte must belong to exactly one record, the two headers of
an entry must agree, and anything that two programs could read differently is a reason to refuse (the list PyPI adopted
in 2025, and CVE-2024-0450 for overlaps). Format: APPNOTE 6.3.10, stored and deflated entries only.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Iterator, List, Optional, Tuple, Type

from ..errors import PackageError
from .archive_directory import Record, read_directory
from .lenient import clip
from .names import clashes, name_fault

STORED, DEFLATED = 0, 8
CHUNK = 1 << 20
_LOCAL = struct.Struct("<4s5H3I2H")
_DESCRIPTOR = b"PK\x07\x08"


@dataclass(frozen=True)
class Limits:
    """How much an archive may ask for; ``ratio`` counts for compressed entries from ``ratio_from`` bytes on."""

    entries: int = 4_096
    total: int = 64 << 30
    ratio: int = 200
    ratio_from: int = 64 << 20


@dataclass(frozen=True)
class Entry:
    """One file of the archive: its name with slashes, its size in bytes, and where its data lies."""

    name: str
    size: int
    compressed: int
    method: int
    crc: int
    start: int


class Archive:
    """An archive whose directory has been checked; use it as a context manager.

    Raises:
        PackageError: it is no zip archive, or anything of §T1 to §T5 of the threat model is found in its directory.
    """

    def __init__(self, path: Path, limits: Optional[Limits] = None) -> None:
        self.path = path
        self.limits = limits or Limits()
        try:
            self._file: BinaryIO = path.open("rb")
        except (OSError, ValueError) as error:
            reason = clip(getattr(error, "strerror", None) or error)
            raise PackageError(f"The package cannot be opened: {reason}.", stage="opening", file=str(path)) from error
        try:
            self.entries = self._check()
        except PackageError as error:
            self._file.close()
            error.stage, error.file = error.stage or "checking the package", str(path)
            raise
        except OSError as error:
            self._file.close()
            message = f"The package cannot be read: {clip(error.strerror or error)}."
            raise PackageError(message, stage="opening", file=str(path)) from error

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._file.close()

    @property
    def total(self) -> int:
        """Bytes of all files together."""
        return sum(one.size for one in self.entries)

    def _check(self) -> Tuple[Entry, ...]:
        records, end = read_directory(self._file, self.limits.entries)
        for record in records:
            fault = name_fault(record.name)
            if fault:
                raise _refusal(f"the name of the entry “{clip(record.name)}” {fault}")
            self._check_kind(record)
        found = clashes([record.name for record in records])
        if found:
            raise _refusal("; ".join(clip(one, 200) for one in found[:3]))
        self._check_sizes(records)
        entries = self._check_layout(records, end)
        return tuple(entries)

    def _check_kind(self, record: Record) -> None:
        """Only regular files and folders, neither encrypted nor packed by rare methods."""
        name = clip(record.name)
        if record.flags & 0x2041:
            raise _refusal(f"the entry “{name}” is encrypted", "Ask for the package without a password.")
        if record.flags & 0x20 or record.method not in (STORED, DEFLATED):
            raise _refusal(
                f"the entry “{name}” is compressed by method {record.method}; only stored and deflate are accepted",
                "Pack the files again as an ordinary zip archive.",
            )
        kind = record.mode & 0o170000
        if kind not in (0, 0o100000, 0o040000) or record.attributes & 0x400:
            raise _refusal(f"the entry “{name}” is a link or a device, not a file")
        is_folder = record.name.endswith("/")
        if record.mode & 0o6000 and not is_folder:
            raise _refusal(f"the entry “{name}” asks for the rights of another user (setuid)")
        if is_folder and (record.size or kind == 0o100000):
            raise _refusal(f"the folder “{name}” carries data")
        if not is_folder and (kind == 0o040000 or record.attributes & 0x10):
            raise _refusal(f"the entry “{name}” says that it is a file and a folder")

    def _check_sizes(self, records: List[Record]) -> None:
        limits = self.limits
        total = sum(record.size for record in records)
        if total > limits.total:
            raise _refusal(f"its files take {total} bytes unpacked, more than the limit of {limits.total}")
        packed = [record for record in records if record.method == DEFLATED]
        groups = [(f"“{clip(one.name)}”", one.size, one.compressed) for one in packed]
        groups.append(("all files together", sum(one.size for one in packed), sum(one.compressed for one in packed)))
        for name, size, compressed in groups:
            if size > limits.ratio_from and size > limits.ratio * compressed:
                raise _refusal(
                    f"{name} would grow from {compressed} to {size} bytes, which is how archive bombs look",
                    "If the file really is that empty, pack it without compression.",
                )
        for record in records:
            if record.method == STORED and record.size != record.compressed:
                raise _refusal(f"the sizes of “{clip(record.name)}” contradict each other")

    def _check_layout(self, records: List[Record], end: int) -> List[Entry]:
        """Compare every local header with the directory; nothing may overlap, and nothing may lie between."""
        entries = {}
        ordered = sorted(records, key=lambda record: record.offset)
        position = 0
        for record, following in zip(ordered, [one.offset for one in ordered[1:]] + [end]):
            if record.offset != position:
                what = "overlap" if record.offset < position else "do not follow each other without a gap"
                raise _refusal(f"its entries {what} (at “{clip(record.name)}”)")
            start = self._local_header(record)
            position = start + record.compressed
            if position > following:
                raise _refusal(f"its entries overlap (at “{clip(record.name)}”)")
            if record.flags & 8:
                position += self._descriptor(record, position, following)
            entries[record.name] = Entry(record.name, record.size, record.compressed, record.method, record.crc, start)
        if position != end:
            raise _refusal("data that belongs to no entry lies before its directory")
        return [entries[record.name] for record in records if not record.name.endswith("/")]

    def _local_header(self, record: Record) -> int:
        """Return where the data of an entry starts, after comparing its local header with the directory."""
        self._file.seek(record.offset)
        data = self._file.read(_LOCAL.size)
        if len(data) < _LOCAL.size or data[:4] != b"PK\x03\x04":
            raise _refusal(f"the entry “{clip(record.name)}” is not where the directory says")
        _, _, flags, method, _, _, crc, compressed, size, name_length, extra_length = _LOCAL.unpack(data)
        raw = self._file.read(name_length + extra_length)
        if len(raw) < name_length + extra_length:
            raise _refusal(f"the entry “{clip(record.name)}” is cut short")
        local = record.local_sizes(raw[name_length:], compressed, size)
        same = raw[:name_length] == record.raw_name and method == record.method
        same = same and not (flags ^ record.flags) & 0x2849
        deferred = bool(record.flags & 8) and (crc, *local) == (0, 0, 0)
        if not same or not (deferred or (crc, *local) == (record.crc, record.compressed, record.size)):
            raise _refusal(f"the two headers of the entry “{clip(record.name)}” contradict each other")
        start: int = record.offset + _LOCAL.size + name_length + extra_length
        return start

    def _descriptor(self, record: Record, position: int, following: int) -> int:
        """Return the length of the data descriptor between ``position`` and ``following``; it must repeat the sizes."""
        length = following - position
        self._file.seek(position)
        data = self._file.read(min(max(length, 0), 24))
        body = data[4:] if length in (16, 24) and data.startswith(_DESCRIPTOR) else data
        form = {12: "<3I", 20: "<IQQ"}.get(len(body))
        if form is None or struct.unpack(form, body) != (record.crc, record.compressed, record.size):
            raise _refusal(f"the record after the entry “{clip(record.name)}” contradicts the directory")
        return length

    def stream(self, entry: Entry) -> Iterator[bytes]:
        """Yield the bytes of a file in pieces of at most 1 MiB; its size and checksum are verified at the end.

        Raises:
            PackageError: the data is damaged, or longer or shorter than the directory says.
        """
        crc = done = 0
        pieces = self._inflated(entry) if entry.method == DEFLATED else self._raw(entry)
        for piece in pieces:
            done += len(piece)
            if done > entry.size:
                raise self._damaged(entry, "holds more data than the directory says")
            crc = zlib.crc32(piece, crc)
            yield piece
        if done != entry.size:
            raise self._damaged(entry, "holds less data than the directory says")
        if crc != entry.crc:
            raise self._damaged(entry, "is damaged: its checksum is wrong")

    def _raw(self, entry: Entry) -> Iterator[bytes]:
        position, left = entry.start, entry.compressed
        while left:
            self._file.seek(position)
            piece = self._file.read(min(CHUNK, left))
            if not piece:
                raise self._damaged(entry, "is cut short")
            position += len(piece)
            left -= len(piece)
            yield piece

    def _inflated(self, entry: Entry) -> Iterator[bytes]:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            for packed in self._raw(entry):
                if inflater.eof:
                    raise self._damaged(entry, "goes on after its compressed data ended")
                while packed:
                    piece = inflater.decompress(packed, CHUNK)
                    packed = inflater.unconsumed_tail
                    if piece:
                        yield piece
            piece = inflater.flush(CHUNK) if not inflater.eof else b""
            if piece:
                yield piece
        except zlib.error as error:
            raise self._damaged(entry, "is damaged: it cannot be decompressed") from error
        if not inflater.eof or inflater.unused_data:
            raise self._damaged(entry, "is damaged: its compressed data has no proper end")

    def _damaged(self, entry: Entry, what: str) -> PackageError:
        return PackageError(
            f"The file “{clip(entry.name)}” of the package {what}.",
            stage="unpacking",
            file=str(self.path),
            hint="Get the package again; if it stays like this, do not use it.",
        )


def _refusal(reason: str, hint: str = "Do not use this package; ask its author for a proper one.") -> PackageError:
    return PackageError(f"The package is refused: {reason}.", hint=hint)
