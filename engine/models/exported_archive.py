"""Archives of ``torch.export`` (``.pt2``) read as data: the program as JSON, the weights as bytes.

PyTorch's own reader unpickles sample inputs and evaluates expressions of the file, so it is not used. Here nothing of
a file is run: the program is JSON, weights are raw bytes or, in older files, pickles that the safe unpickler accepts.
Layout: torch/export/pt2_archive and torch/_export/serde/schema.py of PyTorch (BSD-3-Clause), schema 8.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import torch

from ..errors import ModelError
from ..package.formats import exported_with_pickles
from . import weights

_SCHEMA = 8
_MOST_JSON = 512 << 20
_AOT = "data/aotinductor/"
# torch._export.serde.schema.ScalarType
DTYPES: dict[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
    28: torch.uint16,
}


@dataclass(frozen=True)
class Archive:
    """A program and its tensors.

    Attributes:
        program: the JSON object ``ExportedProgram`` of the schema.
        tensors: parameters, buffers and constants by name.
    """

    program: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]


def read_archive(path: Path) -> Archive:
    """Read a file that ``torch.export.save`` wrote.

    Raises:
        ModelError: it is damaged, of another kind, holds native code, or asks for more than tensors.
    """
    try:
        with zipfile.ZipFile(path) as file:
            reader = _Reader(file, path)
            if not reader.pickles:
                return reader.read()
            tensors = weights.kept_tensors(path)
            if tensors is not None:
                return Archive(reader.program(), tensors)
            archive = reader.read()
            weights.keep_tensors(path, archive.tensors)
            return archive
    except (zipfile.BadZipFile, OSError, NotImplementedError, EOFError) as error:
        raise _broken(path) from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError, RuntimeError) as error:
        # hostile or truncated members: a name that is not there, a size that does not fit
        raise _broken(path) from error


class _Reader:
    def __init__(self, file: zipfile.ZipFile, path: Path) -> None:
        self._file, self._path = file, path
        self.pickles = exported_with_pickles(path)
        names = [entry.filename for entry in file.infolist()]
        legacy = "serialized_exported_program.json" in names
        root = "" if legacy or not names else names[0].partition("/")[0] + "/"
        self._legacy = legacy
        self._members = {
            entry.filename[len(root) :]: entry for entry in file.infolist() if entry.filename.startswith(root)
        }

    def read(self) -> Archive:
        program, name = self.program(), self._program_name()
        if self._legacy:
            tensors = {**self._pickled("serialized_constants.pt"), **self._pickled("serialized_state_dict.pt")}
        else:
            tensors = {**self._payload("constants", name), **self._payload("weights", name)}
        return Archive(program, tensors)

    def program(self) -> Mapping[str, Any]:
        """Return the program, of a kind and version that is read."""
        if any(name.startswith(_AOT) for name in self._members):
            raise ModelError(
                "The file was compiled by AOTInductor: it holds native code, which is never run.",
                stage="loading the model",
                file=str(self._path),
                hint="Save the exported program itself with torch.export.save, or export the network to ONNX.",
            )
        name = self._program_name()
        program: Mapping[str, Any] = self._json(
            "serialized_exported_program.json" if self._legacy else f"models/{name}.json"
        )
        version = program.get("schema_version", {}).get("major")
        if version != _SCHEMA:
            raise ModelError(
                f"The file was written by a PyTorch whose export format ({version}) this program does not read.",
                stage="loading the model",
                file=str(self._path),
                hint=f"Export the network again with PyTorch {torch.__version__.partition('+')[0]}, or to ONNX.",
            )
        return program

    def _program_name(self) -> str:
        if self._legacy:
            return "model"
        programs = sorted(name[7:-5] for name in self._members if name.startswith("models/") and name.endswith(".json"))
        if "model" in programs or len(programs) == 1:
            return "model" if "model" in programs else programs[0]
        what = f"several programs ({', '.join(programs[:5])})" if programs else "no exported program"
        raise ModelError(
            f"The file holds {what}; exactly one is needed.",
            stage="loading the model",
            file=str(self._path),
            hint="Save the network alone with torch.export.save.",
        )

    def _payload(self, kind: str, name: str) -> dict[str, torch.Tensor]:
        """Return the weights or constants of a program."""
        legacy = f"data/{kind}/{name}.pt"
        if legacy in self._members:
            return self._pickled(legacy)
        config = self._json(f"data/{kind}/{name}_{kind}_config.json")["config"]
        found: dict[str, torch.Tensor] = {}
        raw: dict[str, bytearray] = {}
        for key, entry in config.items():
            place = str(entry["path_name"])
            if place.startswith(("custom_obj_", "opaque_obj_")):
                raise self._refused(f"an object called '{key}' that is no tensor")
            if entry.get("use_pickle"):
                found[key] = self._tensor(f"data/{kind}/{place}")
            else:
                if place not in raw:
                    raw[place] = bytearray(self._bytes(f"data/{kind}/{place}"))
                found[key] = _strided(raw[place], entry["tensor_meta"])
        return found

    def _tensor(self, member: str) -> torch.Tensor:
        value = self._safe(member)
        if not isinstance(value, torch.Tensor):
            raise self._refused(f"something else than a tensor in {member}")
        return value.detach()

    def _pickled(self, member: str) -> dict[str, torch.Tensor]:
        values = self._safe(member) if self._members[member].file_size else {}
        if not isinstance(values, Mapping) or not all(isinstance(one, torch.Tensor) for one in values.values()):
            raise self._refused(f"something else than tensors in {member}")
        return {str(key): value.detach() for key, value in values.items()}

    def _safe(self, member: str) -> Any:
        """Unpickle what builds tensors and nothing else; the rest of the language is refused, never run."""
        data = self._bytes(member)
        if not self.pickles:
            raise self._refused(f"a pickle that it does not list as usual, {member}")
        try:
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        except Exception as error:  # hostile bytes can make the unpickler raise anything
            raise self._refused(f"a pickle that builds something else than tensors, in {member}") from error

    def _json(self, member: str) -> Any:
        data = self._bytes(member, _MOST_JSON)
        values = json.loads(data)
        if not isinstance(values, dict):
            raise ValueError(member)
        return values

    def _bytes(self, member: str, most: Optional[int] = None) -> bytes:
        entry = self._members[member]
        if entry.file_size > (most or self._path.stat().st_size) or (
            entry.compress_type != zipfile.ZIP_STORED and entry.file_size > 100 * max(entry.compress_size, 1)
        ):
            raise ValueError(f"{member} is larger than it can be")
        return self._file.read(entry)

    def _refused(self, what: str) -> ModelError:
        return ModelError(
            f"The exported program holds {what}; it was not loaded.",
            stage="loading the model",
            file=str(self._path),
            hint="Export a network of tensors and plain operations, or export it to ONNX.",
        )


def _strided(data: bytearray, meta: Mapping[str, Any]) -> torch.Tensor:
    """Return a view of raw bytes; sizes beyond the bytes are an error."""
    kind = DTYPES[int(meta["dtype"])]
    sizes, strides = integers(meta["sizes"]), integers(meta["strides"])
    (offset,) = integers([meta["storage_offset"]])
    if not math.prod(sizes):
        return torch.zeros(sizes, dtype=kind)
    flat = torch.frombuffer(data, dtype=kind)
    if min((*sizes, *strides, offset)) < 0:
        raise ValueError("negative sizes")
    return torch.as_strided(flat, sizes, strides, offset).clone()


def integers(values: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return sizes that are all plain numbers."""
    return [int(one["as_int"]) for one in values]


def _broken(path: Path) -> ModelError:
    return ModelError(
        "The file is no complete file of torch.export; it is damaged, truncated or of another format.",
        stage="loading the model",
        file=str(path),
        hint="Save the network again with torch.export.save.",
    )
