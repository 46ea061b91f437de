"""What a weights file really is, told from its first bytes and never from its name; nothing is loaded or unpickled."""

from __future__ import annotations

import itertools
import pickletools  # nosec B403
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Dict, Iterator, List, Optional, Tuple, Union

from ..errors import PackageError

TORCH, TORCHSCRIPT, PT2, TORCH_OLD, AOT = "torch", "torchscript", "pt2", "torch-old", "aot"
SAFETENSORS, HDF5, KERAS, ONNX = "safetensors", "hdf5", "keras", "onnx"
SAVED_MODEL, GRAPH, PICKLE, UNKNOWN = "savedmodel", "graph", "pickle", "unknown"

_DESCRIPTIONS = {
    TORCH: "PyTorch weights",
    TORCHSCRIPT: "TorchScript (a program for PyTorch)",
    PT2: "exported program of PyTorch (.pt2)",
    AOT: "program that AOTInductor compiled to native code (.pt2)",
    TORCH_OLD: "PyTorch weights in the format before 1.6",
    SAFETENSORS: "safetensors",
    HDF5: "HDF5 (Keras)",
    KERAS: "Keras 3 model (.keras)",
    ONNX: "ONNX network",
    SAVED_MODEL: "TensorFlow SavedModel",
    GRAPH: "TensorFlow frozen graph",
    PICKLE: "Python pickle",
}
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_POINTER = b"version https://git-lfs"

# What tensors and their containers are rebuilt with; everything else in a pickle is a question to ask its author.
_PLAIN_MODULES = ("torch", "torch._utils", "torch.storage", "torch.nn.parameter", "torch.serialization", "collections")
_PLAIN_GLOBALS = frozenset(
    (
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "_codecs.encode",
        "builtins.set",
        "builtins.bytearray",
        "__builtin__.set",
        "__builtin__.bytearray",
        "torch._tensor._rebuild_from_type_v2",
    )
)
MAX_PICKLE = 64 << 20


@dataclass(frozen=True)
class Format:
    """Kind of a file (one of this module's words), and that kind for people."""

    kind: str
    description: str


def detect(path: Path) -> Format:
    """Return what a file or folder of weights is.

    Raises:
        PackageError: it cannot be read.
    """
    try:
        if path.is_dir():
            found = SAVED_MODEL if (path / "saved_model.pb").is_file() else UNKNOWN
            return Format(found, _DESCRIPTIONS.get(found, "a folder that is no SavedModel"))
        with path.open("rb") as file:
            kind, description = _detect(file, path)
    except OSError as error:
        raise PackageError(f"The weights cannot be read: {error.strerror or error}.", file=str(path)) from error
    return Format(kind, description or _DESCRIPTIONS[kind])


def _detect(file: BinaryIO, path: Path) -> Tuple[str, str]:
    start = file.read(64)
    if not start:
        return UNKNOWN, "an empty file"
    if start.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return HDF5, ""
    if start.startswith(_OLD_TORCH):
        return TORCH_OLD, ""
    if start.startswith(_POINTER):
        return UNKNOWN, "a Git LFS pointer instead of the file itself"
    if start.lstrip()[:1] == b"<":
        return UNKNOWN, "an HTML or XML page; the download probably failed"
    if start[:1] == b"\x80" and start[1] in (2, 3, 4, 5):
        return PICKLE, ""
    if _is_safetensors(start):
        return SAFETENSORS, ""
    kind = _protobuf_kind(file)
    return kind, "" if kind != UNKNOWN else "a file of an unknown kind"


def _is_safetensors(start: bytes) -> bool:
    return len(start) > 9 and struct.unpack_from("<Q", start)[0] < 1 << 27 and start[8:10] in (b'{"', b"{}")


def _zip_kind(path: Path) -> Tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one.filename for one in archive.infolist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        return UNKNOWN, "a damaged zip archive"
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        return TORCHSCRIPT, ""
    if "data.pkl" in inner:
        return TORCH, ""
    if any(name.startswith("data/aotinductor/") for name in inner):
        return AOT, ""
    exported = "archive_format" in inner or "serialized_exported_program.json" in names
    if exported or any(name.startswith("models/") for name in inner):
        return PT2, ""
    if "config.json" in names and any(name.endswith(".weights.h5") for name in names):
        return KERAS, ""
    return UNKNOWN, "a zip archive that holds no weights"


def fields(file: BinaryIO, end: Optional[int] = None) -> Iterator[Tuple[int, Union[int, Tuple[int, int]]]]:
    """Yield (field number, integer or (offset, length)) of a protobuf message from the file's position on.

    Stops at the first thing that is no protobuf with the pair (0, 0).
    """
    if end is None:
        position = file.tell()
        end = file.seek(0, 2)
        file.seek(position)
    while file.tell() < end:
        tag = _varint(file)
        number, wire = (tag >> 3, tag & 7) if tag is not None else (0, 7)
        if wire == 0:
            value = _varint(file)
            if number and value is not None:
                yield number, value
                continue
        elif wire in (1, 2, 5):
            length = _varint(file) if wire == 2 else 8 if wire == 1 else 4
            offset = file.tell()
            if number and length is not None and offset + length <= end:
                yield number, (offset, length)
                file.seek(offset + length)
                continue
        yield 0, 0
        return


def _varint(file: BinaryIO) -> Optional[int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None


def _protobuf_kind(file: BinaryIO) -> str:
    """Tell ONNX, GraphDef and SavedModel apart by their outermost fields."""
    file.seek(0)
    found: Dict[int, Union[int, Tuple[int, int]]] = {}
    for number, value in itertools.islice(fields(file), 64):
        if number == 0:
            return UNKNOWN
        found.setdefault(number, value)
    if isinstance(found.get(1), int) and isinstance(found.get(7), tuple):
        return ONNX
    if found.get(1) == 1 and isinstance(found.get(2), tuple) and set(found) <= {1, 2}:
        return SAVED_MODEL
    if isinstance(found.get(1), tuple) and set(found) <= {1, 2, 3, 4} and _is_node(file, found[1]):
        return GRAPH
    return UNKNOWN


def _is_node(file: BinaryIO, place: Union[int, Tuple[int, int]]) -> bool:
    """Whether the first node of a graph has a name and an operation."""
    if isinstance(place, int):
        return False
    file.seek(place[0])
    numbers = [number for number, _ in fields(file, place[0] + place[1])]
    return numbers[:1] == [1] and 2 in numbers and 0 not in numbers


def exported_with_pickles(path: Path) -> bool:
    """Whether an exported program keeps tensors as pickles, as PyTorch did before 2.9 and does for unusual ones."""
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                inner = entry.filename.partition("/")[2]
                folder, _, name = inner.rpartition("/")
                kept = folder in ("data/weights", "data/constants")
                if entry.filename in ("serialized_state_dict.pt", "serialized_constants.pt") or (
                    kept and name.endswith(".pt")
                ):
                    return True
                listed = kept and name.endswith("_config.json") and entry.file_size < MAX_PICKLE
                if listed and b'"use_pickle":true' in archive.read(entry).replace(b" ", b""):
                    return True
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError):
        return False  # whoever loads it says what is wrong
    return False


def unusual_globals(path: Path) -> Tuple[str, ...]:
    """Return the names that a PyTorch file's pickle asks for and plain weights do not need, without running it.

    The pickle's operations are listed, not executed. An empty answer is no promise: loading still happens with the
    safe unpickler alone.
    """
    kind = detect(path).kind
    try:
        if kind == TORCH:
            with zipfile.ZipFile(path) as archive:
                name = next(one for one in archive.namelist() if one.partition("/")[2] == "data.pkl")
                if archive.getinfo(name).file_size > MAX_PICKLE:
                    return ("a pickle larger than any weights need",)
                streams = [archive.read(name)]
        elif kind in (PICKLE, TORCH_OLD):
            with path.open("rb") as file:
                streams = [file.read(1 << 20)]
        else:
            return ()
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError, StopIteration):
        return ("a damaged pickle",)
    return tuple(sorted({one for stream in streams for one in _globals(stream) if not _is_plain(one)}))


def _is_plain(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if name in _PLAIN_GLOBALS:
        return True
    if module == "torch":
        return attribute.endswith("Storage") or attribute in ("Size", "device", "dtype") or attribute.islower()
    if module == "torch._utils":
        return attribute.startswith("_rebuild_")
    return module in _PLAIN_MODULES and attribute in (
        "OrderedDict",
        "defaultdict",
        "Counter",
        "Parameter",
        "_TypedStorage",
    )


def _globals(data: bytes) -> List[str]:
    """Return "module.name" of every global that a pickle's operations name."""
    found: List[str] = []
    texts: List[str] = []
    memo: Dict[int, str] = {}
    try:
        for operation, argument, _ in pickletools.genops(data):
            name = operation.name
            if name in ("GLOBAL", "INST"):
                found.append(str(argument).replace(" ", "."))
            elif name == "STACK_GLOBAL":
                found.append(".".join(texts[-2:]) if len(texts) > 1 else "an unknown name")
            elif "UNICODE" in name or "STRING" in name:
                texts.append(str(argument))
            elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
                key = len(memo) if argument is None else int(argument)
                memo[key] = texts[-1] if texts else ""
            elif name in ("GET", "BINGET", "LONG_BINGET") and argument is not None:
                texts.append(memo.get(int(argument), ""))
            if len(texts) > 10_000:
                del texts[:9_000]
    except Exception:  # a pickle that cannot be listed is reported, whatever the lister stumbles over
        found.append("a damaged pickle")
    return found
