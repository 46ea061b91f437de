"""Names, kinds and sizes of entries that hurt: threats T1, T2, T3 and T5."""

from __future__ import annotations

import zlib

from .corpus_base import DEFINITION, REFUSED, WEIGHTS, case, emd, good
from .zips import Item, build, deflate

# --- names of entries: T1 and T5 ---------------------------------------------------------------------------------

_NAMES = {
    "dotdot": ("../evil.py", "leads out"),
    "dotdot-deep": ("a/b/../../../evil.py", "leads out"),
    "dotdot-inside": ("a/../evil.py", "leads out"),
    "dotdot-end": ("a/..", "leads out"),
    "dotdot-alone": ("..", "leads out"),
    "dot": ("./evil.py", "leads out"),
    "dot-inside": ("a/./evil.py", "leads out"),
    "absolute": ("/tmp/evil.py", "absolute"),
    "unc-slashes": ("//server/share/evil.py", "absolute"),
    "unc": ("\\\\server\\share\\evil.py", "backslash"),
    "dotdot-backslash": ("..\\evil.py", "backslash"),
    "backslash": ("a\\evil.py", "backslash"),
    "drive": ("C:/evil.py", "drive"),
    "drive-relative": ("c:evil.py", "drive"),
    "empty": ("", "is empty"),
    "empty-folder": ("a//evil.py", "empty folder"),
    "fullwidth-dots": ("\uff0e\uff0e/evil.py", "elsewhere"),
    "one-dot-leaders": ("\u2024\u2024/evil.py", "looks like"),
    "fullwidth-slash": ("..\uff0fevil.py", "looks like"),
    "fullwidth-backslash": ("..\uff3cevil.py", "looks like"),
    "division-slash": ("..\u2215evil.py", "looks like"),
    "fraction-slash": ("..\u2044evil.py", "looks like"),
    "nul": ("evil.py\0.txt", "U+0000"),
    "newline": ("evil\n.py", "U+000A"),
    "escape": ("evil\x1b[2J.py", "U+001B"),
    "delete": ("evil\x7f.py", "U+007F"),
    "bidi": ("photo\u202egpj.py", "U+202E"),
    "isolate": ("photo\u2066.py", "U+2066"),
    "zero-width": ("net\u200b.pth", "U+200B"),
    "soft-hyphen": ("net\u00ad.pth", "U+00AD"),
    "line-separator": ("net\u2028.pth", "U+2028"),
    "mark-inside": ("\ufeffnet.py", "U+FEFF"),
    "private-use": ("net\ue000.py", "U+E000"),
    "surrogate": (b"net\xed\xa0\x80.py", "UTF-8"),
    "not-utf8": (b"n\xffet.py", "UTF-8"),
    "long": ("a" * 300, "longer than"),
    "long-part": ("\u6728" * 60 + ".pth", "longer than"),
    "deep": ("/".join("d" * 20) + "/evil.py", "folders deep"),
    "con": ("CON", "device"),
    "nul-pth": ("nul.pth", "device"),
    "aux-folder": ("aux/evil.py", "device"),
    "com1": ("com1.tar.gz", "device"),
    "lpt-superscript": ("LPT\u00b9.txt", "device"),
    "fullwidth-nul": ("\uff4e\uff55\uff4c.txt", "device"),
    "conin": ("CONIN$", "device"),
    "trailing-dot": ("evil.py.", "begins or ends"),
    "trailing-blank": ("evil.py ", "begins or ends"),
    "leading-blank": (" evil.py", "begins or ends"),
    "stream": ("net.pth:evil.py", "meaning of its own"),
    "star": ("a*.py", "meaning of its own"),
    "question": ("a?.py", "meaning of its own"),
    "pipe": ("a|b.py", "meaning of its own"),
    "less": ("a<b.py", "meaning of its own"),
    "quote": ('a"b.py', "meaning of its own"),
}
for _key, (_name, _says) in _NAMES.items():
    case(f"name-{_key}", good(Item(_name, b"x")), REFUSED, _says)

# --- kinds of entries: T2 ----------------------------------------------------------------------------------------

for _key, _mode in {
    "link": 0o120777,
    "character": 0o020644,
    "block": 0o060644,
    "pipe": 0o010644,
    "socket": 0o140644,
}.items():
    case(f"kind-{_key}", good(Item("evil", b"/etc/passwd", mode=_mode)), REFUSED, "link or a device")
case("kind-link-to-weights", [Item("tree.emd", emd()), Item("net.pth", b"/etc/passwd", mode=0o120777)], REFUSED, "link")
case("kind-junction", good(Item("evil", b"x", mode=0, attributes=0x400, made_by=0x0014)), REFUSED, "link or a device")
case("kind-setuid", good(Item("evil", b"x", mode=0o104755)), REFUSED, "setuid")
case("kind-setgid", good(Item("evil", b"x", mode=0o102755)), REFUSED, "setuid")
case("kind-folder-with-data", good(Item("evil/", b"data", mode=0o040755)), REFUSED, "carries data")
case("kind-folder-as-file", good(Item("evil/", b"", mode=0o100644)), REFUSED, "carries data")
case("kind-file-as-folder", good(Item("evil", b"x", mode=0o040755)), REFUSED, "file and a folder")
case(
    "kind-file-as-dos-folder",
    good(Item("evil", b"x", mode=0, attributes=0x10, made_by=0x0014)),
    REFUSED,
    "file and a folder",
)

# --- bombs: T3 ---------------------------------------------------------------------------------------------------

_ZEROS = 100 << 20


def _ratio() -> bytes:
    packed = deflate(bytes(_ZEROS))
    item = Item("zeros.bin", b"", 8, packed=packed, local={}, central={})
    for headers in (item.local, item.central):
        headers.update({"size": _ZEROS, "crc": zlib.crc32(bytes(_ZEROS))})
    return build(good(item))


def _ratio_shared() -> bytes:
    packed, crc = deflate(bytes(1 << 20)), zlib.crc32(bytes(1 << 20))
    sizes = {"size": 1 << 20, "crc": crc}
    return build(good(*(Item(f"z{n}.bin", b"", 8, packed=packed, local=sizes, central=sizes) for n in range(80))))


def _lying(size: int, data: bytes = bytes(300_000)) -> bytes:
    sizes = {"size": size, "crc": zlib.crc32(data)}
    return build(good(Item("lying.bin", b"", 8, packed=deflate(data), local=sizes, central=sizes)))


def _overlap() -> bytes:
    first = Item("net.pth", WEIGHTS)
    definition = Item("tree.emd", emd())
    offset = 30 + len("tree.emd") + len(definition.data)
    again = Item("copy.pth", WEIGHTS, offset=offset, central={"name": b"copy.pth"})
    return build([definition, first, again])


def _inner_overlap() -> bytes:
    """An entry that lies inside the data of another one (the quine trick of overlapping bombs)."""
    inner = build([Item("in.bin", b"x" * 50)])
    definition = Item("tree.emd", emd())
    start = 30 + len("tree.emd") + len(definition.data) + 30 + len("out.bin")
    return build(
        [definition, Item("net.pth", WEIGHTS), Item("in.bin", b"x" * 50, offset=start), Item("out.bin", inner)]
    )


case("bomb-ratio", _ratio, REFUSED, "bombs")
case("bomb-ratio-of-all", _ratio_shared, REFUSED, "bombs")
case("bomb-lies-small", lambda: _lying(1_000), REFUSED, "more data than")
case("bomb-lies-large", lambda: _lying(400_000), REFUSED, "less data than")
case("bomb-entries", lambda: build(good(*(Item(f"f{n}", b"") for n in range(4_200)))), REFUSED, "entries")
case("bomb-count-65535", lambda: build(good(), end={"count": 65_535, "here": 65_535}), REFUSED, "ZIP64")
case(
    "bomb-total",
    lambda: build(
        good(
            *(
                Item(
                    f"h{n}.bin",
                    b"",
                    central={"size": 0xFFFF0000, "compressed": 0xFFFF0000},
                    local={"size": 0xFFFF0000, "compressed": 0xFFFF0000},
                )
                for n in range(20)
            )
        )
    ),
    REFUSED,
    "more than the limit",
)
case("bomb-overlap", _overlap, REFUSED, "overlap")
case("bomb-overlap-inner", _inner_overlap, REFUSED, "overlap")
case(
    "bomb-definition",
    lambda: build([Item("tree.emd", b"{" + b" " * (17 << 20) + b"}"), Item("net.pth", WEIGHTS)]),
    DEFINITION,
    "ever needs",
)
case(
    "bomb-definition-packed",
    lambda: build([Item("tree.emd", b"{" + b" " * (17 << 20) + b"}", 8), Item("net.pth", WEIGHTS)]),
    DEFINITION,
    "ever needs",
)
case(
    "bomb-deep-lists", lambda: build([Item("tree.emd", b"[" * 100_000), Item("net.pth", WEIGHTS)]), DEFINITION, "levels"
)
case(
    "bomb-deep-objects",
    lambda: build([Item("tree.emd", b'{"a":' * 5_000), Item("net.pth", WEIGHTS)]),
    DEFINITION,
    "levels",
)
case(
    "bomb-long-number",
    lambda: build(
        [Item("tree.emd", emd(Version=...)[:-2] + b',"x":' + b"9" * 100_000 + b"}"), Item("net.pth", WEIGHTS)]
    ),
    DEFINITION,
    "digits",
)
case(
    "bomb-many-values",
    lambda: build([Item("tree.emd", b'{"x":[' + b"0," * 600_000 + b"0]}", 8), Item("net.pth", WEIGHTS)]),
    DEFINITION,
    "values",
)
case("bomb-image-side", good(ImageWidth=1_000_000), DEFINITION, "ImageWidth")
case("bomb-image-number", good(ImageWidth=1e308), DEFINITION, "ImageWidth")
case("bomb-bands", good(ExtractBands=list(range(5_000))), DEFINITION, "ExtractBands")
case("bomb-band-number", good(ExtractBands=[2**40]), DEFINITION, "ExtractBands[0]")
case("bomb-classes", good(Classes=[{"Value": n, "Name": str(n)} for n in range(10_001)]), DEFINITION, "Classes")
case("bomb-class-value", good(Classes=[{"Value": 2**40, "Name": "a"}]), DEFINITION, "Classes[0].Value")
case("bomb-batch", good(BatchSize=10**9), DEFINITION, "BatchSize")
