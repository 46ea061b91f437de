"""The sources of QGIS's side against Qt 6 itself: every Qt name they use exists there, under the same path.

Runs in an interpreter with PyQt6 and without QGIS. Names of QGIS are resolved by the tests inside QGIS.
"""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qgis" / "support"))

from source_names import Use, trees, uses

# Qt 6 moved these; qgis.PyQt still offers them at their old place.
MOVED = {"QAction": "QtGui", "QActionGroup": "QtGui", "QShortcut": "QtGui"}
# Gone in Qt 6 or PyQt6, and called on instances, where no name can be resolved.
GONE = {
    "exec_", "print_", "toAscii", "setMargin", "globalPos", "globalX", "globalY", "setCodec", "setTabStopWidth",
    "setFilterRegExp",
}  # fmt: skip
OLD_CLASSES = {"QRegExp", "QDesktopWidget", "QTextCodec", "QWebView", "qApp"}


def resolve(use: Use) -> object:
    """Return what a name means in PyQt6; AttributeError if it means nothing."""
    _qgis, _pyqt, *part = use.module.split(".")
    if not part:  # from qgis.PyQt import sip
        part, names = [use.name], use.attributes
    else:
        part, names = [MOVED.get(use.name, part[0])], (use.name, *use.attributes)
    found = importlib.import_module(f"PyQt6.{part[0]}")
    for name in names:
        found = getattr(found, name)
    return found


def exists(use: Use) -> bool:
    try:
        resolve(use)
    except AttributeError:
        return False
    return True


def test_every_qt_name_exists_in_qt6():
    found = [use for where, tree in trees() for use in uses(where, tree, "qgis.PyQt")]
    assert len(found) > 100 and any(len(use.attributes) > 1 for use in found)
    assert [use for use in found if not exists(use)] == []


@pytest.mark.parametrize("bad", ["Qt.AlignLeft", "QDialogButtonBox.Ok", "QMessageBox.exec_", "Qt.MidButton"])
def test_an_unscoped_enum_is_noticed(bad):
    start = bad.split(".")[0]
    module = "QtCore" if start == "Qt" else "QtWidgets"
    (named, used) = uses("x.py", ast.parse(f"from qgis.PyQt.{module} import {start}\nprint({bad})"), "qgis.PyQt")
    assert exists(named) and not exists(used)


def test_qt_comes_through_qgis():
    wrong = []
    for where, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [
                f"{where}:{node.lineno}" for n in names if n.split(".")[0] in ("PyQt5", "PyQt6", "PySide6", "sip")
            ]
    assert wrong == []


def test_nothing_that_is_gone_is_called():
    wrong = [
        f"{where}:{node.lineno}: {node.attr}"
        for where, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in GONE
    ]
    wrong += [
        f"{where}:{node.lineno}: {node.id}"
        for where, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in OLD_CLASSES
    ]
    assert wrong == []


def test_signals_have_no_overloads_in_brackets():
    """``activated[str]`` is gone in Qt 6; ``something.signal[type].connect`` is how that would look."""
    wrong = [
        f"{where}:{node.lineno}"
        for where, tree in trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in ("connect", "emit")
        and isinstance(node.value, ast.Subscript)
        and isinstance(node.value.value, ast.Attribute)
    ]
    assert wrong == []


def test_enums_are_not_counted_with():
    """Enums of Qt 6 are no numbers: ``int(Qt.…)`` raises there."""
    wrong = []
    for where, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "int":
                inside = [one for one in node.args if isinstance(one, ast.Attribute)]
                wrong += [f"{where}:{node.lineno}" for one in inside if ast.unparse(one).startswith(("Qt.", "Q"))]
    assert wrong == []
