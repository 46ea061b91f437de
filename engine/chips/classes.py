"""Which classes the labels have: their values, names and colours, by the rules of ArcGIS' exporter.

1. The class field that was asked for; a text field gets values 1, 2, ... in the order of its sorted texts.
2. Otherwise a field called Value or Classvalue, otherwise one called Classname, whatever the case.
3. Otherwise all features are of one class, value 1.

Names come from the field Classname, colours from RED, GREEN, BLUE; of a class raster, from its attribute table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from ..errors import JobError
from ..jobs import VectorInput
from ..raster.gdal import shown
from ..raster.vector import Features, layer_facts, read_attributes

VALUE_FIELDS = ("value", "classvalue")
NAME_FIELDS = ("classname",)
COLOUR_FIELDS = ("red", "green", "blue")
_NO_CLASS = -1
_MAX_VALUE = 2**31 - 1
MAX_CLASSES = 10_000


@dataclass(frozen=True)
class LabelClass:
    """A class: value, name, and colour (red, green, blue) or None."""

    value: int
    name: str
    color: Optional[Tuple[int, int, int]] = None

    def to_dict(self) -> Dict[str, Any]:
        """Return JSON-ready members."""
        return {"value": self.value, "name": self.name, "color": list(self.color) if self.color else None}

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> LabelClass:
        """Read what :meth:`to_dict` returns."""
        color = members.get("color")
        return cls(int(members["value"]), str(members["name"]), (color[0], color[1], color[2]) if color else None)


@dataclass(frozen=True)
class ClassRule:
    """How a feature's class value is found: ``field`` holds it (empty: all are 1), by ``texts`` if it is text."""

    field: str = ""
    texts: Optional[Dict[str, int]] = None

    @property
    def columns(self) -> Tuple[str, ...]:
        """Attributes that must be read."""
        return (self.field,) if self.field else ()

    def values(self, features: Features) -> npt.NDArray[np.int64]:
        """Return class values; -1 for features without a class."""
        if not self.field:
            return np.ones(len(features), dtype=np.int64)
        column = features.column(self.field)
        if self.texts is None and column is not None and column.dtype.kind in "iu":
            return column.astype(np.int64)
        raw: Sequence[Any] = [] if column is None else column.tolist()
        if self.texts is None:
            return np.array([_whole(one) for one in raw], dtype=np.int64)
        return np.array([self.texts.get(_text(one), _NO_CLASS) for one in raw], dtype=np.int64)


def _text(value: Any) -> str:
    return "" if _missing(value) else str(value).strip()


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, (float, np.floating)) and math.isnan(value))


def _whole(value: Any) -> int:
    """Return a whole number, or -1 for nothing.

    Raises:
        ValueError: the value is neither.
    """
    text = _text(value)
    if not text:
        return _NO_CLASS
    number = float(text)
    if not number.is_integer() or abs(number) > _MAX_VALUE:
        raise ValueError(text)
    return int(number)


def find_classes(
    vector: VectorInput, class_field: str, zero_allowed: bool, known: Sequence[LabelClass] = ()
) -> Tuple[ClassRule, List[LabelClass]]:
    """Return the rule and the classes sorted by value.

    Args:
        vector: the label layer.
        class_field: field asked for; empty to look for one.
        zero_allowed: whether 0 may be a class, because it does not mean unlabelled in the format.
        known: classes of earlier exports into the same folder, whose texts keep their values.

    Raises:
        JobError: the field does not exist or holds values that cannot be classes.
        VectorError: the layer cannot be read.
    """
    by_name = {one.lower(): one for one in layer_facts(vector).fields}
    field = _class_field(vector, class_field, by_name)
    if not field:
        return ClassRule(), [LabelClass(1, "1")]
    names_field = next((by_name[one] for one in NAME_FIELDS if one in by_name), "")
    colours = [by_name[one] for one in COLOUR_FIELDS if one in by_name]
    columns = list(dict.fromkeys([field, *([names_field] if names_field else []), *colours]))
    rows = _distinct(read_attributes(vector, columns, distinct=True))
    texts = sorted({text for text in (_text(row[field]) for row in rows) if text})
    rule = _rule(field, texts, known)
    by_text = rule.texts if rule.texts is not None else {one: _whole(one) for one in texts}
    _check_values(vector, field, by_text.values(), zero_allowed)
    described: Dict[int, LabelClass] = {}
    for row in rows:
        text = _text(row[field])
        if text:
            value = by_text[text]
            name = text if rule.texts is not None else _text(row[names_field]) if names_field else ""
            colour = _colour([row[one] for one in colours]) if len(colours) == 3 else None
            described[value] = _better(described.get(value), LabelClass(value, name, colour))
    classes = [replace(described[value], name=described[value].name or str(value)) for value in sorted(described)]
    return rule, classes


def _distinct(table: Mapping[str, npt.NDArray[Any]]) -> List[Dict[str, Any]]:
    """Return the rows that differ."""
    if len(table) == 1:
        ((name, column),) = table.items()
        found = np.unique(column).tolist() if column.dtype.kind in "iu" else dict.fromkeys(column.tolist())
        return [{name: one} for one in found]
    rows = dict.fromkeys(zip(*(one.tolist() for one in table.values())))
    return [dict(zip(table, row)) for row in rows]


def _better(one: Optional[LabelClass], other: LabelClass) -> LabelClass:
    """Return the description to take where features of one class differ: with a name, with a colour, the first."""
    if one is None:
        return other
    return min(one, other, key=lambda item: (not item.name, item.color is None, item.name, item.color or ()))


def _class_field(vector: VectorInput, asked: str, by_name: Mapping[str, str]) -> str:
    if asked:
        if asked.lower() not in by_name:
            raise JobError(
                f"The label layer “{shown(vector.path)}” has no field “{asked}”.",
                stage="reading the labels",
                file=shown(vector.path),
                hint=f"It has {', '.join(by_name.values()) or 'no fields'}.",
            )
        return by_name[asked.lower()]
    return next((by_name[one] for one in (*VALUE_FIELDS, *NAME_FIELDS) if one in by_name), "")


def _rule(field: str, texts: Sequence[str], known: Sequence[LabelClass]) -> ClassRule:
    try:
        for one in texts:
            _whole(one)
    except ValueError:
        mapping = {one.name: one.value for one in known}
        following = max([0, *mapping.values()]) + 1
        for one in texts:
            if one not in mapping:
                mapping[one] = following
                following += 1
        return ClassRule(field, mapping)
    return ClassRule(field)


def _check_values(vector: VectorInput, field: str, values: Any, zero_allowed: bool) -> None:
    lowest = min(values, default=1)
    if lowest < 0 or (lowest == 0 and not zero_allowed):
        why = "Class values must not be negative." if lowest < 0 else "In this format 0 means “not labelled”."
        raise JobError(
            f"The class field “{field}” of “{shown(vector.path)}” holds the value {lowest}. {why}",
            stage="reading the labels",
            file=shown(vector.path),
            hint="Give the classes values from 1.",
        )
    if len(values) > MAX_CLASSES:
        raise JobError(
            f"The class field “{field}” holds more than {MAX_CLASSES} different values.",
            stage="reading the labels",
            hint="Choose the field that holds the class.",
        )


def _colour(parts: Sequence[Any]) -> Optional[Tuple[int, int, int]]:
    try:
        red, green, blue = (max(0, min(255, int(one))) for one in parts)
    except (TypeError, ValueError):
        return None
    return red, green, blue
