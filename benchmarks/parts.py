"""Single parts of the engine against the best that others offer: suppression of boxes, polygons of a class raster."""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import checkout  # noqa: F401
import numpy as np
import numpy.typing as npt
import pyogrio
import rasterio
import scenes
from deep_raster.engine.inference.class_polygons import write_polygons
from deep_raster.engine.inference.nms import suppress_boxes
from deep_raster.engine.package.reading import ClassInfo
from measure import Table, progress, spread
from scipy import ndimage

_BOXES = 100_000
_PYTHON = "/usr/bin/python3"
_GDAL = """
import json, sys, time
from osgeo import gdal, ogr, osr
source, target = sys.argv[1:]
gdal.UseExceptions()
data = gdal.Open(source)
start = time.process_time()
out = ogr.GetDriverByName("GPKG").CreateDataSource(target)
layer = out.CreateLayer("polygons", osr.SpatialReference(data.GetProjection()), ogr.wkbPolygon)
layer.CreateField(ogr.FieldDefn("value", ogr.OFTInteger))
band = data.GetRasterBand(1)
out.StartTransaction()
gdal.Polygonize(band, band.GetMaskBand(), layer, 0, [])
out.CommitTransaction()
count = layer.GetFeatureCount()
layer = out = None
print(json.dumps([count, time.process_time() - start]))
"""


def suppression(asked: argparse.Namespace) -> None:
    """Time the suppression of 100,000 boxes, spread out and in clusters, in this process."""
    table = Table("Suppression of 100,000 boxes", "boxes", "stay", "CPU s", "wall, s")
    for text, boxes in (("spread", _spread_boxes()), ("in clusters", _clustered_boxes())):
        random = np.random.default_rng(2)
        scores, labels = random.random(len(boxes)), random.integers(0, 3, len(boxes))
        cpu, wall, kept = [], [], 0
        for number in range(asked.rounds + 1):
            begun, start = time.monotonic(), time.process_time()
            kept = len(suppress_boxes(boxes, scores, labels, 0.3))
            if number:
                cpu.append(time.process_time() - start)
                wall.append(time.monotonic() - begun)
        table.row(text, f"{kept:,}", f"**{spread(cpu)}**", spread(wall))


def _spread_boxes() -> npt.NDArray[np.float64]:
    random = np.random.default_rng(0)
    corners = random.uniform(0, 10_000, (_BOXES, 2))
    return np.hstack([corners, corners + random.uniform(10, 60, (_BOXES, 2))])


def _clustered_boxes() -> npt.NDArray[np.float64]:
    """Return 20 versions of each of 5,000 objects, as a detector without suppression reports them."""
    random = np.random.default_rng(1)
    objects = random.uniform(0, 10_000, (_BOXES // 20, 2)).repeat(20, axis=0)
    corners = objects + random.normal(0, 3, (_BOXES, 2))
    return np.hstack([corners, corners + random.uniform(30, 40, (_BOXES, 2))])


def polygons(asked: argparse.Namespace) -> None:
    """Compare the polygons of a class raster with ``gdal.Polygonize`` of QGIS's Python, both into a GeoPackage."""
    table = Table(
        f"Polygons of a class raster of {asked.side}² (CPU seconds)",
        "raster", "features", "gdal.Polygonize", "engine", "rate of gdal.Polygonize",
    )  # fmt: skip
    classes = [ClassInfo(value, f"class {value}", None) for value in (1, 2, 3)]
    for text, smooth in (("smoothed", True), ("speckled", False)):
        source = _class_raster(asked.scratch / f"classes_{asked.side}_{text}.tif", asked.side, smooth)
        target = asked.scratch / "polygons.gpkg"
        rounds, counts = [], (0, 0)
        for number in range(asked.rounds + 1):
            target.unlink(missing_ok=True)
            count, gdal = _by_gdal(source, target)
            target.unlink(missing_ok=True)
            start = time.process_time()
            with rasterio.open(source) as data:
                crs = data.crs.to_wkt()
            write_polygons(source, target, classes, 0.0, {}, crs)
            ours = time.process_time() - start
            counts = (count, pyogrio.read_info(target)["features"])
            progress(f"{text}: {counts}, GDAL {gdal:.2f}, engine {ours:.2f}")
            if number:
                rounds.append((gdal, ours))
        features = f"{counts[0]:,}" if counts[0] == counts[1] else f"{counts[0]:,} and {counts[1]:,}: DIFFERENT"
        table.row(
            text, features, spread(one for one, _ in rounds), spread(one for _, one in rounds),
            f"**{spread(gdal / ours for gdal, ours in rounds)}**",
        )  # fmt: skip


def _by_gdal(source: Path, target: Path) -> tuple[int, float]:
    # QGIS's own Python, a list, and the script above.
    done = subprocess.run([_PYTHON, "-c", _GDAL, str(source), str(target)], check=True, capture_output=True, text=True)
    count, seconds = json.loads(done.stdout)
    return count, seconds


def _class_raster(path: Path, side: int, smooth: bool) -> Path:
    if path.exists():
        return path
    found = scenes.rows_of(side, 0, side).argmax(0).astype(np.uint8) + 1
    if smooth:
        found = ndimage.median_filter(found, 9)
    found[: side // 16, : side // 16] = 0  # without data
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 1, "dtype": "uint8", "nodata": 0}
    profile.update(tiled=True, blockxsize=512, blockysize=512, compress="deflate", crs="EPSG:32633")
    place = rasterio.transform.from_origin(*scenes.ORIGIN, scenes.CELL, scenes.CELL)
    with rasterio.open(path, "w", **profile, transform=place) as out:
        out.write(found, 1)
    return path
