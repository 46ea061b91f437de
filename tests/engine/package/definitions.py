"""A definition as documented, and reading that may be refused."""

from __future__ import annotations

from deep_raster.engine.errors import DefinitionError

BASE = {
    "Framework": "TensorFlow",
    "ModelConfiguration": "ObjectDetectionAPI",
    "ModelFile": "tree_detection.pb",
    "ModelType": "ObjectDetection",
    "ImageHeight": 850,
    "ImageWidth": 850,
    "ExtractBands": [0, 1, 2],
    "Classes": [{"Value": 0, "Name": "Tree", "Color": [0, 255, 0]}],
}


def read_or_refuse(read, source):
    """Return what was read, or None if it was refused as it should be; anything else that is raised goes on."""
    try:
        return read(source)
    except DefinitionError as error:
        if not error.problems or not all(isinstance(one, str) for one in error.problems):
            raise AssertionError("an error without problems") from error
        return None
