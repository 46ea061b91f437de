"""Weights of PyTorch networks: imported once with the safe unpickler, kept as safetensors, loaded as that ever after.

A ``.pth`` file is a pickle, and a pickle is a program. ``torch.load(weights_only=True)`` runs only the part of the
language that builds tensors; whatever else a file asks for is a refusal that names it, never a second try without
the guard. The result is written as safetensors under the SHA-256 of the original, so the dangerous format is parsed
once, and later starts are faster.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Mapping, Optional, Sequence

import numpy as np
import safetensors
import torch
from safetensors.torch import load_file, save_file

from ..caches import weights_cache
from ..errors import ModelError

StateDict = dict[str, torch.Tensor]

STAGE = "loading the weights"
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # pickle protocol 2, the magic number of torch.save
_SIGNATURES = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)", "Set Framework to Keras, or name the PyTorch weights in ModelFile."),
    (b"PK\x03\x04", "torch-zip", ""),
    (_LEGACY_TORCH, "torch-legacy", ""),
    (b"version https://git-lfs", "a Git LFS pointer, not the weights themselves", "Fetch the file with git lfs pull."),
    (b"<", "an HTML or XML page, not weights", "The download probably failed; fetch the package again."),
    (b"\x80", "a Python pickle that torch.save did not write", "Save the state dictionary with torch.save again."),
)
_CONTAINERS = ("model", "state_dict", "model_state_dict")
# NumPy scalars and their types stand in the optimiser's part of checkpoints; building them runs no foreign code.
_NUMPY_GLOBALS: list[Any] = [np.dtype, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}]
_SIZE_MARGIN = 1 << 20
_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def load_weights(path: Path, *, cache: Optional[Path] = None) -> StateDict:
    """Return the tensors of a weights file, on the CPU.

    Args:
        path: a file that ``torch.save`` wrote (a state dictionary, bare or under "model") or a safetensors file.
        cache: folder of converted weights; default :func:`..caches.weights_cache`.

    Raises:
        ModelError: the file is of another kind, damaged, holds no state dictionary, or asks for code.
    """
    kind = sniff(path)
    if kind == "safetensors":
        return _without_module_prefix(_read_safetensors(path))
    folder = weights_cache() if cache is None else cache
    kept = folder / f"{_sha256(path)}.safetensors"
    if kept.is_file():
        try:
            return load_file(kept, device="cpu")
        except (safetensors.SafetensorError, OSError):
            kept.unlink(missing_ok=True)  # a disk that was full, a power cut: the original is still there
    tensors = _import(path, kind)
    _keep(tensors, kept)
    return tensors


def kept_tensors(path: Path) -> Optional[StateDict]:
    """Return the tensors that :func:`keep_tensors` has kept of a file; None if there are none."""
    kept = weights_cache() / f"{_sha256(path)}.safetensors"
    try:
        return load_file(kept, device="cpu") if kept.is_file() else None
    except (safetensors.SafetensorError, OSError):
        return None


def keep_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Keep the tensors of a file in the safe form, so that its pickles are read once."""
    _keep(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()},
        weights_cache() / f"{_sha256(path)}.safetensors",
    )


def sniff(path: Path) -> str:
    """Return "torch-zip", "torch-legacy" or "safetensors" by the content of a file, whatever its name.

    Raises:
        ModelError: it is none of them; the message says what it is.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
            size = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise _refusal(path, f"The weights cannot be read: {error.strerror or error}.") from error
    if not size:
        raise _refusal(path, "The weights file is empty.", "Fetch the package again.")
    for signature, kind, hint in _SIGNATURES:
        if head.startswith(signature):
            if kind.startswith("torch-"):
                return kind
            raise _refusal(path, f"The weights file is {kind}.", hint)
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < size:
        return "safetensors"
    raise _refusal(
        path,
        "The weights file is of no kind that PyTorch writes.",
        "ModelFile must name a state dictionary saved by torch.save, or a safetensors file.",
    )


def fit(network: torch.nn.Module, tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Copy weights into a network; every tensor must have its place, and every place its tensor.

    Raises:
        ModelError: names are missing or left over, or shapes differ; the message counts them and names the first, and
            says so when the pattern is that of a wrong number of classes or bands.
    """
    places = network.state_dict()
    missing = [name for name in places if name not in tensors]
    surplus = [name for name in tensors if name not in places]
    shared = [name for name in places if name in tensors]
    differing = [name for name in shared if places[name].shape != tensors[name].shape]
    if missing or surplus or differing:
        raise _misfit(path, places, tensors, missing, surplus, differing)
    damaged = [
        name for name in shared if tensors[name].is_floating_point() and not bool(torch.isfinite(tensors[name]).all())
    ]
    if damaged:
        raise _refusal(
            path,
            f"The weights hold values that are not numbers (the first in '{damaged[0]}'): the training diverged or "
            "the file is damaged.",
        )
    network.load_state_dict(dict(tensors), strict=True)


def _misfit(
    path: Path,
    places: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    missing: Sequence[str],
    surplus: Sequence[str],
    differing: Sequence[str],
) -> ModelError:
    findings = []
    if missing:
        findings.append(f"{len(missing)} of {len(places)} tensors are missing (the first is '{missing[0]}')")
    if surplus:
        findings.append(f"{len(surplus)} have no place in the network (the first is '{surplus[0]}')")
    if differing:
        name = differing[0]
        findings.append(
            f"{len(differing)} have another shape (the first is '{name}': {tuple(tensors[name].shape)} in the file, "
            f"{tuple(places[name].shape)} in the network)"
        )
    hint = "Check the architecture, the backbone and the options that the model definition names."
    if differing and not missing and not surplus:
        hint = _shape_hint(places, tensors, differing) or hint
    return _refusal(
        path, f"The weights do not fit the network that the definition describes: {'; '.join(findings)}.", hint
    )


def _shape_hint(
    places: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor], differing: Sequence[str]
) -> str:
    pairs = [(tensors[name].shape, places[name].shape) for name in differing]
    if all(len(file) == len(own) and file[1:] == own[1:] for file, own in pairs):
        return "The file was trained for another number of classes than the definition lists under Classes."
    if len(pairs) == 1 and len(pairs[0][0]) == len(pairs[0][1]) == 4:
        file, own = pairs[0]
        return f"The file was trained on {file[1]} bands, the definition extracts {own[1]} (ExtractBands)."
    return ""


def _import(path: Path, kind: str) -> StateDict:
    if kind == "torch-zip":
        _check_archive(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # hostile or damaged bytes can make the unpickler raise anything
        raise _load_refusal(path, error) from error
    tensors = _tensors(content, path)
    limit = path.stat().st_size * 1.1 + _SIZE_MARGIN
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) > limit:
        raise _refusal(path, "The tensors of the weights file are larger than the file itself, which none needs to be.")
    # Clones: tensors that share memory cannot be kept as safetensors, and views keep their whole storage.
    return _without_module_prefix({name: tensor.clone().contiguous() for name, tensor in tensors.items()})


def _numpy_globals() -> list[Any]:
    """Return what rebuilds NumPy scalars, under the module names of both NumPy 1 and NumPy 2."""
    scalar = np.float64(0).__reduce__()[0]
    return [*_NUMPY_GLOBALS, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]


def _check_archive(path: Path) -> None:
    """Refuse archives that torch.save did not write: TorchScript, exported programs, compressed or broken zips."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError) as error:
        raise _refusal(
            path, "The weights file is cut off or damaged.", "Fetch the package again or ask its maker for the file."
        ) from error
    names = [member.filename for member in members]
    if any(re.search(r"(^|/)constants\.pkl$|(^|/)code/", name) for name in names):
        raise _refusal(
            path,
            "The weights file is a TorchScript program, which is code.",
            "Set Framework to TorchScript in the model definition and allow the package to run its code.",
        )
    if any(re.search(r"(^|/)archive_format$|serialized_exported_program", name) for name in names):
        raise _refusal(path, "The weights file is an exported program (.pt2), not a state dictionary.")
    if not any(re.search(r"(^|/)data\.pkl$", name) for name in names):
        raise _refusal(path, "The weights file is a zip archive that torch.save did not write.")
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise _refusal(path, "The weights file is a compressed archive; torch.save stores tensors as they are.")


def _load_refusal(path: Path, error: Exception) -> ModelError:
    text = str(error)
    wanted = [name for name in re.findall(r"GLOBAL (\S+) was not", text) if _NAME.fullmatch(name)]
    if wanted:
        return _refusal(
            path,
            f"The weights file asks for {wanted[0]}, which builds something else than tensors; it was not run.",
            "Ask the maker of the package for the plain state dictionary: torch.save(model.state_dict(), file).",
        )
    if "WeightsUnpickler" in text and "GLOBAL" not in text:
        return _refusal(
            path,
            "The weights file holds instructions that a state dictionary does not need; it was not run.",
            "Ask the maker of the package for the plain state dictionary: torch.save(model.state_dict(), file).",
        )
    return _refusal(
        path, "The weights file is cut off or damaged.", "Fetch the package again or ask its maker for the file."
    )


def _tensors(content: object, path: Path) -> StateDict:
    """Return the state dictionary in a checkpoint: the content itself, or its member "model" or the like."""
    if isinstance(content, Mapping):
        for member in _CONTAINERS:
            inner = content.get(member)
            if isinstance(inner, Mapping):
                content = inner
                break
        tensors = {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
        if tensors and not any(isinstance(value, Mapping) for value in content.values()):
            return {name: tensor.detach() for name, tensor in tensors.items()}
    raise _refusal(
        path,
        "The weights file holds no state dictionary (names with tensors).",
        "Save it with torch.save(model.state_dict(), file).",
    )


def _read_safetensors(path: Path) -> StateDict:
    try:
        return load_file(path, device="cpu")
    except (safetensors.SafetensorError, OSError) as error:
        raise _refusal(
            path, f"The weights file is cut off or damaged ({error}).", "Fetch the package again."
        ) from error


def _without_module_prefix(tensors: StateDict) -> StateDict:
    """Drop the ``module.`` that training on several GPUs puts in front of every name."""
    prefix = "module."
    if all(name.startswith(prefix) for name in tensors):
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items()}
    return tensors


def _keep(tensors: StateDict, target: Path) -> None:
    """Write safetensors under their final name at once; a cache that cannot be written is no reason to stop."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, suffix=".part")
        os.close(handle)
    except OSError:
        return
    try:
        save_file(tensors, name)
        os.replace(name, target)
    except (OSError, safetensors.SafetensorError):
        Path(name).unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _refusal(path: Path, message: str, hint: str = "") -> ModelError:
    return ModelError(message, stage=STAGE, file=str(path), hint=hint)
