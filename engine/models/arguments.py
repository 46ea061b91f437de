"""Model arguments as adapters read them: text that was checked against the declared parameters, turned into values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Optional

from ..errors import JobError


@dataclass(frozen=True)
class Arguments:
    """Typed access to resolved model arguments (name to text)."""

    given: Mapping[str, str]

    def number(self, name: str, default: float, low: float = 0.0, high: float = float("inf")) -> float:
        """Return a number between ``low`` and ``high``."""
        text = self._text(name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError as error:
            raise self._wrong(name, text, "a number") from error
        if not low <= value <= high:
            raise self._wrong(name, text, f"a number from {low:g} to {high:g}")
        return value

    def integer(self, name: str, default: int, low: int = 0) -> int:
        """Return a whole number of at least ``low``."""
        value = self.number(name, default, low)
        if value != int(value):
            raise self._wrong(name, str(value), "a whole number")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return a truth value."""
        text = self._text(name)
        if text is None:
            return default
        known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if text.lower() not in known:
            raise self._wrong(name, text, "true or false")
        return known[text.lower()]

    def numbers(self, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """Return numbers separated by commas."""
        text = self._text(name)
        if text is None:
            return default
        try:
            return tuple(float(part) for part in text.strip("[]()").split(",") if part.strip())
        except ValueError as error:
            raise self._wrong(name, text, "numbers separated by commas") from error

    def _text(self, name: str) -> Optional[str]:
        text = self.given.get(name)
        return None if text is None or not str(text).strip() else str(text).strip()

    def _wrong(self, name: str, text: str, wanted: str) -> JobError:
        return JobError(f"The model argument {name} is '{text}', but it must be {wanted}.", stage="loading the model")
