"""Every name of QGIS that the sources use exists in the QGIS that runs the tests, whichever version that is."""

from __future__ import annotations

import importlib

from source_names import trees, uses

# Where versions differ the branches are here, and each of them only exists in some.
DIFFERS = "processing_provider/compat.py"


def test_every_qgis_name_exists(qgis_app):
    found = [
        use for where, tree in trees() for package in ("qgis.core", "qgis.gui") for use in uses(where, tree, package)
    ]
    assert len(found) > 150
    missing = []
    for use in found:
        thing = importlib.import_module(use.module)
        try:
            for name in (use.name, *use.attributes):
                thing = getattr(thing, name)
        except AttributeError:
            missing.append(use)
    assert [use for use in missing if not use.where.startswith(DIFFERS)] == []


def test_enums_of_qgis_are_scoped(qgis_app):
    """``QgsClass.Member`` is a shortcut that newer versions drop; ``QgsClass.Enum.Member`` stays."""
    wrong = []
    for where, tree in trees():
        for use in uses(where, tree, "qgis.core"):
            owner = getattr(importlib.import_module(use.module), use.name, None)
            for name in use.attributes[:1]:
                value = getattr(owner, name, None)
                if isinstance(value, int) and not isinstance(value, (bool, type)) and not where.startswith(DIFFERS):
                    wrong.append(use)
    assert wrong == []
