"""Which files a definition refers to, and whether its paths stay inside the package.

Paths of a definition are looked up in the list of the package's files and never joined to a folder: what is not in
the list does not exist. Absolute paths of the author's machine are tolerated when a file of that name lies beside the
definition, as published examples need.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, List, Optional, Set, Tuple

from . import vocabulary
from .emd import ModelDefinition, normal_path
from .lenient import clip
from .names import folded

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DRIVE = re.compile(r"[A-Za-z]:")
_VARIABLE = re.compile(r"[$~%]")


def path_fault(raw: str) -> str:
    """Return why a path of a definition must not be followed anywhere, or an empty text."""
    path = normal_path(raw)
    if "://" in path or (_SCHEME.match(path) and not _DRIVE.match(path)) or path.startswith("/vsi"):
        return "leads to the network or to another program"
    if path.startswith("//"):
        return "leads to another computer"
    if ".." in path.split("/"):
        return "leads out of the package's folder"
    if _VARIABLE.search(path.split("/")[0]) or "${" in path or "$(" in path:
        return "holds a variable or a home folder sign"
    if len(path) > 1_000:
        return "is too long"
    return ""


def is_absolute(raw: str) -> bool:
    """Whether a path of a definition starts at a root or drive of the author's machine."""
    path = normal_path(raw)
    return path.startswith("/") or bool(_DRIVE.match(path))


class Listing:
    """The names of a package's files, as seen from the definition's folder (``prefix``, with a slash, or empty)."""

    def __init__(self, names: Iterable[str], prefix: str = "") -> None:
        self.names = [name[len(prefix) :] for name in names if name.startswith(prefix)]
        self._files: Dict[str, str] = {folded(name): name for name in self.names}
        self._folders: Dict[str, str] = {}
        for name in self.names:
            parts = name.split("/")[:-1]
            for depth in range(1, len(parts) + 1):
                folder = "/".join(parts[:depth])
                self._folders.setdefault(folded(folder), folder)

    def find(self, raw: str) -> Optional[str]:
        """Return the name of the file or folder that a path of the definition means, or None."""
        if path_fault(raw):
            return None
        path = normal_path(raw).rstrip("/")
        candidates = [path.rpartition("/")[2]] if is_absolute(raw) else [path, path.rpartition("/")[2]]
        for candidate in candidates:
            key = folded(candidate)
            if candidate and key in self._files:
                return self._files[key]
            if candidate and key in self._folders:
                return self._folders[key]
        return None

    def find_module(self, raw: str) -> Optional[str]:
        """Return the file of a Python module named without its suffix, or None."""
        path = raw[:-3] if raw.casefold().endswith(".py") else raw
        return self.find(f"{path}.py") or self.find(f"{path}/__init__.py") or self.find(raw)

    @property
    def code(self) -> Tuple[str, ...]:
        """Names of the Python files."""
        return tuple(name for name in self.names if name.casefold().endswith(".py"))


def named_files(definition: ModelDefinition, listing: Listing) -> Tuple[str, ...]:
    """Return the files that a definition names, with what belongs to them: whole folders, code, data of the weights."""
    found: Set[str] = set()
    for key, raw, _ in _references(definition):
        module = key.endswith(("Architecture", "Config"))
        name = listing.find_module(raw) if module else listing.find(raw)
        if name is not None:
            found.add(name.partition("/")[0] if module else name)
    if runs_code(definition, listing):
        found.update(listing.code)
    weights = listing.find(definition.model_file) if definition.model_file else None
    data = [name for name in listing.names if weights and _belongs(name, weights)]
    folders = (*found, "ModelCharacteristics")
    inside = [name for name in listing.names if any(name.startswith(f"{folder}/") for folder in folders)]
    plain = [name for name in listing.names if name in found or name.casefold() == "model_metrics.html"]
    return tuple(dict.fromkeys([*plain, *inside, *data]))


def _belongs(name: str, weights: str) -> bool:
    """Whether a file holds data of the weights: their name and more, an ONNX file's tensors, a SavedModel's files."""
    folder, _, file = weights.rpartition("/")
    if file == "saved_model.pb":
        return name.startswith(f"{folder}/" if folder else ("variables/", "assets/", "fingerprint.pb"))
    if name.startswith((f"{weights}.", f"{weights}_")):
        return True
    is_beside = name.rpartition("/")[0] == folder
    return weights.endswith(".onnx") and is_beside and name.endswith((".data", ".bin", ".weight", ".weights"))


def runs_code(definition: ModelDefinition, listing: Listing) -> bool:
    """Whether using the model means, or may mean, running Python from its package."""
    if _runs_function(definition, listing) or _modules(definition):
        return True
    return bool(definition.get("ModelConfigurationFile")) and (
        str(definition.get("ModelName", "")) not in vocabulary.KNOWN_EXTENSIONS
    )


def is_code_optional(definition: ModelDefinition, listing: Listing) -> bool:
    """Whether the only code is that of a network which the engine has itself: Mask R-CNN for Keras.

    The engine reads its settings from the module without running it; see ``own_code`` of :mod:`.parameters`.
    """
    known = (definition.framework, definition.configuration) == vocabulary.KERAS_MASK_RCNN
    return known and bool(_modules(definition)) and not _runs_function(definition, listing)


def _runs_function(definition: ModelDefinition, listing: Listing) -> bool:
    function = definition.function_name
    if not function or definition.names_builtin_function or vocabulary.stand_in(function):
        return False
    known = (definition.framework, definition.configuration) in vocabulary.CONFIGURATIONS
    return not known or listing.find(definition.inference_function) is not None


def _modules(definition: ModelDefinition) -> Tuple[str, ...]:
    """Return the members of the configuration that name Python modules; in ours they name networks we build."""
    if definition.configuration == "DeepRaster":
        return ()
    return tuple(key for key in ("Architecture", "Config") if key in definition.configuration_members)


def check_references(definition: ModelDefinition, listing: Listing) -> Tuple[List[str], List[str]]:
    """Return (problems, warnings) on the paths of a definition."""
    problems: List[str] = []
    warnings: List[str] = []
    for key, raw, needed in _references(definition):
        fault = path_fault(raw)
        module = key.endswith(("Architecture", "Config"))
        found = listing.find_module(raw) if module else listing.find(raw)
        if fault:
            problems.append(f"{key}: the path “{clip(raw)}” {fault}, expected the name of a file of the package")
        elif found is None and needed:
            held = ", ".join(clip(name, 40) for name in listing.names[:8]) or "nothing else"
            problems.append(f"{key}: there is no file “{clip(raw)}” in the package, it holds {held}")
        elif found is None:
            warnings.append(f"{key}: the package holds no file “{clip(raw)}”.")
        elif is_absolute(raw):
            warnings.append(f"{key}: “{clip(raw)}” is a path of another computer; {clip(found)} is used.")
    return problems, warnings


def _references(definition: ModelDefinition) -> List[Tuple[str, str, bool]]:
    """Return (key, path, whether nothing works without it) for all paths of a definition."""
    found: List[Tuple[str, str, bool]] = []
    function = definition.function_name
    if function and not definition.names_builtin_function:
        known = (definition.framework, definition.configuration) in vocabulary.CONFIGURATIONS
        found.append(
            ("InferenceFunction", definition.inference_function, not known and not vocabulary.stand_in(function))
        )
    if definition.model_file and definition.model_file != ".":
        custom = bool(function) and not definition.names_builtin_function and not vocabulary.stand_in(function)
        found.append(("ModelFile", definition.model_file, not custom))
    found.extend(("ModelFiles", name, True) for name in definition.model_files)
    for key in _modules(definition):
        value = definition.configuration_members.get(key)
        if isinstance(value, str):
            found.append((f"ModelConfiguration.{key}", value, True))
    value = definition.get("ModelConfigurationFile")
    if isinstance(value, str):
        found.append(("ModelConfigurationFile", value, False))
    for key in ("ONNX", "TorchScript"):
        members = definition.get(key)
        if isinstance(members, dict):
            found.extend((f"{key}.{part}", name, False) for part, name in members.items() if isinstance(name, str))
    return found
