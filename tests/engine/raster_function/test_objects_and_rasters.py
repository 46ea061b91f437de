"""Objects of every geometry and further fields, ragged edges, and functions of both kinds, through a real engine."""

from __future__ import annotations

import numpy as np
import pyogrio
import rasterio
import shapely
from deep_raster.engine import jobs
from real_engine import run

from .test_job import BLOBS, _own_folders, scene  # noqa: F401

FINDER = """
    import json
    import numpy as np

    class Finder:
        def initialize(self, **kwargs):
            if "model" in kwargs:
                self.emd = json.load(open(kwargs["model"]))

        def getParameterInfo(self):
            return [{"name": "raster", "dataType": "raster"},
                    {"name": "padding", "dataType": "numeric", "value": 12}]

        def getConfiguration(self, **scalars):
            self.padding = int(scalars["padding"])
            return {"tx": 37, "ty": 29, "padding": self.padding, "fixedTileSize": 0, "inputMask": True}

        def getFields(self):
            return json.dumps([{"name": "OID", "type": "esriFieldTypeOID"},
                               {"name": "Empty", "type": "esriFieldTypeDouble"},
                               {"name": "Area", "type": "esriFieldTypeDouble"},
                               {"name": "Class", "type": "esriFieldTypeString"},
                               {"name": "Shape", "type": "esriFieldTypeGeometry"}])

        def getGeometryType(self):
            return KIND

        def vectorize(self, **blocks):
            bright = (blocks["raster_pixels"][0] > 128) & (blocks["raster_mask"][0] > 0)
            features = []
            left = bright.copy()
            while left.any():
                row, column = np.argwhere(left)[0]
                right, bottom = column, row
                while right < bright.shape[1] and bright[row, right]:
                    right += 1
                while bottom < bright.shape[0] and bright[bottom, column]:
                    bottom += 1
                left[row:bottom, column:right] = False
                x1, y1, x2, y2 = (float(v) - self.padding for v in (column, row, right, bottom))
                if not (0 <= (x1 + x2) / 2 < 37 and 0 <= (y1 + y2) / 2 < 29):
                    continue
                geometry = {1: {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2},
                            3: {"paths": [[[x1, y1], [x2, y2]]]},
                            4: {"rings": [[[x1, y1], [x2, y1], [x2, y2], [x1, y2]]]}}[KIND]
                features.append({"attributes": {"Classname": "bright", "area": (x2 - x1) * (y2 - y1), "Note": "seen"},
                                 "geometry": geometry})
            return {"output_vectors": json.dumps({"features": features})}
"""
BOTH = """
        def updateRasterInfo(self, **kwargs):
            kwargs["output_info"].update(bandCount=1, pixelType="u1")
            return kwargs

        def updatePixels(self, tlc, shape, props, **blocks):
            p = self.padding
            inner = blocks["raster_pixels"][0, p:p + shape[1], p:p + shape[2]]
            found = np.zeros((1, 29, 37), "u1")             # a whole tile, at the edges too
            found[0, :inner.shape[0], :inner.shape[1]] = (inner > 128) + 1
            return dict(blocks, output_pixels=found)
"""


def found_by(package, scene, tmp_path, kind):  # noqa: F811
    made = package(FINDER.replace("KIND", str(kind)), "Finder.py")
    (tmp_path / "out").mkdir()
    output = tmp_path / "out" / "found.gpkg"
    inputs = (jobs.RasterInput(str(scene)),)
    run(jobs.DetectObjects(inputs, str(made.path), str(output), jobs.RunOptions(workers=2, trust=(made.digest,))))
    meta, _, wkb, data = pyogrio.raw.read(output)
    return meta, shapely.from_wkb(wkb), dict(zip(meta["fields"], data))


def on_map(column, row):
    return 500_000 + 2 * column, 5_000_000 - 2 * row


def test_points_lie_where_the_function_says(package, scene, tmp_path):  # noqa: F811
    meta, shapes, fields = found_by(package, scene, tmp_path, 1)
    assert meta["geometry_type"] == "Point"
    expected = sorted(on_map(c + w / 2, r + h / 2) for c, r, w, h in BLOBS)
    assert sorted((one.x, one.y) for one in shapes) == expected
    assert set(fields["Class"]) == {"bright"}


def test_lines_run_where_the_function_says(package, scene, tmp_path):  # noqa: F811
    meta, shapes, _ = found_by(package, scene, tmp_path, 3)
    assert meta["geometry_type"] == "MultiLineString"
    expected = sorted([on_map(c, r), on_map(c + w, r + h)] for c, r, w, h in BLOBS)
    assert sorted([tuple(xy) for xy in shapely.get_coordinates(one)] for one in shapes) == expected


def test_fields_declared_come_first_and_undeclared_follow(package, scene, tmp_path):  # noqa: F811
    meta, shapes, fields = found_by(package, scene, tmp_path, 4)
    assert list(meta["fields"]) == ["Class", "Classvalue", "Confidence", "Empty", "Area", "Classname", "Note"]
    assert np.isnan(fields["Empty"].astype(float)).all()  # declared, never filled
    assert sorted(fields["Area"]) == sorted(float(w * h) for _, _, w, h in BLOBS)  # declared Area, given as area
    assert sorted(shapely.area(shapes)) == sorted(4.0 * w * h for _, _, w, h in BLOBS)
    assert set(fields["Classvalue"]) == {2}
    assert set(fields["Note"]) == {"seen"}


def test_one_function_serves_both_tools(package, scene, tmp_path):  # noqa: F811
    made = package(FINDER.replace("KIND", "4") + BOTH, "Finder.py", {"ModelType": "PanopticSegmenter"})
    (tmp_path / "out").mkdir()
    inputs = (jobs.RasterInput(str(scene)),)
    options = jobs.RunOptions(workers=1, trust=(made.digest,))
    told = []
    values = run(jobs.DetectObjects(inputs, str(made.path), str(tmp_path / "out" / "f.gpkg"), options), told)
    assert values["COUNT"] == len(BLOBS)
    assert any("finds objects and classifies pixels" in getattr(one, "text", "") for one in told)
    run(jobs.ClassifyPixels(inputs, str(made.path), str(tmp_path / "out" / "c.tif"), options))
    with rasterio.open(scene) as given, rasterio.open(tmp_path / "out" / "c.tif") as found:
        assert (found.read(1) == (given.read(1) > 128) + 1).all()
