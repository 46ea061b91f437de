"""The errors of the engine: one root, few children, each message a sentence that a GIS person can act on."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Type


class DeepRasterError(Exception):
    """Root of all errors that the engine raises on purpose.

    Args:
        message: what failed, as a sentence.
        stage: the step of the job at which it failed ("reading", "loading the model", ...).
        file: the file or URL concerned, without credentials.
        hint: what to do next, as a sentence.
    """

    def __init__(self, message: str, *, stage: str = "", file: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.stage = stage
        self.file = str(file)
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.file and self.file not in self.message:
            parts.append(f"File: {self.file}.")
        if self.hint:
            parts.append(self.hint)
        return " ".join(parts)

    def to_dict(self) -> Dict[str, Any]:
        """Return the error as JSON-ready members; :func:`from_dict` is the inverse."""
        return {
            "kind": type(self).__name__,
            "message": self.message,
            "stage": self.stage,
            "file": self.file,
            "hint": self.hint,
        }


class JobError(DeepRasterError, ValueError):
    """A job asks for something that cannot be done: a missing, unknown or contradictory parameter."""


class DefinitionError(DeepRasterError, ValueError):
    """A model definition (.emd) cannot be used; ``problems`` lists every finding, not only the first."""

    def __init__(self, message: str, *, problems: Sequence[str] = (), **where: str) -> None:
        super().__init__(message, **where)
        self.problems = tuple(problems)


class PackageError(DeepRasterError):
    """A model package (.dlpk) is broken, hostile or incomplete."""


class TrustError(DeepRasterError):
    """A package wants to run its own code and nobody has allowed it."""


class RasterError(DeepRasterError, OSError):
    """A raster cannot be opened, read or written."""


class SourceLostError(RasterError):
    """A raster is gone, refused by its server, or was replaced while it was read: no other tile of it can be had."""


class VectorError(DeepRasterError, OSError):
    """A vector layer cannot be opened, read or written."""


class ChipError(DeepRasterError):
    """A folder of training chips is broken or cannot be used for what is asked."""


class ModelError(DeepRasterError):
    """A network cannot be built, its weights do not fit, or its prediction fails."""


class MissingFrameworkError(ModelError):
    """The environment lacks the framework that the model needs."""


class TrainingError(DeepRasterError):
    """Training cannot start or go on."""


class OutputError(DeepRasterError, OSError):
    """An output cannot be written: no space, no rights, or it is in use."""


class WorkerError(DeepRasterError):
    """Worker processes died or hung more often than the job can bear."""


class EnvironmentFault(DeepRasterError):
    """The engine's Python environment is missing, broken or too old."""


class JobCancelled(DeepRasterError):
    """The user asked for the job to stop."""


def _kinds(root: Type[DeepRasterError]) -> Dict[str, Type[DeepRasterError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found.update(_kinds(child))
    return found


def from_dict(members: Dict[str, Any]) -> DeepRasterError:
    """Rebuild an error from :meth:`DeepRasterError.to_dict`; an unknown kind becomes the root class."""
    kind = _kinds(DeepRasterError).get(str(members.get("kind", "")), DeepRasterError)
    return kind(
        str(members.get("message", "")),
        stage=str(members.get("stage", "")),
        file=str(members.get("file", "")),
        hint=str(members.get("hint", "")),
    )
