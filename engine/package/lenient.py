"""Read JSON as model definitions really contain it: with marks, slips and stray tokens, but never without bounds.

Hand-edited and official definitions miss commas, carry trailing ones, write Windows paths with single backslashes,
start with a byte order mark or hold Python's NaN. The parser accepts these, tells what it mended, and refuses what
would be dangerous or guesswork: too large, too deep, too many values, numbers without end, unclosed brackets.
It is iterative, so that no nesting exhausts the stack. The standard library alone is used.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Match, Tuple

from ..errors import DefinitionError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 500_000
MAX_DIGITS = 40

_SPACE = re.compile(r"(?:[\s\ufeff]+|//[^\n]*|/\*.*?\*/|#[^\n]*)*", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORD = re.compile(r"[+-]?[A-Za-z_]+")
_WORDS: Dict[str, Any] = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_NOT_FINITE = {"NaN", "nan", "Infinity", "-Infinity", "+Infinity", "inf", "-inf", "-NaN", "Inf", "-Inf"}
_LEGAL_ESCAPE = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ANY_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True)
class Parsed:
    """A JSON value and the sentences that tell what was mended to read it."""

    value: Any
    mended: Tuple[str, ...]


def decode(data: bytes) -> Tuple[str, Tuple[str, ...]]:
    """Return the text of a definition's bytes in any Unicode encoding, and what is worth telling about it.

    Raises:
        DefinitionError: the bytes are too many.
    """
    if len(data) > MAX_BYTES:
        raise DefinitionError(
            f"The model definition holds {len(data)} bytes, which is more than a definition ever needs "
            f"({MAX_BYTES} at most).",
            problems=(f"size: found {len(data)} bytes, expected at most {MAX_BYTES}",),
        )
    if data.startswith(codecs.BOM_UTF8):
        return data.decode("utf-8-sig", errors="replace"), ("The definition starts with a byte order mark.",)
    name = json.detect_encoding(data)
    try:
        text = data.decode(name)
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        return text, ("The definition is not UTF-8 text; it was read as Windows-1252.",)
    notes = () if name.startswith("utf-8") else (f"The definition is {name.upper()} text instead of UTF-8.",)
    return text.lstrip("\ufeff"), notes


def is_object_text(text: str) -> bool:
    """Whether a text is a JSON object (after marks, blanks and comments) rather than a path."""
    start = _SPACE.match(text)
    return text[start.end() if start else 0 :][:1] == "{"


def parse(text: str) -> Parsed:
    """Parse one JSON value.

    Not-a-number and infinite values become None, because strict JSON has no word for them.

    Raises:
        DefinitionError: the text is not JSON even with good will, or exceeds a bound.
    """
    if len(text) > MAX_BYTES:
        raise DefinitionError(f"The model definition is longer than {MAX_BYTES} characters.")
    return _Parser(text).run()


class _Parser:
    """One pass over the text with an explicit stack of open objects and lists."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.mended: List[str] = []
        self.values = 0

    def run(self) -> Parsed:
        stack: List[Tuple[Any, str]] = []  # (container, key under which it hangs in its parent)
        value, opened = self._value()
        if opened:
            stack.append((value, ""))
        root = value
        while stack:
            container, _ = stack[-1]
            mark = self._peek()
            closing = "}" if isinstance(container, dict) else "]"
            if mark == closing:
                self.position += 1
                stack.pop()
                self._after_value(stack)
                continue
            key = self._key(container) if isinstance(container, dict) else ""
            value, opened = self._value()
            self._store(container, key, value)
            if opened:
                if len(stack) >= MAX_DEPTH:
                    raise self._fault(f"at most {MAX_DEPTH} levels of brackets", "more")
                stack.append((value, key))
            else:
                self._after_value(stack)
        if self._peek():
            raise self._fault("nothing after the definition's end")
        return Parsed(root, tuple(self.mended))

    def _after_value(self, stack: List[Tuple[Any, str]]) -> None:
        """Pass the comma that must follow unless the container ends here; mend a missing or superfluous one."""
        if not stack:
            return
        closing = "}" if isinstance(stack[-1][0], dict) else "]"
        mark = self._peek()
        commas = 0
        while mark == ",":
            commas += 1
            self.position += 1
            mark = self._peek()
        if mark == closing and commas:
            self._mend("a comma too many before a closing bracket")
        elif commas > 1:
            self._mend("a comma too many")
        elif mark not in ("", closing) and not commas:
            self._mend("a missing comma")

    def _key(self, container: Dict[str, Any]) -> str:
        if self._peek() != '"':
            raise self._fault("a name in double quotes")
        key = self._string()
        if self._peek() != ":":
            raise self._fault("a colon")
        self.position += 1
        return key

    def _store(self, container: Any, key: str, value: Any) -> None:
        if isinstance(container, list):
            container.append(value)
            return
        if key in container and container[key] != value:
            raise self._fault(f"each name once (“{clip(key)}” is given twice with different values)", "")
        container[key] = value

    def _value(self) -> Tuple[Any, bool]:
        """Return the next value and whether it is a container that was only opened."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise self._fault(f"at most {MAX_VALUES} values", "more")
        mark = self._peek()
        if mark == "{":
            self.position += 1
            return {}, True
        if mark == "[":
            self.position += 1
            return [], True
        if mark == '"':
            return self._string(), False
        match = _NUMBER.match(self.text, self.position)
        if match:
            return self._number(match), False
        match = _WORD.match(self.text, self.position)
        if match and match.group() in _WORDS:
            if match.group()[0].isupper():
                self._mend(f"Python's {match.group()}")
            self.position = match.end()
            return _WORDS[match.group()], False
        if match and match.group() in _NOT_FINITE:
            self._mend(f"{match.group()}, which is read as null")
            self.position = match.end()
            return None, False
        raise self._fault("a value")

    def _number(self, match: Match[str]) -> Any:
        text = match.group()
        self.position = match.end()
        if any(one in text for one in ".eE"):
            number = float(text)
            if not math.isfinite(number):
                self._mend("a number without end, which is read as null")
                return None
            return number
        if len(text) > MAX_DIGITS:
            raise self._fault(f"numbers of at most {MAX_DIGITS} digits", clip(text))
        return int(text)

    def _string(self) -> str:
        match = _STRING.match(self.text, self.position)
        if match is None:
            raise self._fault("a closing double quote", "the end of the text")
        raw = match.group()[1:-1]
        if "\\" in raw:
            raw = self._unescape(raw)
        self.position = match.end()
        return _SURROGATE.sub("\ufffd", raw)

    def _unescape(self, raw: str) -> str:
        """Undo escapes; if one is illegal, the author meant every lone backslash as such (a Windows path)."""
        if "\\" not in _LEGAL_ESCAPE.sub("", raw):
            return str(json.loads(f'"{raw}"', strict=False))
        self._mend(f"single backslashes in “{clip(raw)}”")
        return _ANY_ESCAPE.sub(lambda found: found.group(1) if found.group(1) in '\\"/' else found.group(), raw)

    def _peek(self) -> str:
        match = _SPACE.match(self.text, self.position)
        if match:
            self.position = match.end()
        return self.text[self.position : self.position + 1]

    def _line(self) -> int:
        return self.text.count("\n", 0, self.position) + 1

    def _mend(self, what: str) -> None:
        if len(self.mended) < 50:
            self.mended.append(f"Line {self._line()}: {what}.")

    def _fault(self, expected: str, found: str = "?") -> DefinitionError:
        if found == "?":
            found = clip(self.text[self.position : self.position + 20]) or "the end of the text"
        place = f"line {self._line()}"
        detail = f"{place}: expected {expected}" + (f", found “{found}”" if found else "")
        return DefinitionError(
            f"The model definition is not valid JSON, {detail}.",
            problems=(detail,),
            hint="Check that place with a text editor; a download that stopped early looks like this as well.",
        )


def clip(text: object, length: int = 60) -> str:
    """Return ``text`` in one line, shortened, without control characters: fit for a message."""
    flat = "".join(one if one.isprintable() else " " for one in str(text)[: length * 4])
    flat = " ".join(flat.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"
