"""Paths, definitions, code, pickles, texts and extras in packages (threats T6 to T9, T13, T14), and good packages."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import sys
import unicodedata
import zipfile
import zlib
from typing import Any, Callable, Dict

from .corpus_base import CUSTOM, DEFINITION, OK, REFUSED, WEIGHTS, case, emd, good
from .zips import Item, build

# --- paths in the definition: T6 ---------------------------------------------------------------------------------

_PATHS = {
    "dotdot": "../net.pth",
    "dotdot-backslash": "..\\net.pth",
    "inner-dotdot": "a/../../net.pth",
    "passwd": "/etc/passwd",
    "http": "http://example.org/net.pth",
    "https": "https://example.org/net.pth",
    "file": "file:///etc/passwd",
    "s3": "s3://bucket/net.pth",
    "data": "data:application/x,abc",
    "unc": "\\\\server\\share\\net.pth",
    "unc-slashes": "//server/share/net.pth",
    "home": "~/net.pth",
    "home-of": "~root/net.pth",
    "variable": "$HOME/net.pth",
    "variable-braces": "a/${HOME}/net.pth",
    "windows-variable": "%APPDATA%\\net.pth",
    "command": "a/$(id)/net.pth",
    "vsicurl": "/vsicurl/http://example.org/net.pth",
    "drive-dotdot": "C:\\..\\net.pth",
    "missing": "other.pth",
}
for _key, _path in _PATHS.items():
    case(f"path-weights-{_key}", good(ModelFile=_path), REFUSED, "ModelFile")
for _key in ("dotdot", "http", "unc", "home", "missing"):
    _path = _PATHS[_key].replace("net.pth", "Finder.py").replace("other.pth", "Other.py")
    case(
        f"path-function-{_key}",
        [Item("a.emd", json.dumps({**CUSTOM, "InferenceFunction": _path}).encode()), Item("Finder.py")],
        REFUSED,
        "InferenceFunction",
    )
for _member in ("Architecture", "Config"):
    case(
        f"path-{_member}",
        good(Framework="Keras", ModelConfiguration={"Name": "MaskRCNN", _member: "..\\evil"}),
        REFUSED,
        _member,
    )
case("path-configuration-file", good(ModelConfigurationFile="../evil.py"), REFUSED, "ModelConfigurationFile")
case("path-model-files", good(ModelFiles=["net.pth", "../evil"]), REFUSED, "ModelFiles")
case("path-torchscript", good(TorchScript={"CPU": "../evil.pt"}), REFUSED, "TorchScript")
case("path-onnx", good(ONNX={"INFER": "http://example.org/a.onnx"}), REFUSED, "ONNX")

# --- which definition, and what is in it -------------------------------------------------------------------------

case("no-definition", [Item("net.pth", WEIGHTS)], REFUSED, "no model definition")
case("two-definitions", good(Item("other.emd", emd())), REFUSED, "2 model definitions")
case("two-definitions-deep", [Item("a/x.emd", emd()), Item("b/y.emd", emd())], REFUSED, "2 model definitions")
case("definition-too-deep", [Item("a/b/x.emd", emd()), Item("a/b/net.pth", WEIGHTS)], REFUSED, "no model definition")
case(
    "definition-only-litter",
    [Item("__MACOSX/._tree.emd", b"\0\5\26\7"), Item("net.pth")],
    REFUSED,
    "no model definition",
)
for _key, _text in {
    "empty": b"",
    "text": b"hello",
    "list": b"[1, 2]",
    "string": b'"a"',
    "cut": emd()[:-30],
    "binary": bytes(range(256)),
    "pickle": pickle.dumps({"a": 1}),
    "xml": b"<Model/>",
    "no-colon": b'{"a" 1}',
    "two": b"{} {}",
    "nothing": b"{}",
    "twice-different": b'{"Framework": "PyTorch", "Framework": "Keras"}',
    "unclosed": b'{"a": "b',
}.items():
    case(f"definition-{_key}", [Item("tree.emd", _text), Item("net.pth", WEIGHTS)], DEFINITION, "")
for _key, _value in {
    "ImageWidth": "wide",
    "ImageHeight": 0,
    "ExtractBands": {"a": 1},
    "Classes": "Tree",
    "DataRange": [5, 1],
    "ModelPadding": -3,
    "BatchSize": 0,
    "Threshold": "high",
    "ImageSpaceUsed": "MOON",
    "ModelConfiguration": 7,
    "ModelFile": [1],
    "Framework": {"a": 1},
    "ModelFiles": "a",
    "CropSizeFixed": "maybe",
    "ModelType": ["x"],
}.items():
    case(f"value-{_key}", good(**{_key: _value}), DEFINITION, _key)
case("value-no-weights", good(ModelFile=...), DEFINITION, "ModelFile")
case("value-no-framework", good(Framework=...), DEFINITION, "Framework")
case("value-template", good(Framework="e.g. TensorFlow", MetaDataMode="RCNN_Masks"), DEFINITION, "Framework")

# --- code and pickles: T7 to T9. They open, because opening runs nothing ------------------------------------------

PAYLOAD = "import os, pathlib\npathlib.Path(os.environ['CANARY']).touch()\n"


class Bomb:
    """Unpickled, it would create the canary."""

    def __reduce__(self) -> Any:
        return (os.system, (f"{sys.executable} -c \"import os; open(os.environ['CANARY'], 'w')\"",))


def torch_zip(pickled: bytes, root: str = "archive", *more: Item) -> bytes:
    return build([Item(f"{root}/data.pkl", pickled), Item(f"{root}/version", b"3\n"), *more])


_CODE = {
    "function": [Item("a.emd", json.dumps(CUSTOM).encode()), Item("Finder.py", PAYLOAD.encode())],
    "function-and-helpers": [
        Item("a.emd", json.dumps(CUSTOM).encode()),
        Item("Finder.py", PAYLOAD.encode()),
        Item("pkg/__init__.py", PAYLOAD.encode()),
    ],
    "bytecode": [
        Item("a.emd", json.dumps(CUSTOM).encode()),
        Item("Finder.py", b""),
        Item("__pycache__/Finder.cpython-311.pyc", PAYLOAD.encode()),
    ],
    "keras-module": [
        Item(
            "a.emd",
            emd(
                Framework="Keras",
                ModelConfiguration={"Name": "MaskRCNN", "Architecture": ".\\p\\net", "Config": ".\\p\\net"},
            ),
        ),
        Item("net.pth", WEIGHTS),
        Item("p/net.py", PAYLOAD.encode()),
    ],
    "extension": good(
        Item("ModelConfiguration.py", PAYLOAD.encode()),
        ModelConfigurationFile="ModelConfiguration.py",
        ModelName="MMDetection",
    ),
}
for _key, _items in _CODE.items():
    # The engine has the network of the Keras module itself and reads the module's settings without running it.
    case(f"code-{_key}", _items, OK, code=_key != "keras-module")
case("code-not-used", good(Item("setup.py", PAYLOAD.encode()), Item("sitecustomize.py", PAYLOAD.encode())), OK)
case(
    "code-shadows",
    good(Item("json.py", PAYLOAD.encode()), Item("zlib.py", PAYLOAD.encode()), Item("a.pth", b"import os")),
    OK,
)
case(
    "code-stand-in",
    good(Item("ArcGISObjectDetector.py", PAYLOAD.encode()), InferenceFunction="ArcGISObjectDetector.py"),
    OK,
)

_WEIGHTS: Dict[str, Callable[[], bytes]] = {
    "pickle": lambda: pickle.dumps(Bomb()),
    "pickle-0": lambda: pickle.dumps(Bomb(), 0),
    "torch": lambda: torch_zip(pickle.dumps(Bomb(), 2)),
    "torch-stack-global": lambda: torch_zip(pickle.dumps(Bomb(), 4)),
    "torch-cut": lambda: torch_zip(pickle.dumps(Bomb(), 2)[:-5]),
    "torchscript": lambda: torch_zip(
        pickle.dumps(Bomb(), 2), "net", Item("net/constants.pkl", b""), Item("net/code/a.py", PAYLOAD.encode())
    ),
    "pt2": lambda: build([Item("net/archive_format", b"pt2"), Item("net/models/a.json", b"{}")]),
    "numpy-objects": lambda: (
        b"\x93NUMPY\1\0" + struct.pack("<H", 60) + b"{'descr': '|O'}" + bytes(45) + pickle.dumps(Bomb())
    ),
    "html": lambda: b"<html>Sign in</html>",
    "git-lfs": lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    "empty": lambda: b"",
}
for _key, _content in _WEIGHTS.items():
    case(f"weights-{_key}", lambda content=_content: build([Item("tree.emd", emd()), Item("net.pth", content())]), OK)

# --- texts and extras: T13 and T14 -------------------------------------------------------------------------------

for _key, _text in {
    "image": "<img src=http://127.0.0.1:9/beacon.png>",
    "script": "<script>alert(1)</script>",
    "style": "</style><b>",
    "link": '<a href="javascript:alert(1)">x</a>',
    "quote": '" onmouseover="alert(1)',
    "formula": "=cmd|'/c calc'!A1",
    "bidi": "abc\u202efdp",
    "entity": "&lt;b&gt; &#x3c;",
    "frame": "<iframe src=file:///etc/passwd>",
}.items():
    case(f"text-{_key}", good(Classes=[{"Value": 1, "Name": _text}], ModelName=_text, Description=_text), OK)
case("extra-project", good(Item("p.qgs", b"<qgis/>"), Item("s.qml", b"<qml/>"), Item("requirements.txt", b"evil")), OK)
case(
    "extra-xml",
    good(Item("esriinfo/iteminfo.xml", b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>')),
    OK,
)
case("extra-vrt", good(Item("thumbnail.tif", b"<VRTDataset/>"), Item("Thumbnail.png", b"GIF89a")), OK)
case("extra-archive", lambda: build(good(Item("inner.zip", build([Item("../evil.py", b"x")])))), OK)
case("extra-shell", good(Item("install.sh", b"touch $CANARY", mode=0o100755)), OK)


# --- good ones ---------------------------------------------------------------------------------------------------


def zipped(files: Dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = comment
    return stream.getvalue()


class _OneWay(io.RawIOBase):
    """A stream that cannot seek, as a network socket: zip writers then put sizes behind the data."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


def _streamed(force: bool) -> bytes:
    stream = _OneWay()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=force) as entry:
                entry.write(data)
    return bytes(stream.data)


FILES = {"tree.emd": emd(), "net.pth": WEIGHTS}
case("good-deflated", lambda: zipped(FILES), OK)
case("good-stored", lambda: zipped(FILES, zipfile.ZIP_STORED), OK)
case("good-own-writer", good(), OK)
case("good-zip-suffix", lambda: zipped(FILES), OK, suffix=".zip")
case("good-no-suffix", lambda: zipped(FILES), OK, suffix="")
case("good-comment", lambda: zipped(FILES, comment=b"made by hand"), OK)
case("good-streamed", lambda: _streamed(False), OK)
case("good-streamed-zip64", lambda: _streamed(True), OK)
case("good-zip64-end", lambda: build(good(), zip64={}), OK)
case("good-upper-suffix", lambda: zipped({"TREE.EMD": emd(), "net.pth": WEIGHTS}), OK)
case("good-weights-first", lambda: zipped({"net.pth": WEIGHTS, "tree.emd": emd()}), OK)
case(
    "good-one-folder",
    lambda: zipped({f"tree/{name}": data for name, data in FILES.items()}),
    OK,
    "should lie at the root",
)
case(
    "good-folder-entries",
    good(Item("ModelCharacteristics/", mode=0o040755), Item("ModelCharacteristics/loss_graph.png", b"\x89PNG")),
    OK,
)
case("good-folder-setgid", good(Item("shared/", mode=0o042775)), OK)
case("good-macos", good(Item("__MACOSX/._tree.emd", b"\0\5"), Item("._tree.emd", b"\0\5"), Item(".DS_Store", b"x")), OK)
case("good-emd-in-subfolder", good(Item("old/tree.emd", b"not even JSON")), OK)
case("good-unicode", lambda: zipped({"bäume 木.emd": emd(ModelFile="grün 🌳.pth"), "grün 🌳.pth": WEIGHTS}), OK)
case(
    "good-decomposed",
    lambda: zipped(
        {"tree.emd": emd(ModelFile="caf\u00e9.pth"), unicodedata.normalize("NFD", "caf\u00e9.pth"): WEIGHTS}
    ),
    OK,
)
case(
    "good-cp437",
    [Item("tree.emd", emd(ModelFile="b\u00e4ume.pth")), Item("b\u00e4ume.pth".encode("cp437"), WEIGHTS, flags=0)],
    OK,
)
case(
    "good-utf8-unmarked",
    [Item("tree.emd", emd(ModelFile="b\u00e4ume.pth")), Item("b\u00e4ume.pth".encode(), WEIGHTS, flags=0)],
    OK,
)
_RAW = "b\u00e4ume.pth".encode("latin-1")
_FIELD = struct.pack("<BI", 1, zlib.crc32(_RAW)) + "b\u00e4ume.pth".encode()
case(
    "good-unicode-field",
    [
        Item("tree.emd", emd(ModelFile="b\u00e4ume.pth")),
        Item(_RAW, WEIGHTS, flags=0, extra=struct.pack("<2H", 0x7075, len(_FIELD)) + _FIELD),
    ],
    OK,
)
case("good-case-of-reference", good(ModelFile="NET.PTH"), OK)
case("good-backslash-reference", good(ModelFile=".\\net.pth"), OK)
case("good-windows-path", good(ModelFile="C:\\ModelFolder\\ObjectDetection\\net.pth"), OK, "another computer")
case("good-rooted-path", good(ModelFile="\\Data\\net.pth"), OK, "another computer")
case(
    "good-builtin-function",
    good(InferenceFunction="[Functions]System\\DeepLearning\\ArcGISLearn\\ArcGISObjectDetector.py"),
    OK,
)
case("good-bare-builtin", good(InferenceFunction="ArcGISObjectDetector.py"), OK)
case(
    "good-saved-model",
    [
        Item("tree.emd", emd(Framework="TensorFlow", ModelConfiguration="ObjectDetectionAPI", ModelFile="saved_model")),
        Item("saved_model/saved_model.pb", b"\x08\1"),
        Item("saved_model/variables/variables.index", b"x"),
    ],
    OK,
)
case("good-many-files", lambda: zipped({**FILES, **{f"extra/{n}.txt": b"" for n in range(3_000)}}), OK)
case("good-compressible", lambda: zipped({**FILES, "log.txt": bytes(20 << 20)}), OK)
case("good-stored-zeros", lambda: zipped({**FILES, "zeros.bin": bytes(65 << 20)}, zipfile.ZIP_STORED), OK)
case("good-empty-file", good(Item("empty.txt")), OK)
case(
    "good-bom-crlf",
    lambda: zipped({"tree.emd": b"\xef\xbb\xbf" + emd().replace(b"\n", b"\r\n"), "net.pth": WEIGHTS}),
    OK,
    "byte order mark",
)
case("good-no-width", good(ImageWidth=...), OK, "the other one is used")
case("good-other-platform", good(Item("readme.txt", b"x", made_by=0x0014, mode=0)), OK)
