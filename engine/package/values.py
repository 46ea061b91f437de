"""Turn the members of a definition into typed values, collecting every finding instead of stopping at the first."""

from __future__ import annotations

import math
import re
from typing import Any, Dict, List, Optional

from .lenient import clip

MAX_INTEGER = 2**31

_PLACEHOLDER = re.compile(r"\s*(?:e\.g\.|some description\s*$)", re.IGNORECASE)
_TRUE = {"true", "1", "t", "y", "yes"}
_FALSE = {"false", "0", "f", "n", "no"}
_SLIPPED = {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", "\a": "\\a", "\v": "\\v"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Findings:
    """What was found while reading: ``problems`` forbid the use, ``warnings`` do not."""

    def __init__(self) -> None:
        self.problems: List[str] = []
        self.warnings: List[str] = []

    def problem(self, key: str, found: Any, expected: str) -> None:
        """Note a value that cannot be used."""
        self.problems.append(f"{key}: found {show(found)}, expected {expected}")

    def warn(self, sentence: str) -> None:
        """Note something that was understood but is not as it should be."""
        if len(self.warnings) < 100:
            self.warnings.append(sentence)


def show(value: Any) -> str:
    """Return a value as a message shows it: short, one line, texts in quotation marks."""
    if isinstance(value, str):
        return f"“{clip(value)}”"
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    return clip(value)


def is_placeholder(value: Any) -> bool:
    """Whether a text is an unfilled slot of the template that an export of training chips writes."""
    return isinstance(value, str) and bool(_PLACEHOLDER.match(value))


def without_placeholders(value: Any, findings: Findings, where: str = "") -> Any:
    """Return objects and lists (nested at most as deep as the parser allows) without members left unfilled."""
    if isinstance(value, dict):
        kept: Dict[str, Any] = {}
        for key, one in value.items():
            if is_placeholder(one):
                findings.warn(f"{where}{key} still holds the template's text {show(one)}; it is treated as missing.")
            else:
                kept[key] = without_placeholders(one, findings, f"{where}{key}.")
        return kept
    if isinstance(value, list):
        return [without_placeholders(one, findings, where) for one in value if not is_placeholder(one)]
    return value


def to_number(value: Any) -> Optional[float]:
    """Return a finite number from a number or a text that holds one, else None; booleans are no numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and len(value) <= 60:
        try:
            value = float(value.strip())
        except ValueError:
            return None
    if isinstance(value, (int, float)) and abs(value) < 1e300 and math.isfinite(value):
        return float(value)
    return None


def to_integer(value: Any, low: int, high: int) -> Optional[int]:
    """Return a whole number within ``low`` .. ``high`` from a number or text, else None."""
    number = to_number(value)
    if number is None or number != int(number) or not low <= number <= high:
        return None
    return int(number)


def to_flag(value: Any) -> Optional[bool]:
    """Return the boolean that true, 1, "True", "yes" and their likes mean, else None."""
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if isinstance(value, (int, float, str)) and text in _TRUE | _FALSE | {"1.0", "0.0"}:
        return text in _TRUE | {"1.0"}
    return None


def to_path(value: str) -> str:
    r"""Return a path as it was meant: ``".\tree.pb"`` read by JSON's rules has lost its backslash to a tab."""
    return _CONTROL.sub(lambda found: _SLIPPED.get(found.group(), ""), value).strip()


class Members:
    """Typed access to the members of one object; what was text but means a number is put right in place."""

    def __init__(self, members: Dict[str, Any], findings: Findings) -> None:
        self.members = members
        self.findings = findings

    def integer(self, key: str, low: int, high: int) -> Optional[int]:
        """Return a whole number or None if the key is missing; note a problem for anything else."""
        value = self.members.get(key)
        if value is None or value == "":
            return None
        number = to_integer(value, low, high)
        if number is None:
            self.findings.problem(key, value, f"a whole number from {low} to {high}")
        else:
            self.members[key] = number
        return number

    def number(self, key: str, low: float, high: float) -> Optional[float]:
        """Return a number or None if the key is missing; note a problem for anything else."""
        value = self.members.get(key)
        if value is None or value == "":
            return None
        number = to_number(value)
        if number is None or not low <= number <= high:
            self.findings.problem(key, value, f"a number from {low:g} to {high:g}")
            return None
        if isinstance(value, str):
            self.members[key] = number
        return number

    def flag(self, key: str) -> Optional[bool]:
        """Return a boolean or None if the key is missing; note a problem for anything else."""
        value = self.members.get(key)
        if value is None or value == "":
            return None
        flag = to_flag(value)
        if flag is None:
            self.findings.problem(key, value, "true or false (or 1 or 0)")
        return flag

    def text(self, key: str) -> str:
        """Return a text, empty if the key is missing; note a problem for anything but texts and numbers."""
        value = self.members.get(key)
        if value is None:
            return ""
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value).strip()
        self.findings.problem(key, value, "a text")
        return ""
