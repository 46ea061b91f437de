"""Translations: complete, in step with the sources, and understood by Qt."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from deep_raster.engine.package.argument_texts import TEXTS
from source_names import ROOT, translated

FILES = sorted((ROOT / "i18n").glob("*.ts"))
LRELEASE = next(
    (one for one in (shutil.which("lrelease") or "", "/usr/lib/qt5/bin/lrelease") if one and os.path.exists(one)), ""
)


def messages(path):
    root = ElementTree.parse(path).getroot()
    assert [one.text for one in root.iter("name")] == ["DeepRaster"]
    return {one.findtext("source"): one.find("translation") for one in root.iter("message")}


def shape(text):
    """What a translation must keep: its gaps, tags, and the space around it."""
    return sorted(re.findall(r"{\w*}|</?b>", text)), text[:1].isspace(), text[-1:].isspace()


def test_texts_are_plain_literals():
    wrong = [
        where
        for where, call in translated()
        if len(call.args) != 1 or not isinstance(call.args[0], ast.Constant) or not isinstance(call.args[0].value, str)
    ]
    assert wrong == []


def test_there_is_german():
    assert "deep_raster_de" in [one.stem for one in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda one: one.stem)
def test_complete_and_in_step(path):
    found, wanted = messages(path), {call.args[0].value for _where, call in translated()}
    wanted |= {one for texts in TEXTS.values() for one in texts if one}
    assert found.keys() - wanted == set(), "gone from the sources; run make translations"
    assert wanted - found.keys() == set(), "new in the sources; run make translations"
    assert [text for text, one in found.items() if not one.text or one.get("type") == "unfinished"] == []
    assert [text for text, one in found.items() if shape(text) != shape(one.text)] == []


@pytest.mark.skipif(not LRELEASE, reason="lrelease (qttools5-dev-tools) is not installed here")
def test_qt_takes_it(qgis_app, provider, tmp_path):
    from qgis.core import QgsApplication
    from qgis.PyQt.QtCore import QCoreApplication, QTranslator

    compiled = tmp_path / "de.qm"
    source = ROOT / "i18n" / "deep_raster_de.ts"
    done = subprocess.run([LRELEASE, str(source), "-qm", str(compiled)], capture_output=True, text=True, check=True)
    assert f"{len(messages(source))} finished and 0 unfinished" in done.stdout
    algorithm = QgsApplication.processingRegistry().algorithmById("deepraster:detectobjects")
    assert algorithm.displayName() == "Detect objects"
    translator = QTranslator()
    assert translator.load(str(compiled))
    QCoreApplication.installTranslator(translator)
    try:
        assert algorithm.displayName() == "Objekte erkennen"
        assert algorithm.create().parameterDefinition("OUTPUT").description() == "Erkannte Objekte"
    finally:
        QCoreApplication.removeTranslator(translator)
