"""A zip writer that can lie: every field of every header may be set, as an attacker would."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any, Dict, List, Union


@dataclass
class Item:
    """One entry; ``local`` and ``central`` overwrite fields of the two headers."""

    name: Union[str, bytes]
    data: bytes = b""
    method: int = 0
    flags: int = 0x800
    mode: int = 0o100644
    attributes: int = 0
    made_by: int = 0x0314
    extra: bytes = b""
    local: Dict[str, Any] = field(default_factory=dict)
    central: Dict[str, Any] = field(default_factory=dict)
    packed: Union[bytes, None] = None
    descriptor: bytes = b""
    after: bytes = b""
    listed: bool = True
    offset: Union[int, None] = None

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode("utf-8", "surrogatepass")

    def payload(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == 8 else self.data


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def build(
    items: List[Item],
    *,
    prefix: bytes = b"",
    suffix: bytes = b"",
    comment: bytes = b"",
    shift: int = 0,
    end: Union[Dict[str, Any], None] = None,
    zip64: Union[Dict[str, Any], None] = None,
    hidden: bytes = b"",
) -> bytes:
    """Return the bytes of an archive of ``items``."""
    body = bytearray(prefix)
    directory = bytearray()
    for item in items:
        packed, name = item.payload(), item.raw_name
        offset = len(body) + shift if item.offset is None else item.offset
        values = {
            "flags": item.flags,
            "method": item.method,
            "crc": zlib.crc32(item.data),
            "compressed": len(packed),
            "size": len(item.data),
            "name": name,
            "extra": item.extra,
        }
        if item.offset is None:
            one = {**values, **item.local}
            body += struct.pack(
                "<4s5H3I2H",
                b"PK\3\4",
                20,
                one["flags"],
                one["method"],
                0,
                0x21,
                one["crc"],
                one["compressed"],
                one["size"],
                len(one["name"]),
                len(one["extra"]),
            )
            body += one["name"] + one["extra"] + packed + item.descriptor + item.after
        one = {**values, "disk": 0, **item.central}
        if item.listed:
            directory += struct.pack(
                "<4s6H3I5H2I",
                b"PK\1\2",
                item.made_by,
                20,
                one["flags"],
                one["method"],
                0,
                0x21,
                one["crc"],
                one["compressed"],
                one["size"],
                len(one["name"]),
                len(one["extra"]),
                0,
                one["disk"],
                0,
                (item.mode << 16) | item.attributes,
                one.get("offset", offset),
            )
            directory += one["name"] + one["extra"]
    directory += hidden
    count = sum(item.listed for item in items)
    start = len(body) + shift
    tail = b""
    if zip64 is not None:
        values = {"count": count, "size": len(directory), "offset": start, "at": len(body) + len(directory), **zip64}
        tail = struct.pack(
            "<4sQ2H2I4Q",
            b"PK\6\6",
            44,
            45,
            45,
            0,
            0,
            values["count"],
            values["count"],
            values["size"],
            values["offset"],
        )
        tail += struct.pack("<4sIQI", b"PK\6\7", 0, values["at"], 1)
        if zip64.get("drop_record"):
            tail = tail[-20:]
    values = {
        "disk": 0,
        "first": 0,
        "here": count,
        "count": count,
        "size": len(directory),
        "offset": start,
        "comment": len(comment),
        **(end or {}),
    }
    last = struct.pack(
        "<4s4H2IH",
        b"PK\5\6",
        values["disk"],
        values["first"],
        values["here"],
        values["count"],
        values["size"],
        values["offset"],
        values["comment"],
    )
    return bytes(body) + bytes(directory) + tail + last + comment + suffix
