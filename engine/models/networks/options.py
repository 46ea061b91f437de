"""Options of an architecture: typed, with defaults and limits, from model arguments and from a configuration.

In arguments an option is called ``head_convs``, in the configuration of a definition ``HeadConvs``. Standard library
only, so that a dialog can list them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence, Tuple, Union

from ...errors import JobError, ModelError

Value = Union[int, float, bool, str, Tuple[float, ...], None]


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        name: as it is written in arguments.
        kind: "int", "float", "bool", "choice" or "numbers" (a list; ``None`` stands for automatic).
        default: the value that is used if nobody says otherwise.
        low, high: limits of numbers, both allowed.
        choices: of a choice.
        about: one line for a person.
    """

    name: str
    kind: str
    default: Value
    about: str
    low: float = -math.inf
    high: float = math.inf
    choices: Tuple[str, ...] = ()

    @property
    def member(self) -> str:
        """The spelling in a configuration."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    def read(self, given: object) -> Value:
        """Turn text or a JSON value into the option's value.

        Raises:
            ValueError: it is no such value, or beyond the limits; the text says which is expected.
        """
        if self.kind == "bool":
            return _flag(given)
        if self.kind == "choice":
            word = str(given).strip().lower()
            if word not in self.choices:
                raise ValueError(f"one of {', '.join(self.choices)} is expected")
            return word
        if self.kind == "numbers":
            return self._numbers(given)
        return self._number(given)

    def _number(self, given: object) -> Union[int, float]:
        try:
            value = float(str(given).strip())
        except ValueError as error:
            raise ValueError("a number is expected") from error
        if not self.low <= value <= self.high:
            raise ValueError(f"a number from {self.low:g} to {self.high:g} is expected")
        if self.kind == "int":
            if value != int(value):
                raise ValueError("a whole number is expected")
            return int(value)
        return value

    def _numbers(self, given: object) -> Optional[Tuple[float, ...]]:
        if given is None or (isinstance(given, str) and given.strip().lower() in ("", "auto", "none")):
            return None
        parts: Sequence[object] = given.strip("[]() ").split(",") if isinstance(given, str) else _as_list(given)
        values = tuple(float(self._number(part)) for part in parts)
        if not values:
            raise ValueError("at least one number is expected")
        return values


def _as_list(given: object) -> Sequence[object]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _flag(given: object) -> bool:
    if isinstance(given, bool):
        return given
    word = str(given).strip().lower()
    if word in ("true", "1", "yes", "on"):
        return True
    if word in ("false", "0", "no", "off"):
        return False
    raise ValueError("true or false is expected")


def from_configuration(options: Sequence[Option], configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option's value; members that are absent take the default.

    Raises:
        ModelError: a member has an impossible value.
    """
    values: dict[str, Any] = {}
    for option in options:
        given = configuration.get(option.member, option.default)
        try:
            values[option.name] = option.default if given is None else option.read(given)
        except ValueError as error:
            raise ModelError(
                f"'{option.member}' in ModelConfiguration is {given!r}: {error}.", stage="building the network"
            ) from error
    return values


def from_arguments(options: Sequence[Option], arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return every option's value; names are compared without regard to case.

    Raises:
        JobError: a name is unknown (the known ones are listed), or a value is impossible.
    """
    known = {option.name: option for option in options}
    values: dict[str, Any] = {option.name: option.default for option in options}
    for name, given in arguments.items():
        option = known.get(name.strip().lower())
        if option is None:
            raise JobError(
                f"There is no argument '{name}' for this model type.",
                stage="checking the arguments",
                hint=f"Known are: {', '.join(sorted(known))}.",
            )
        try:
            values[option.name] = option.read(given)
        except ValueError as error:
            raise JobError(f"The argument '{name}' is {given!r}: {error}.", stage="checking the arguments") from error
    return values


def to_members(options: Sequence[Option], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a configuration for the options' values, JSON-ready."""
    members: dict[str, Any] = {}
    for option in options:
        value = values[option.name]
        if value is not None:
            members[option.member] = list(value) if isinstance(value, tuple) else value
    return members
