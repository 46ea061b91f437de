"""Parts of a definition that take more than one step to read: configuration, bands, classes, cell sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Set, Tuple, Union

from . import vocabulary
from .lenient import clip
from .values import MAX_INTEGER, Members, to_integer, to_number

MAX_BANDS = 4_096
MAX_CLASSES = 10_000

Color = Tuple[int, int, int]


@dataclass(frozen=True)
class ClassInfo:
    """One class: the value written to outputs, its name, and its colour (red, green, blue in 0..255) if known."""

    value: int
    name: str
    color: Optional[Color] = None


@dataclass(frozen=True)
class CellSize:
    """Size of a pixel in units of ``crs`` (authority code or WKT; empty: unknown)."""

    x: float
    y: float
    crs: str = ""


def read_configuration(read: Members, framework: str) -> Tuple[str, Dict[str, Any]]:
    """Return the configuration's name in its usual spelling and its members, from a text or an object."""
    value = read.members.get("ModelConfiguration")
    if value is None or value == "":
        return "", {}
    if isinstance(value, str):
        name = vocabulary.configuration(framework, value)
        return name, {"Name": name}
    if not isinstance(value, dict):
        read.findings.problem("ModelConfiguration", value, "a name, or an object with the member Name")
        return "", {}
    members = dict(value)
    key = next((one for one in ("Name", "name", "NAME") if isinstance(members.get(one), str)), "")
    if not key:
        if not read.text("InferenceFunction") and framework not in vocabulary.SELF_DESCRIBING:
            read.findings.problem("ModelConfiguration", value, "an object with the member Name")
        return "", members
    name = vocabulary.configuration(framework, members.pop(key))
    return name, {"Name": name, **members}


def read_bands(read: Members) -> Tuple[Union[int, str], ...]:
    """Return 0-based band numbers or band names; texts that hold a number count as numbers."""
    value = read.members.get("ExtractBands")
    if value is None or value == "":
        return ()
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list) or len(value) > MAX_BANDS:
        read.findings.problem("ExtractBands", value, f"a list of at most {MAX_BANDS} band numbers or band names")
        return ()
    bands: List[Union[int, str]] = []
    for position, one in enumerate(value):
        number = to_integer(one, 0, MAX_BANDS - 1)
        if number is not None:
            bands.append(number)
        elif isinstance(one, str) and one.strip() and to_number(one) is None:
            bands.append(_band_name(one.strip()))
        else:
            expected = f"a band number from 0 (the first band) to {MAX_BANDS - 1}, or a band name such as Red"
            read.findings.problem(f"ExtractBands[{position}]", one, expected)
    read.members["ExtractBands"] = list(bands)
    return tuple(bands)


def _band_name(name: str) -> str:
    """Return the well-known spelling of a band name, or the name itself."""
    folded = name.replace(" ", "").replace("_", "").casefold()
    for known in vocabulary.WELL_KNOWN_BANDS:
        if known.replace("_", "").casefold() == folded:
            return known
    return name


def read_classes(read: Members) -> Tuple[ClassInfo, ...]:
    """Return the classes in the order of the file, from either spelling of their members."""
    value = read.members.get("Classes")
    if value is None or value == "":
        return ()
    if not isinstance(value, list) or len(value) > MAX_CLASSES:
        read.findings.problem("Classes", value, f"a list of at most {MAX_CLASSES} classes")
        return ()
    classes: List[ClassInfo] = []
    written: List[Dict[str, Any]] = []
    seen: Set[int] = set()
    for position, entry in enumerate(value):
        one = _read_class(read, entry, f"Classes[{position}]", position)
        if one is None:
            continue
        if one.value in seen:
            read.findings.warn(f"Classes[{position}]: the value {one.value} is given to more than one class.")
        seen.add(one.value)
        classes.append(one)
        written.append(_class_members(entry, one))
    read.members["Classes"] = written
    return tuple(classes)


def _read_class(read: Members, entry: Any, where: str, position: int) -> Optional[ClassInfo]:
    if not isinstance(entry, dict):
        read.findings.problem(where, entry, "an object with Value, Name and Color")
        return None
    raw = next((entry[key] for key in ("Value", "ClassValue", "value") if key in entry), None)
    if raw is None:
        if not entry or any(key in entry for key in ("Value", "ClassValue", "value")):
            read.findings.warn(f"{where}: a class without a value is left out.")
            return None
        read.findings.warn(f"{where}: the class has no Value; its position is used.")
        raw = position + 1
    value = to_integer(raw, -MAX_INTEGER, MAX_INTEGER - 1)
    if value is None:
        read.findings.problem(f"{where}.Value", raw, "a whole number")
        return None
    name = next((entry[key] for key in ("Name", "ClassName", "name") if entry.get(key) is not None), None)
    is_text = isinstance(name, (str, int, float)) and not isinstance(name, bool)
    text = clip(name, 250) if is_text else ""
    if not text:
        read.findings.warn(f"{where}: the class with value {value} has no name; its value is used.")
        text = str(value)
    return ClassInfo(value, text, _read_color(read, entry, where))


def _read_color(read: Members, entry: Dict[str, Any], where: str) -> Optional[Color]:
    value = next((entry[key] for key in ("Color", "color", "Colour") if entry.get(key) is not None), None)
    if value is None or value == "" or value == []:
        return None
    if isinstance(value, str):
        value = [part for part in value.replace(",", " ").split() if part]
    parts = [to_integer(one, -1, 255) for one in value[:3]] if isinstance(value, list) and len(value) >= 3 else []
    if len(parts) != 3 or any(one is None for one in parts):
        read.findings.warn(f"{where}: the colour {clip(value)} is not red, green, blue in 0 to 255 and is left out.")
        return None
    red, green, blue = (int(one) for one in parts if one is not None)
    return None if -1 in (red, green, blue) else (red, green, blue)


def _class_members(entry: Dict[str, Any], one: ClassInfo) -> Dict[str, Any]:
    """Return the entry in today's spelling, further members kept."""
    spellings = {"Value", "ClassValue", "value", "Name", "ClassName", "name", "Color", "color", "Colour"}
    members: Dict[str, Any] = {"Value": one.value, "Name": one.name}
    if one.color is not None:
        members["Color"] = list(one.color)
    elif entry.get("Color") == [-1, -1, -1]:
        members["Color"] = [-1, -1, -1]
    members.update({key: value for key, value in entry.items() if key not in spellings})
    return members


def read_cell_size(read: Members, key: str) -> Optional[CellSize]:
    """Return a cell size from an object with x and y, or from a plain number; what cannot be read is a warning."""
    value = read.members.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, dict):
        value = {"x": value, "y": value}
    x, y = (to_number(value.get(axis, value.get(axis.upper()))) for axis in "xy")
    if (x is None and y is None) or not (x or y or 0) > 0:
        read.findings.warn(f"{key}: {clip(read.members[key])} is no cell size and is left out.")
        return None
    x, y = x or y or 0.0, y or x or 0.0
    return CellSize(x, y, _crs(value.get("spatialReference")))


def _crs(reference: Any) -> str:
    """Return the authority code or WKT of an Esri spatial reference; codes above 32767 that EPSG lacks are Esri's."""
    if not isinstance(reference, dict):
        return ""
    for key in ("latestWkid", "wkid"):
        code = to_integer(reference.get(key), 1, MAX_INTEGER)
        if code is not None:
            return f"{'EPSG' if code < 32_768 else 'ESRI'}:{code}"
    wkt = reference.get("wkt") or reference.get("wkt2")
    return wkt if isinstance(wkt, str) else ""
