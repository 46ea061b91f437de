"""Open model packages safely: from an archive, a definition with its folder, or JSON text.

An archive is checked as a whole (:mod:`.archive`), its definition is read and its paths are looked up before a single
byte is unpacked. Then it is unpacked once into a cache named after its content (:mod:`.store`). Nothing of a package
runs here, and nothing is unpickled. The standard library alone is used.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional, Tuple, Union

from ..errors import DefinitionError, PackageError
from . import lenient
from .archive import Archive, Limits
from .emd import ModelDefinition, read_definition
from .lenient import clip
from .names import name_fault
from .references import Listing, check_references, is_absolute, is_code_optional, named_files, path_fault, runs_code
from .store import PackageFile, PackageStore, digest_of, hash_file

MAX_FOLDER_FILES = 4_096
_SKIPPED = ("__pycache__", "__macosx")
_ARCHIVES = (".dlpk", ".zip")


@dataclass(frozen=True)
class ModelPackage:
    """An opened package.

    Attributes:
        path: the archive or definition that was opened; for JSON text, the folder of its weights.
        definition: the model definition.
        folder: folder of the definition and its files (unpacked, for an archive); read only.
        digest: identity of the content, ``sha256:`` and 64 hexadecimal digits.
        files: all files, named as seen from ``folder``.
        warnings: what is unusual, as sentences.
        code: Python files that may run when the model is used; empty if it needs none of its own.
        code_is_optional: whether the engine can use the model without them, unless the package's own network is asked
            for.
    """

    path: Path
    definition: ModelDefinition
    folder: Path
    digest: str
    files: Tuple[PackageFile, ...]
    warnings: Tuple[str, ...] = ()
    code: Tuple[str, ...] = ()
    code_is_optional: bool = False
    code_allowed: bool = field(default=False, compare=False)
    _elsewhere: Mapping[str, Path] = field(default_factory=dict, repr=False)

    @property
    def has_code(self) -> bool:
        """Whether using the model means running Python of its package."""
        return bool(self.code) and not self.code_is_optional

    @property
    def name(self) -> str:
        """Name for people: that of the file without its suffix."""
        return self.path.stem

    def file(self, name: str) -> Path:
        """Return the path of a file or folder of the package by the name its definition uses.

        Raises:
            PackageError: there is none; the name is looked up in the list of files and never joined.
        """
        found = Listing([one.name for one in self.files]).find(name)
        if found is None:
            raise PackageError(
                f"The package holds no file “{clip(name)}”.",
                stage="reading the package",
                file=str(self.path),
                hint="Check the paths in its model definition.",
            )
        return self._elsewhere.get(found) or self.folder.joinpath(*found.split("/"))

    def read(self, name: str) -> bytes:
        """Return a file's bytes after comparing them with the hash under which the package was opened.

        Raises:
            PackageError: there is no such file, or it was changed since.
        """
        path = self.file(name)
        wanted = {one.sha256 for one in self.files if self._path(one.name) == path}
        if hash_file(path) not in wanted:
            raise PackageError(f"The file “{clip(name)}” was changed while it was in use.", file=str(self.path))
        return path.read_bytes()

    def _path(self, name: str) -> Path:
        return self._elsewhere.get(name) or self.folder.joinpath(*name.split("/"))


def open_package(
    path: Union[str, Path], cache: Optional[Path] = None, limits: Optional[Limits] = None, digest: str = ""
) -> ModelPackage:
    """Open a package.

    Args:
        path: a ``.dlpk`` or ``.zip``, an ``.emd`` with its files beside it, or the definition's JSON text.
        cache: folder of unpacked packages; default :func:`..caches.package_cache`.
        limits: bounds on the archive.
        digest: identity of an archive that was unpacked before and whose copy is to be used as it is; for a worker
            that runs what was consented to and may not write the cache.

    Raises:
        PackageError: the archive is broken, hostile or incomplete; DefinitionError: its definition cannot be used;
        OutputError: the cache cannot be written.
    """
    store = PackageStore(cache)
    if isinstance(path, str) and lenient.is_object_text(path):
        return _open_text(path, store)
    try:
        place = Path(path)
        if place.is_dir():
            place = _definition_in(place)
        if not place.is_file():
            raise PackageError(
                f"There is no model package “{clip(path)}”.", file=clip(path, 300), hint="Check the path."
            )
        packed = is_archive(place)
    except (OSError, ValueError) as error:
        if isinstance(error, (PackageError, DefinitionError)):
            raise
        reason = clip(getattr(error, "strerror", None) or error)
        raise PackageError(f"The package “{clip(path)}” cannot be opened: {reason}.") from error
    if packed:
        return _open_archive(place, store, limits, digest)
    return _open_folder(place, store)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its content, or calls itself one."""
    if path.suffix.casefold() in _ARCHIVES:
        return True
    if path.suffix.casefold() == ".emd" or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _definition_in(folder: Path) -> Path:
    found = sorted(one for one in folder.iterdir() if one.suffix.casefold() == ".emd" and one.is_file())
    if len(found) != 1:
        names = ", ".join(clip(one.name) for one in found[:5]) or "none"
        raise PackageError(
            f"The folder should hold exactly one model definition (.emd), found {names}.",
            file=str(folder),
            hint="Name the .emd itself.",
        )
    return found[0]


def _open_archive(path: Path, store: PackageStore, limits: Optional[Limits], digest: str) -> ModelPackage:
    known = digest or store.recall(path)
    found = store.find(known) if known else None
    if digest and found is None:
        raise PackageError(
            "The unpacked copy of the package has gone from the cache.",
            stage="opening the package",
            file=str(path),
            hint="Start the job again.",
        )
    if found is not None:
        folder, files = found
        name, warnings = choose_definition([one.name for one in files], path)
        definition = _read(folder / name, path)
        return _package(path, definition, name, folder, files, known, warnings)
    with Archive(path, limits) as archive:
        names = [one.name for one in archive.entries]
        name, warnings = choose_definition(names, path)
        definition = definition_of(archive, name, path)
        _checked(definition, Listing(names, _prefix(name)), path)
        if archive.total > store.free_bytes():
            raise PackageError(
                f"The package takes {archive.total} bytes unpacked, more than the disk of the cache has left.",
                stage="unpacking",
                file=str(path),
                hint="Free some space, or name another folder in the variable DEEP_RASTER_CACHE.",
            )
        folder, files, digest = store.add((one.name, archive.stream(one)) for one in archive.entries)
    store.remember(path, digest)
    return _package(path, definition, name, folder, files, digest, warnings)


def _prefix(name: str) -> str:
    return name[: name.rfind("/") + 1]


def choose_definition(names: List[str], path: Path) -> Tuple[str, Tuple[str, ...]]:
    """Return the entry that holds the definition: exactly one at the root, or, with a warning, one folder down."""
    found = [name for name in names if name.casefold().endswith(".emd") and not _is_litter(name)]
    root = [name for name in found if "/" not in name]
    if len(root) == 1:
        return root[0], ()
    deeper = [name for name in found if name.count("/") == 1]
    if not root and len(deeper) == 1:
        return deeper[0], (
            f"The package was zipped together with its folder; {clip(deeper[0])} should lie at the root.",
        )
    listed = ", ".join(clip(name) for name in (root or deeper or found)[:5])
    what = f"{len(root or deeper)} model definitions ({listed})" if root or deeper else "no model definition (.emd)"
    raise PackageError(
        f"The package holds {what}; exactly one is expected at its root.",
        stage="checking the package",
        file=str(path),
        hint="Pack one .emd together with the files it names, without a folder around them.",
    )


def _is_litter(name: str) -> bool:
    """Whether an entry is what macOS leaves beside the real files."""
    return name.casefold().startswith("__macosx/") or name.rpartition("/")[2].startswith("._")


def definition_of(archive: Archive, name: str, path: Path) -> ModelDefinition:
    """Return the definition in the entry ``name``; ``path`` is for messages."""
    entry = next(one for one in archive.entries if one.name == name)
    if entry.size > lenient.MAX_BYTES:
        raise DefinitionError(
            f"The model definition holds {entry.size} bytes, more than a definition ever needs.", file=str(path)
        )
    return _read(b"".join(archive.stream(entry)), path)


def _read(source: Union[bytes, Path], path: Path) -> ModelDefinition:
    try:
        return read_definition(source)
    except DefinitionError as error:
        error.file, error.stage = str(path), "reading the model definition"
        raise


def _checked(definition: ModelDefinition, listing: Listing, path: Path) -> Tuple[str, ...]:
    problems, warnings = check_references(definition, listing)
    if problems:
        raise PackageError(
            f"The package is refused: {'; '.join(problems)}.",
            stage="checking the package",
            file=str(path),
            hint="Put the missing files beside the model definition, or correct its paths.",
        )
    return tuple(warnings)


def _package(
    path: Path,
    definition: ModelDefinition,
    name: str,
    folder: Path,
    files: Tuple[PackageFile, ...],
    digest: str,
    warnings: Tuple[str, ...],
    elsewhere: Optional[Mapping[str, Path]] = None,
) -> ModelPackage:
    prefix = _prefix(name)
    inside = tuple(
        PackageFile(one.name[len(prefix) :], one.size, one.sha256) for one in files if one.name.startswith(prefix)
    )
    listing = Listing([one.name for one in inside])
    warnings = warnings + definition.warnings + _checked(definition, listing, path)
    code = listing.code if runs_code(definition, listing) else ()
    place = folder.joinpath(*prefix.rstrip("/").split("/")) if prefix else folder
    optional = bool(code) and is_code_optional(definition, listing)
    return ModelPackage(path, definition, place, digest, inside, warnings, code, optional, _elsewhere=elsewhere or {})


def _open_folder(path: Path, store: PackageStore) -> ModelPackage:
    """Open a definition on disk.

    Its package is what it names, so that a result written into the same folder does not make it another package; code
    of its own could open anything, so with code it is all that lies beside and below.
    """
    definition = _read(path, path)
    paths, warnings = _walk(path)
    elsewhere = _absolute_files(definition, paths)
    listing = Listing([*paths, *elsewhere])
    if not runs_code(definition, listing):
        named = {path.name, *named_files(definition, Listing(list(paths)))}
        paths = {name: one for name, one in paths.items() if name in named}
    if len(paths) > MAX_FOLDER_FILES or sum(one.stat().st_size for one in paths.values()) > Limits().total:
        raise PackageError(
            "The folder of the model definition holds too many files to tell what belongs to the model.",
            file=str(path.parent),
            hint="Put the definition and its files into a folder of their own.",
        )
    try:
        files = store.hashes({**paths, **elsewhere})
    except OSError as error:
        raise PackageError(
            f"A file of the package cannot be read: {error.strerror or error}.", file=str(path)
        ) from error
    return _package(path, definition, path.name, path.parent, files, digest_of(files), warnings, elsewhere)


def _walk(definition: Path) -> Tuple[Dict[str, Path], Tuple[str, ...]]:
    """Return the regular files beside and below a definition, other packages and definitions left out."""
    found: Dict[str, Path] = {}
    warnings: List[str] = []
    for name, path in _files_below(definition.parent, "", 0):
        if path.is_symlink() or not path.is_file():
            warnings.append(f"{clip(name)} is a link or a device and is left out.")
        elif name_fault(name):
            warnings.append(f"The name {clip(name)} {name_fault(name)}; the file is left out.")
        elif path == definition or path.suffix.casefold() not in (*_ARCHIVES, ".emd"):
            found[name] = path
        if len(found) > MAX_FOLDER_FILES:
            break
    return found, tuple(warnings[:20])


def _files_below(folder: Path, prefix: str, depth: int) -> Iterator[Tuple[str, Path]]:
    with os.scandir(folder) as listed:
        entries = sorted(listed, key=lambda one: one.name)
    for one in entries:
        if one.name.startswith(".") or one.name.casefold() in _SKIPPED:
            continue
        if one.is_dir(follow_symlinks=False):
            if depth < 12:
                yield from _files_below(Path(one.path), f"{prefix}{one.name}/", depth + 1)
        else:
            yield prefix + one.name, Path(one.path)


def _absolute_files(definition: ModelDefinition, beside: Mapping[str, Path]) -> Dict[str, Path]:
    """Return weights that a definition on this computer names by an absolute path, unless they lie beside it."""
    raw = definition.model_file
    if not raw or not is_absolute(raw) or path_fault(raw) or Listing(beside).find(raw):
        return {}
    path = Path(raw)
    if not path.is_absolute() or name_fault(path.name):
        return {}
    if path.is_dir():
        below = _files_below(path, f"{path.name}/", 0)
        return {name: one for name, one in below if one.is_file() and not one.is_symlink() and not name_fault(name)}
    return {path.name: path} if path.is_file() else {}


def _open_text(text: str, store: PackageStore) -> ModelPackage:
    """Open a definition given as text: it has no folder, so its weights must be named by an absolute path."""
    definition = read_definition(text)
    elsewhere = _absolute_files(definition, {})
    if not elsewhere:
        raise PackageError(
            "A model definition given as text has no folder, so its ModelFile must be the absolute path of a file on "
            f"this computer; it is “{clip(definition.model_file)}”.",
            hint="Give the path of the .emd or .dlpk instead.",
        )
    if runs_code(definition, Listing(elsewhere)):
        raise PackageError(
            "A model definition given as text cannot bring its own Python code.",
            hint="Give the path of the .emd or .dlpk instead.",
        )
    files = store.hashes(elsewhere)
    identity = digest_of([*files, PackageFile("definition", len(text), _hash_text(text))])
    folder = Path(definition.model_file).parent
    return _package(folder, definition, "definition", folder, files, identity, (), elsewhere)


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
