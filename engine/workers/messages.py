"""What a worker may say to the engine, checked before anything else looks at it.

Workers run foreign code and parse foreign files, so whatever comes from one is taken as hostile: a message of another
shape ends that worker and nothing else.
"""

from __future__ import annotations

import math
from typing import Any, Dict

from .frames import FrameError

# A line of a log that is longer is no line; whole arrays are printed by mistake, not for people.
MAX_TEXT = 20_000
_NUMBER = (int, float)
_EVENTS: Dict[str, Dict[str, Any]] = {
    "progress": {"fraction": _NUMBER, "text": str},
    "log": {"level": str, "text": str},
    "metric": {"name": str, "value": _NUMBER, "step": int},
}


def check(message: Dict[str, Any]) -> Dict[str, Any]:
    """Return a message of a worker if it is one that a worker may send; its texts are cut to a readable length.

    Raises:
        FrameError: it is not.
    """
    if "hello" in message:
        _require(isinstance(message["hello"], dict), "a greeting")
        return message
    _require(type(message.get("id")) is int, "an answer without the number of its task")
    if "event" in message:
        _check_event(message)
    elif "receipt" in message:
        _require(isinstance(message["receipt"], dict), "a receipt")
    elif "error" in message:
        members = message["error"]
        _require(isinstance(members, dict) and all(isinstance(one, str) for one in members.values()), "an error")
    else:
        _require(isinstance(message.get("crash"), str), "an answer")
    for name in ("text", "crash", "traceback"):
        if isinstance(message.get(name), str):
            message[name] = printable(message[name])
    return message


def printable(text: str) -> str:
    """Return a text that can be written to any file, cut to :data:`MAX_TEXT` characters."""
    if len(text) > MAX_TEXT:
        text = f"{text[:MAX_TEXT]} … ({len(text):,} characters)"
    return text.encode("utf-8", "replace").decode("utf-8")


def _check_event(message: Dict[str, Any]) -> None:
    kind = message["event"]
    _require(isinstance(kind, str) and kind in _EVENTS, "an event")
    members = _EVENTS[kind]
    for name, wanted in members.items():
        if name in message:
            _require(isinstance(message[name], wanted) and not isinstance(message[name], bool), f"the {name} of {kind}")
    if kind == "progress":
        _require("fraction" in message and math.isfinite(message["fraction"]), "the fraction of progress")
    else:
        _require(all(name in message for name in members if name != "step"), f"the members of {kind}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise FrameError(f"What should be {what} is something else.")
