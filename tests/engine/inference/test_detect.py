"""detectobjects from raster to GeoPackage: every square found once, wherever tiles cut, with and without CRS."""

from __future__ import annotations

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.inference import detect
from inference_support import NORTH_UP, BlobDetector, plan, write_raster


def scene(seed=0, shape=(300, 420), count=40):
    """Return pixels and the squares in it (xmin, ymin, xmax, ymax, value), none touching another."""
    rng = np.random.default_rng(seed)
    pixels, taken, squares = np.zeros(shape, np.uint8), np.zeros(shape, bool), []
    while len(squares) < count:
        size = int(rng.integers(4, 14))
        x, y = int(rng.integers(0, shape[1] - size)), int(rng.integers(0, shape[0] - size))
        around = (slice(max(0, y - 2), y + size + 2), slice(max(0, x - 2), x + size + 2))
        if taken[around].any():
            continue
        value = int(rng.integers(110, 255))
        pixels[y : y + size, x : x + size] = value
        taken[around] = True
        squares.append((x, y, x + size, y + size, value))
    return pixels, squares


def found_boxes(path):
    _, _, geometries, fields = pyogrio.raw.read(path)
    shapes = shapely.from_wkb(geometries)
    return shapes, dict(zip(pyogrio.read_info(path)["fields"], fields))


def job(raster, package, output, **changes):
    options = changes.pop("options", jobs.RunOptions())
    inputs = changes.pop("inputs", (jobs.RasterInput(raster),))
    return jobs.DetectObjects(inputs, package, str(output), options, **changes)


@pytest.mark.parametrize("georeferenced", [True, False])
@pytest.mark.parametrize("fixed", [True, False])
def test_each_square_is_found_once(tmp_path, session, make_package, use_model, georeferenced, fixed):
    pixels, squares = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP if georeferenced else None)
    use_model(BlobDetector(plan(64, 16, fixed=fixed)))
    output = tmp_path / "out.gpkg"
    result = detect.run(job(raster, make_package(), output), session)
    shapes, fields = found_boxes(output)
    assert result == {"OUTPUT": str(output), "COUNT": len(squares)}
    if georeferenced:
        expected = {
            (600000 + 0.5 * x0, 5000000 - 0.5 * y1, 600000 + 0.5 * x1, 5000000 - 0.5 * y0)
            for x0, y0, x1, y1, _ in squares
        }
        assert pyogrio.read_info(output)["crs"] == "EPSG:32632"
    else:
        expected = {(x0, -y1, x1, -y0) for x0, y0, x1, y1, _ in squares}
        assert pyogrio.read_info(output)["crs"] is None
    assert {tuple(one) for one in shapely.bounds(shapes)} == expected
    values = {(0.5 * 0 + v > 200) for *_, v in squares}
    assert set(fields["Class"]) == {"Roof" if one else "Tree" for one in values}
    assert set(fields["Classvalue"]) == {2 if one else 1 for one in values}
    assert not list(tmp_path.glob(".*"))
