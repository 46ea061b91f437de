"""What a running job tells: small frozen values that cross pipes as one JSON object a line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Dict, Optional, Type, Union

DEBUG, INFO, WARNING, ERROR = "debug", "info", "warning", "error"


@dataclass(frozen=True)
class Hello:
    """First event of an engine: who answers, so that both sides can refuse to misunderstand each other."""

    protocol: int
    version: str
    python: str
    pid: int
    packages: Dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """How far the job is: ``fraction`` in 0..1, never falling; ``text`` names the step for a person."""

    fraction: float
    text: str = ""


@dataclass(frozen=True)
class Log:
    """A line for the log; ``level`` is one of debug, info, warning, error."""

    level: str
    text: str


@dataclass(frozen=True)
class Metric:
    """A figure of training or evaluation: ``value`` of ``name`` at ``step`` (an epoch, counted from 1)."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Result:
    """The job is done; ``values`` are its named outputs (paths, counts, figures)."""

    values: Dict[str, Any]


@dataclass(frozen=True)
class Failure:
    """The job failed. ``kind`` names a class of :mod:`errors`; ``traceback`` is for the log, never for a dialog."""

    kind: str
    message: str
    stage: str = ""
    file: str = ""
    hint: str = ""
    traceback: str = ""


@dataclass(frozen=True)
class Cancelled:
    """The job stopped because it was asked to; ``resumable`` says whether starting it again goes on."""

    resumable: bool = False


Event = Union[Hello, Progress, Log, Metric, Result, Failure, Cancelled]

_TYPES: Dict[str, Type[Any]] = {
    "hello": Hello,
    "progress": Progress,
    "log": Log,
    "metric": Metric,
    "result": Result,
    "failure": Failure,
    "cancelled": Cancelled,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}


def to_dict(event: Event) -> Dict[str, Any]:
    """Return the event as a JSON-ready object with its type under ``event``."""
    return {"event": _NAMES[type(event)], **asdict(event)}


def from_dict(members: Dict[str, Any]) -> Optional[Event]:
    """Return the event of a JSON object, or None for a type this version does not know."""
    kind = _TYPES.get(str(members.get("event", "")))
    if kind is None:
        return None
    known = {name: members[name] for name in kind.__dataclass_fields__ if name in members}
    event: Event = kind(**known)
    return event


def to_line(event: Event, **extra: Any) -> str:
    """Return the event as one line of strict JSON (no newline inside), with ``extra`` members such as the job's id."""
    return json.dumps({**to_dict(event), **extra}, ensure_ascii=False, separators=(",", ":"))
