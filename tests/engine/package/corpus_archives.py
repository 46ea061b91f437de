"""Archives in which two programs would see two different things: threat T4."""

from __future__ import annotations

import struct

from .corpus_base import REFUSED, WEIGHTS, case, emd, good
from .zips import Item, build, deflate

# --- two readers see two archives: T4 ----------------------------------------------------------------------------

case("twice-same", good(Item("net.pth", b"other")), REFUSED, "one file")
case("twice-definition", good(Item("tree.emd", emd(ImageWidth=1))), REFUSED, "one file")
case("twice-case", good(Item("NET.PTH", b"other")), REFUSED, "one file on some systems")
case("twice-sharp-s", good(Item("stra\u00dfe.txt"), Item("STRASSE.txt")), REFUSED, "one file on some systems")
case("twice-normal-form", good(Item("caf\u00e9.txt"), Item("cafe\u0301.txt")), REFUSED, "one file on some systems")
case("twice-folder-case", good(Item("Data/a.txt"), Item("data/b.txt")), REFUSED, "one on some systems")
case("twice-folder-entry", good(Item("d/", mode=0o040755), Item("d/", mode=0o040755)), REFUSED, "listed twice")
case("file-and-folder", good(Item("net.pth/evil.py", b"x")), REFUSED, "file and a folder")
case("lies-name", good(Item("evil.txt", b"x", local={"name": b"evil.pyw"})), REFUSED, "contradict")
case("lies-method", good(Item("evil.txt", b"x", local={"method": 8})), REFUSED, "contradict")
case("lies-size", good(Item("evil.txt", b"x" * 9, local={"size": 3})), REFUSED, "contradict")
case("lies-compressed", good(Item("evil.txt", b"x" * 9, local={"compressed": 3})), REFUSED, "contradict")
case("lies-checksum", good(Item("evil.txt", b"x", local={"crc": 1})), REFUSED, "contradict")
case("lies-encryption", good(Item("evil.txt", b"x", local={"flags": 0x801})), REFUSED, "contradict")
case(
    "lies-stored-sizes", good(Item("evil.txt", b"x" * 9, local={"size": 8}, central={"size": 8})), REFUSED, "contradict"
)
case("lies-offset", good(Item("evil.txt", b"x", central={"offset": 7})), REFUSED, "entries")
case("lies-zip64-size", good(Item("evil.txt", b"x", central={"size": 0xFFFFFFFF})), REFUSED, "ZIP64")
case("lies-disk", good(Item("evil.txt", b"x", central={"disk": 3})), REFUSED, "several parts")
case("prefix", lambda: build(good(), prefix=b"#!/bin/sh\nexit\n"), REFUSED, "no zip")
case("prefix-zip-like", lambda: build(good(), prefix=b"PK\3\4" + bytes(60)), REFUSED, "entries")
case("prefix-shifted", lambda: b"PK\3\4" + bytes(60) + build(good()), REFUSED, "before its start")
case("suffix", lambda: build(good(), suffix=b"<script>"), REFUSED, "data follows")
case("suffix-zeros", lambda: build(good(), suffix=bytes(100)), REFUSED, "data follows")
case("two-archives", lambda: build(good()) + build(good(ImageWidth=1)), REFUSED, "before its start")
case("archive-in-comment", lambda: build(good(), comment=build(good(ImageWidth=1))), REFUSED, "before its start")
case("end-in-comment", lambda: build(good(), comment=b"PK\5\6" + bytes(18)), REFUSED, "")
case("hidden-entry", good(Item("hidden.py", b"x", listed=False)), REFUSED, "entry")
case("hidden-between", [Item("tree.emd", emd(), after=b"hidden"), Item("net.pth", WEIGHTS)], REFUSED, "gap")
case("hidden-record", lambda: build(good(), hidden=b"PK\1\2" + bytes(46)), REFUSED, "hidden")
case("count-too-small", lambda: build(good(), end={"count": 1, "here": 1}), REFUSED, "hidden")
case("count-too-large", lambda: build(good(), end={"count": 3, "here": 3}), REFUSED, "damaged")
case("counts-differ", lambda: build(good(), end={"here": 1}), REFUSED, "several parts")
case("split-archive", lambda: build(good(), end={"disk": 1, "first": 0}), REFUSED, "several parts")
case("directory-offset", lambda: build(good(), end={"offset": 5}), REFUSED, "before its start")
case("zip64-contradicts", lambda: build(good(), zip64={"count": 1}), REFUSED, "contradict")
case("zip64-elsewhere", lambda: build(good(), zip64={"at": 4}), REFUSED, "ZIP64")
case("zip64-missing", lambda: build(good(), zip64={"drop_record": True}), REFUSED, "ZIP64")
case("encrypted", good(Item("evil.txt", b"x", flags=0x801)), REFUSED, "encrypted")
case("encrypted-definition", [Item("tree.emd", emd(), flags=0x801), Item("net.pth", WEIGHTS)], REFUSED, "encrypted")
case("encrypted-strongly", good(Item("evil.txt", b"x", flags=0x840)), REFUSED, "encrypted")
case("encrypted-directory", good(Item("evil.txt", b"x", flags=0x2800)), REFUSED, "encrypted")
for _method, _key in {
    1: "shrink",
    6: "implode",
    9: "deflate64",
    12: "bzip2",
    14: "lzma",
    93: "zstd",
    95: "xz",
    99: "aes",
}.items():
    case(f"method-{_key}", good(Item("evil.txt", b"x", _method)), REFUSED, f"method {_method}")
case("patch-data", good(Item("evil.txt", b"x", flags=0x820)), REFUSED, "method")
case(
    "descriptor-lies",
    good(
        Item(
            "evil.txt",
            b"x" * 9,
            flags=0x808,
            local={"crc": 0, "size": 0, "compressed": 0},
            descriptor=struct.pack("<3I", 1, 2, 3),
        )
    ),
    REFUSED,
    "contradicts",
)
case(
    "descriptor-missing",
    good(Item("evil.txt", b"x" * 9, flags=0x808, local={"crc": 0, "size": 0, "compressed": 0})),
    REFUSED,
    "contradicts",
)
case("damaged-data", good(Item("evil.txt", b"abc", packed=b"abd")), REFUSED, "checksum")
case("damaged-deflate", good(Item("evil.txt", b"abc" * 99, 8, packed=b"\xff" * 30)), REFUSED, "decompress")
case(
    "deflate-goes-on",
    good(Item("evil.txt", b"abc" * 99, 8, packed=deflate(b"abc" * 99) + b"more")),
    REFUSED,
    "proper end",
)
case(
    "deflate-cut",
    good(Item("evil.txt", b"abc" * 999, 8, packed=deflate(b"abc" * 999)[:-3])),
    REFUSED,
    "file “evil.txt”",
)
for _cut in (1, 10, 60, 200):
    case(f"truncated-{_cut}", lambda cut=_cut: build(good())[:-cut], REFUSED, "")
case("truncated-half", lambda: build(good())[: len(build(good())) // 2], REFUSED, "incomplete")
case("truncated-start", lambda: build(good())[5:], REFUSED, "no zip")
case("empty-archive", lambda: build([]), REFUSED, "empty")
case("empty-file", b"", REFUSED, "")
case("not-zip-text", b"hello", REFUSED, "no zip")
case("not-zip-html", b"<html>404</html>", REFUSED, "no zip")
case("not-zip-gzip", b"\x1f\x8b\x08" + bytes(50), REFUSED, "no zip")
case("not-zip-7z", b"7z\xbc\xaf\x27\x1c" + bytes(50), REFUSED, "no zip")
case("not-zip-git-lfs", b"version https://git-lfs.github.com/spec/v1\n", REFUSED, "no zip")
case("only-magic", b"PK", REFUSED, "incomplete")
