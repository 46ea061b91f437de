"""Fixtures of the chip tests; the helpers beside them are in :mod:`chips_support`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from chips_support import LocalSession, on_map, scene, some_polygons, write_raster, write_vector
from deep_raster.engine.chips import runner
from deep_raster.engine.jobs import ExportTrainingData, from_dict, to_dict


@pytest.fixture
def export(tmp_path):
    """Run an export; return its outputs and its session."""

    def run(job: ExportTrainingData, **options: Any):
        session = LocalSession(tmp_path, **options)
        return runner.run(from_dict(json.loads(json.dumps(to_dict(job)))), session), session

    return run


@pytest.fixture
def labelled(tmp_path):
    """A scene with polygons of classes 1, 2 and 7 called tree, house and big pond."""
    raster = write_raster(tmp_path / "scene.tif", scene())
    shapes = some_polygons()
    values = np.array([(1, 2, 7)[i % 3] for i in range(len(shapes))])
    names = [{1: "tree", 2: "house", 7: "big pond"}[one] for one in values]
    colours = {"RED": values * 10, "GREEN": values, "BLUE": values * 0}
    layer = write_vector(tmp_path / "labels.gpkg", on_map(shapes), Classname=names, Classvalue=values, **colours)
    return raster, layer, shapes, values
