"""What differs between QGIS 3.22 and QGIS 4, in one place."""

from __future__ import annotations

from typing import Any, Optional, Union

from qgis.core import NULL, QgsField, QgsRasterBlock
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


def enum_value(flag: Any) -> int:
    """Return the number of a Qt or QGIS enum member (plain ints in Qt5, enum members in Qt6)."""
    return int(getattr(flag, "value", flag))


def alive(thing: Optional[Any]) -> bool:
    """Whether the Qt object behind a Python wrapper still exists."""
    if thing is None:
        return False
    try:
        from qgis.PyQt import sip
    except ImportError:  # Debian's QGIS 3.22 ships sip as a module of PyQt5 only
        return True
    return not sip.isdeleted(thing)


def qt_exec(dialog: Any) -> Union[int, Any]:
    """Show a dialog and wait; ``exec`` on every supported version."""
    return dialog.exec() if hasattr(dialog, "exec") else dialog.exec_()
