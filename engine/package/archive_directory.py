"""The directory of a zip archive: end records, central headers and their names, read without good will."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Dict, List, Tuple

from ..errors import PackageError

MAX_DIRECTORY = 16 << 20

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF
_INCOMPLETE = "The file is damaged or its download stopped early; get it again."


@dataclass(frozen=True)
class Record:
    """One header of the central directory; ``mode`` is the Unix mode, ``attributes`` those of DOS and Windows."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    compressed: int
    size: int
    offset: int
    mode: int
    attributes: int

    def local_sizes(self, extra: bytes, compressed: int, size: int) -> Tuple[int, int]:
        """Return (compressed, size) of the local header, from its ZIP64 field where it points there."""
        if _FULL32 not in (compressed, size):
            return compressed, size
        data = extra_fields(extra).get(1, b"")
        values = list(struct.unpack(f"<{len(data) // 8}Q", data[: len(data) // 8 * 8]))
        if size == _FULL32:
            size = values.pop(0) if values else -1
        if compressed == _FULL32:
            compressed = values.pop(0) if values else -1
        return compressed, size


def read_directory(file: BinaryIO, max_entries: int) -> Tuple[List[Record], int]:
    """Return the headers of the directory and the offset at which it starts.

    Raises:
        PackageError: the file is no zip archive, is incomplete, or more than one archive can be seen in it.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(4)
    if start[:2] != b"PK":
        raise PackageError(
            "The file is not a model package: it is no zip archive.",
            hint="A .dlpk is a zip archive with an .emd and the weights in it." if length else _INCOMPLETE,
        )
    count, size, offset = _end_records(file, length)
    if count > max_entries:
        raise PackageError(f"The package is refused: it lists {count} entries, more than the limit of {max_entries}.")
    if count == 0:
        raise PackageError("The package is empty: it holds no file.", hint="Pack the .emd and the weights again.")
    file.seek(offset)
    data = file.read(size)
    records: List[Record] = []
    position = 0
    for _ in range(count):
        record, position = _central(data, position)
        records.append(record)
    if position != len(data):
        raise PackageError("The package is refused: its directory holds hidden records.")
    return records, offset


def _end_records(file: BinaryIO, length: int) -> Tuple[int, int, int]:
    """Return (entries, size of the directory, offset of the directory) from the end records."""
    tail_start = max(0, length - _END.size - _FULL16)
    file.seek(tail_start)
    tail = file.read(length - tail_start)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        raise PackageError("The package is incomplete: the directory at its end is missing.", hint=_INCOMPLETE)
    if len(tail) - at < _END.size:
        raise PackageError("The package is incomplete: it is cut in its last record.", hint=_INCOMPLETE)
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, at)
    if at + _END.size + comment != len(tail):
        raise PackageError("The package is refused: data follows after its end.")
    end = tail_start + at
    saturated = _FULL16 in (here, count) or _FULL32 in (size, offset)
    located = at >= _LOCATOR.size and tail[at - _LOCATOR.size : at - _LOCATOR.size + 4] == b"PK\x06\x07"
    if saturated or located:
        end, large = _end64(file, end)
        for small, full, real in ((count, _FULL16, large[0]), (size, _FULL32, large[1]), (offset, _FULL32, large[2])):
            if small not in (full, real):
                raise PackageError("The package is refused: its two end records contradict each other.")
        count, size, offset = large
        here = count
    if disk or first_disk or here != count:
        raise PackageError("The package is refused: it is one part of an archive in several parts.")
    if offset + size != end:
        raise PackageError(
            "The package is refused: data lies before its start or between its records, so that two programs may "
            "see two different archives in it."
        )
    if size > MAX_DIRECTORY:
        raise PackageError("The package is refused: its directory is larger than any package needs.")
    return count, size, offset


def _end64(file: BinaryIO, end: int) -> Tuple[int, Tuple[int, int, int]]:
    """Return where the ZIP64 end record starts and its (entries, size, offset)."""
    fault = PackageError("The package is refused: its ZIP64 end record is missing or contradicts itself.")
    record_at = end - _LOCATOR.size - _END64.size
    if record_at < 0:
        raise fault
    file.seek(record_at)
    data = file.read(_END64.size + _LOCATOR.size)
    signature, length, _, _, disk, first_disk, here, count, size, offset = _END64.unpack_from(data)
    mark, first, position, disks = _LOCATOR.unpack_from(data, _END64.size)
    if signature != b"PK\x06\x06" or mark != b"PK\x06\x07" or position != record_at:
        raise fault
    if length != _END64.size - 12 or disk or first_disk or first or disks > 1 or here != count:
        raise fault
    return record_at, (count, size, offset)


def _central(data: bytes, position: int) -> Tuple[Record, int]:
    """Return the header at ``position`` and the position after it."""
    cut = PackageError("The package is refused: its directory is damaged.", hint=_INCOMPLETE)
    if len(data) - position < _CENTRAL.size or data[position : position + 4] != b"PK\x01\x02":
        raise cut
    (_, made_by, _, flags, method, _, _, crc, compressed, size, name_length, extra_length, comment_length, disk, _,
     attributes, offset) = _CENTRAL.unpack_from(data, position)  # fmt: skip
    name_at = position + _CENTRAL.size
    extra_at = name_at + name_length
    end = extra_at + extra_length + comment_length
    if end > len(data):
        raise cut
    raw_name = data[name_at:extra_at]
    extra = extra_fields(data[extra_at : extra_at + extra_length])
    wide = {"size": size, "compressed": compressed, "offset": offset}
    large = extra.get(1, b"")
    at = 0
    for field, value in wide.items():
        if value == _FULL32:
            if len(large) < at + 8:
                raise PackageError("The package is refused: a ZIP64 size is missing.")
            wide[field] = struct.unpack_from("<Q", large, at)[0]
            at += 8
    if disk not in (0, _FULL16):
        raise PackageError("The package is refused: it is one part of an archive in several parts.")
    name = _decode_name(raw_name, flags, extra)
    record = Record(
        name,
        raw_name,
        flags,
        method,
        crc,
        wide["compressed"],
        wide["size"],
        wide["offset"],
        attributes >> 16,
        attributes & 0xFFFF if made_by >> 8 in (0, 10, 11, 14) else attributes & 0x400,
    )
    return record, end


def extra_fields(data: bytes) -> Dict[int, bytes]:
    """Return the extra fields of a header by their number; a tail too short for a field is padding of some writers."""
    fields: Dict[int, bytes] = {}
    position = 0
    while position + 4 <= len(data):
        number, length = struct.unpack_from("<2H", data, position)
        fields.setdefault(number, data[position + 4 : position + 4 + length])
        position += 4 + length
    return fields


def _decode_name(raw: bytes, flags: int, extra: Dict[int, bytes]) -> str:
    """Return an entry's name: UTF-8 where it is said or evident, the writer's Unicode field, else code page 437."""
    unicode_path = extra.get(0x7075, b"")
    is_given = len(unicode_path) > 5 and unicode_path[0] == 1
    if is_given and struct.unpack_from("<I", unicode_path, 1)[0] == zlib.crc32(raw):
        raw, flags = unicode_path[5:], flags | 0x800
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if flags & 0x800:
            raise PackageError(
                "The package is refused: a name in it is not the UTF-8 text that it claims to be."
            ) from None
        return raw.decode("cp437")
