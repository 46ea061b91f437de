"""Class schemas: the list of classes that objects are labelled with, read from whatever people keep them in.

JSON of any shape (``.ecs``, ``.ecd``, ``.emd``, ``.json``) is searched for lists of classes, CSV for its columns, QGIS
styles (``.qml``) for their categories or palette. The standard library alone is used; nothing in a file is expanded
or run.
"""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from ..errors import DefinitionError
from . import lenient
from .reading import ClassInfo, Color
from .values import to_integer, to_number

NAME_KEYS = ("classname", "name", "label", "class", "category")
VALUE_KEYS = ("classvalue", "value", "code", "id")
MAX_VALUE = 2**31 - 1


def read_schema(path: Union[str, Path]) -> Tuple[ClassInfo, ...]:
    """Return the classes of a schema file in its order; classes without a colour keep None.

    Raises:
        DefinitionError: the file cannot be read, or holds no classes.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(lenient.MAX_BYTES + 1)
    except OSError as error:
        raise DefinitionError(
            f"The class schema cannot be read: {error.strerror or error}.", file=str(path), hint="Check the path."
        ) from error
    text, _notes = lenient.decode(data)
    if path.suffix.lower() == ".qml" or text.lstrip().startswith("<"):
        found = _from_style(text)
    elif path.suffix.lower() in (".csv", ".txt"):
        found = _from_table(text)
    else:
        found = _from_json(text, path)
    classes = _numbered(found)
    if not classes:
        raise DefinitionError(
            "The class schema holds no classes.",
            file=str(path),
            hint="Each class needs a name and a whole number, such as ClassName and ClassValue.",
        )
    return classes


Entry = Tuple[Any, str, Optional[Color]]  # value as written, name, colour


def _numbered(entries: Sequence[Entry]) -> Tuple[ClassInfo, ...]:
    """Return classes with whole numbers; entries whose value is no number are numbered from 1 in their order.

    Raises:
        DefinitionError: a value is given to two classes.
    """
    values = [to_integer(value, -MAX_VALUE, MAX_VALUE) for value, _name, _color in entries]
    if any(value is None for value in values):
        values = list(range(1, len(entries) + 1))
    classes: List[ClassInfo] = []
    seen: Dict[int, str] = {}
    for value, (_raw, name, color) in zip(values, entries):
        if value is None:
            continue
        if value in seen and seen[value] != name:
            raise DefinitionError(f"The class schema gives the value {value} to “{seen[value]}” and to “{name}”.")
        if value not in seen:
            classes.append(ClassInfo(value, lenient.clip(name, 250), color))
        seen[value] = name
    return tuple(classes)


# --- JSON ----------------------------------------------------------------------------------------------------------


def _from_json(text: str, path: Path) -> List[Entry]:
    try:
        value = lenient.parse(text).value
    except DefinitionError as error:
        error.file = error.file or str(path)
        raise
    return _search(value)


def _search(value: Any) -> List[Entry]:
    """Return the classes of the first list of classes in a JSON value, wherever it is."""
    if isinstance(value, list):
        entries = [one for one in (_entry(item) for item in value) if one is not None]
        if entries and len(entries) == len(value):
            return entries
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        found = _search(child) if isinstance(child, (dict, list)) else []
        if found:
            return found
    return []


def _entry(item: Any) -> Optional[Entry]:
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("attributes"), dict):  # Esri JSON features
        item = item["attributes"]
    members = {str(key).casefold(): value for key, value in item.items()}
    name = _first(members, NAME_KEYS)
    value = _first(members, VALUE_KEYS)
    if name is None or value is None or isinstance(name, (dict, list)) or isinstance(value, (dict, list)):
        return None
    return value, str(name).strip(), _color_of(members)


def _first(members: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((members[key] for key in keys if members.get(key) not in (None, "")), None)


def _color_of(members: Mapping[str, Any]) -> Optional[Color]:
    parts = [members.get(key) for key in ("red", "green", "blue")]
    if all(part is not None for part in parts):
        return _rgb(parts)
    return parse_color(members.get("color", members.get("colour")))


def parse_color(value: Any) -> Optional[Color]:
    """Return red, green, blue (0..255) of a list, ``r,g,b``, ``#rrggbb`` or 0..1 fractions of new QGIS; else None."""
    if isinstance(value, (list, tuple)):
        return _rgb(value[:3])
    if not isinstance(value, str):
        return None
    match = re.fullmatch(r"\s*#([0-9a-fA-F]{6})(?:[0-9a-fA-F]{2})?\s*", value)
    if match:
        number = int(match.group(1), 16)
        return number >> 16, number >> 8 & 255, number & 255
    return _rgb(re.split(r"[,;\s]+", value.strip())[:3])


def _rgb(parts: Sequence[Any]) -> Optional[Color]:
    numbers = [to_number(part) for part in parts]
    if len(numbers) != 3 or any(one is None or not 0 <= one <= 255 for one in numbers):
        return None
    red, green, blue = (round(one) for one in numbers if one is not None)
    return red, green, blue


# --- CSV -----------------------------------------------------------------------------------------------------------


def _from_table(text: str) -> List[Entry]:
    try:
        dialect: Any = csv.Sniffer().sniff(text[:4096], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    rows = [row for row in csv.reader(io.StringIO(text), dialect) if any(cell.strip() for cell in row)]
    if not rows:
        return []
    head = [cell.strip().casefold() for cell in rows[0]]
    if not (set(head) & set(NAME_KEYS) and set(head) & set(VALUE_KEYS)):
        head = ["value", "name", "red", "green", "blue"]  # a bare table in the usual order
        rows.insert(0, [])
    found = [_entry(dict(zip(head, (cell.strip() for cell in row)))) for row in rows[1:]]
    return [one for one in found if one is not None]


# --- QGIS styles ---------------------------------------------------------------------------------------------------


class _Style(HTMLParser):
    """Collects categories, symbols' first colours and palette entries; entities are never expanded into files."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.categories: List[Dict[str, str]] = []
        self.palette: List[Dict[str, str]] = []
        self.colors: Dict[str, Color] = {}
        self._symbol: Optional[str] = None

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        """Note one element."""
        found = {name: value or "" for name, value in attrs}
        if tag == "category" and "symbol" in found:
            self.categories.append(found)
        elif tag in ("paletteentry", "item") and "color" in found and "value" in found:
            self.palette.append(found)
        elif tag == "symbol":
            self._symbol = found.get("name")
        elif self._symbol is not None and self._symbol not in self.colors:
            written = found.get("v") if found.get("k") == "color" else None
            written = found.get("value") if found.get("name") == "color" else written
            color = parse_color(written)
            if color is not None:
                self.colors[self._symbol] = color


def _from_style(text: str) -> List[Entry]:
    style = _Style()
    style.feed(text)
    style.close()
    entries: List[Entry] = []
    for one in style.categories:
        value, label = one.get("value", "").strip(), one.get("label", "").strip()
        if value and value != "NULL":  # the last category of QGIS, “all other values”, has none
            entries.append((value, label or value, style.colors.get(one["symbol"])))
    if not entries:
        for one in style.palette:
            value = one["value"].strip()
            entries.append((value, one.get("label", "").strip() or value, parse_color(one["color"])))
    return entries
