"""Arguments that custom functions declare in their text, which is read and never run."""

from __future__ import annotations

import json

import pytest
from deep_raster.engine.package.declared import package_parameters, parameter_from_info, written_parameters
from deep_raster.engine.package.dlpk import open_package
from deep_raster.engine.package.peek import peek_parameters

from .corpus_base import CUSTOM
from .zips import Item, build

SOURCE = b"""
import os
open(os.environ["CANARY"], "w")  # would run if the file were imported

class Other:
    def getConfiguration(self):
        return {"name": "not an argument", "value": 1}

class Finder:
    def __init__(self):
        self.name = {"name": "nor this"}

    def getParameterInfo(self):
        required = True
        parameters = [
            {"name": "raster", "dataType": "raster", "value": None, "required": required},
            {'name': 'confidence', 'dataType': 'numeric', 'value': 0.25, 'domain': (0, 1),
             'displayName': "Score, at least",
             'description': "Two texts " "joined"},
        ]
        if required:
            parameters.append({"name": "batch_size", "dataType": "numeric", "value": 8, "required": False})  # a comment
        parameters.extend([
            {"name": "merge", "dataType": "string", "value": "mean", "domain": ["mean", "max"]},
            {"name": "shift", "dataType": "GPLong", "value": -3},
            {"name": "computed", "dataType": "string", "value": os.sep + "x"},
            {"name": "flag", "dataType": "boolean", "value": False},
            "a text that does not belong here",
        ])
        return parameters

    def getConfiguration(self, **scalars):
        return {"name": "late", "value": 2}
"""


def test_literals_are_found_in_their_order():
    found = {one.name: one for one in written_parameters(SOURCE)}
    assert list(found) == ["confidence", "batch_size", "merge", "shift", "computed", "flag"]
    confidence = found["confidence"]
    assert (confidence.kind, confidence.default, confidence.minimum, confidence.maximum) == ("float", "0.25", 0.0, 1.0)
    assert (confidence.label, confidence.description) == ("Score, at least", "Two texts joined")
    assert [(one.kind, one.default) for one in found.values()][1:] == [
        ("int", "8"),
        ("choice", "mean"),
        ("int", "-3"),
        ("text", ""),
        ("bool", "False"),
    ]
    assert found["merge"].choices == ("mean", "max")


@pytest.fixture
def dlpk(tmp_path):
    path = tmp_path / "finder.dlpk"
    path.write_bytes(build([Item("f/finder.emd", json.dumps(CUSTOM).encode()), Item("f/Finder.py", SOURCE, 8)]))
    return path


def test_of_a_package_without_running_it(dlpk, tmp_path, monkeypatch):
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    found = package_parameters(open_package(dlpk, tmp_path / "cache"))
    assert found == peek_parameters(dlpk) == written_parameters(SOURCE)
    (tmp_path / "Finder.py").write_bytes(SOURCE)
    (tmp_path / "finder.emd").write_text(json.dumps(CUSTOM))
    assert peek_parameters(tmp_path / "finder.emd") == found
    assert not (tmp_path / "canary").exists()


def test_other_packages_have_those_of_their_definition(tmp_path):
    members = {**CUSTOM, "InferenceFunction": "ArcGISObjectDetector.py", "ModelFile": "n.pth"}
    path = tmp_path / "a.dlpk"
    path.write_bytes(build([Item("a.emd", json.dumps(members).encode()), Item("n.pth", b"x")]))
    assert {"padding", "threshold"} <= {one.name for one in peek_parameters(path)}
    assert peek_parameters(path) == package_parameters(open_package(path, tmp_path / "cache"))


@pytest.mark.parametrize(
    "source",
    [
        b"",
        b"\xff\xfe broken",
        b"def getParameterInfo(self):\n    return [{",
        b"def getParameterInfo(self):\n  return [{'name': 'a', 'value': " + b"(" * 5_000,
        b"def getParameterInfo(self):\n  return [{'name': 'a', 'value': " + b"-" * 100_000 + b"1}]",
        b"def getParameterInfo(self):\n  return [{'name': " + b"'a' " * 2_000 + b"}]",
        b"def getParameterInfo(self):\n" + b"  x = {'name': 'b'}\n" * 3 + b" y = 1\n",
        b"x" * (2 << 20),
        b'"""' * 999,
    ],
)
def test_any_text_is_harmless(source):
    assert {one.name for one in written_parameters(source)} <= {"a", "b"}


def test_entries_of_a_running_function():
    entry = parameter_from_info({"name": "n", "dataType": "numeric", "value": 1, "domain": [0, 9]})
    assert (entry.kind, entry.default, entry.minimum, entry.maximum, entry.label) == ("int", "1", 0.0, 9.0, "n")
    assert parameter_from_info({"name": "n", "value": None}).default == ""
    assert (
        parameter_from_info({"name": "n", "dataType": "string", "value": "True", "domain": ("True", "False")}).kind
        == "choice"
    )
