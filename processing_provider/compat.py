"""What differs between QGIS 3.22 and QGIS 4, in one place."""

from __future__ import annotations

from typing import Any, Optional

from qgis.core import NULL, Qgis, QgsDataItem, QgsField, QgsFields, QgsRasterBlock
from qgis.PyQt.QtCore import QMetaType, QVariant

TEXT, INTEGER, REAL = "text", "integer", "real"

_QVARIANT = {TEXT: "String", INTEGER: "Int", REAL: "Double"}
_QMETATYPE = {TEXT: "QString", INTEGER: "Int", REAL: "Double"}


def make_field(name: str, kind: str, length: int = 0) -> QgsField:
    """Return a field of ``kind`` TEXT, INTEGER or REAL (QGIS 3.22 wants QVariant types, newer ones QMetaType)."""
    try:
        field = QgsField(name, getattr(QMetaType.Type, _QMETATYPE[kind]))
    except (TypeError, AttributeError):
        field = QgsField(name, getattr(QVariant, _QVARIANT[kind]))
    if length:
        field.setLength(length)
    return field


def is_null(value: Any) -> bool:
    """Whether an attribute or URI member is empty: NULL of Qt5, None of Qt6."""
    return value is None or value == NULL


def text_of(value: Any) -> str:
    """Return an attribute or URI member as text, empty if it is null."""
    return "" if is_null(value) else str(value)


def block_bytes(block: QgsRasterBlock) -> bytes:
    """Return the pixels of a block, row by row in the block's data type."""
    return bytes(block.data())


def alive(thing: Optional[Any]) -> bool:
    """Whether the Qt object behind a Python wrapper still exists."""
    if thing is None:
        return False
    try:
        from qgis.PyQt import sip
    except ImportError:  # Debian's QGIS 3.22 ships sip as a module of PyQt5 only
        return True
    return not sip.isdeleted(thing)


def has_added_fields(fields: QgsFields) -> bool:
    """Whether some fields of a layer come from joins or expressions, not from its file (QgsFields lost its enum)."""
    owner = getattr(Qgis, "FieldOrigin", None)
    if owner is not None:
        added = (owner.Join, owner.Expression)
    else:
        added = (QgsFields.FieldOrigin.OriginJoin, QgsFields.FieldOrigin.OriginExpression)
    return any(fields.fieldOrigin(position) in added for position in range(fields.count()))


def custom_item_type() -> Any:
    """Return the type of browser items of plugins (QgsDataItem lost its enum to Qgis.BrowserItemType)."""
    owner = getattr(Qgis, "BrowserItemType", None)
    return owner.Custom if owner is not None else QgsDataItem.Custom
