"""Turn the sample data into what a person would start from; run by the engine's Python.

``prepare.py CACHE OUTPUT`` writes below OUTPUT:

- ``trees_train.tif`` with three quarters of the large crop, ``trees_block.tif`` with the quarter that is held back, and
  ``trees_other.tif``, a scene that no training sees;
- ``trees_*.gpkg``: the boxes that people drew, polygons with the field ``class``;
- ``landsat.tif``, ``land_cover.gpkg``, ``land_cover_points.gpkg`` and the class schemas.

The crops name the square kilometre they were cut from, not where in it; they are placed at its north-western corner.
"""

from __future__ import annotations

import shutil
import sys
import warnings
from pathlib import Path
from typing import List, Tuple

import numpy as np
import pyogrio
import rasterio
import shapely
from defusedxml import ElementTree
from rasterio.errors import NotGeoreferencedWarning
from rasterio.transform import Affine
from rasterio.windows import Window

CELL = 0.1  # metres, NEON's camera mosaic
CRS = "EPSG:32612"
LARGE = "2019_YELL_2_528000_4978000_image_crop2"
OTHER = "2019_YELL_2_541000_4977000_image_crop"
LANDSAT = "LC08_L1TP_224078_20200518_20200518_01_RT"
LAND_COVER = (
    (1, "water", 40, 90, 200),
    (2, "crop", 235, 200, 80),
    (3, "tree", 30, 120, 50),
    (4, "developed", 200, 60, 60),
)


def main(cache: Path, output: Path) -> None:
    """Write all prepared files."""
    output.mkdir(parents=True, exist_ok=True)
    _trees(cache, output)
    _landsat(cache, output)
    (output / "trees_schema.csv").write_text("name,value,red,green,blue\nTree,1,255,210,0\n", encoding="utf-8")
    rows = [f"{name},{value},{red},{green},{blue}" for value, name, red, green, blue in LAND_COVER]
    (output / "land_cover_schema.csv").write_text("\n".join(["name,value,red,green,blue", *rows, ""]), encoding="utf-8")


def _landsat(cache: Path, output: Path) -> None:
    shutil.copyfile(cache / f"{LANDSAT}_polygons.gpkg", output / "land_cover.gpkg")
    shutil.copyfile(cache / f"{LANDSAT}_points.gpkg", output / "land_cover_points.gpkg")
    shutil.copyfile(cache / f"{LANDSAT}.TIF", output / "landsat.tif")
    with rasterio.open(output / "landsat.tif", "r+") as target:
        target.nodata = 0  # what lies outside the satellite's swath


def _trees(cache: Path, output: Path) -> None:
    pixels, boxes = _read(cache, LARGE)
    _bands, height, width = pixels.shape
    top, left = height // 2, width // 2
    held_back = Window(0, top, left, height - top)
    corner = _corner(LARGE)
    training = pixels.copy()
    training[:, top:, :left] = 0
    valid = np.ones((height, width), dtype=np.uint8) * 255
    valid[top:, :left] = 0
    _write_raster(output / "trees_train.tif", training, corner, valid)
    _write_raster(output / "trees_block.tif", pixels[:, top:, :left], corner @ Affine.translation(0, top), None)
    # A box belongs to the part that holds its centre. One that only touches the held-back block is shown to nobody.
    block = shapely.box(0, top, left, height)
    centre = shapely.centroid(boxes)
    inside = shapely.covers(block, centre)
    whole = ~shapely.intersects(block, boxes)
    _write_boxes(output / "trees_train.gpkg", boxes[whole], corner)
    _write_boxes(output / "trees_block.gpkg", shapely.intersection(boxes[inside], block), corner)
    pixels, boxes = _read(cache, OTHER)
    _write_raster(output / "trees_other.tif", pixels, _corner(OTHER), None)
    _write_boxes(output / "trees_other.gpkg", boxes, _corner(OTHER))
    print(
        f"Trees drawn by hand: {int(whole.sum())} to train on, {int(inside.sum())} in the block held back "
        f"({held_back.width} x {held_back.height} pixels), {len(boxes)} in the other scene"
    )


def _corner(name: str) -> Affine:
    """Return the grid of a crop at the north-western corner of its square kilometre (..._EASTING_NORTHING_...)."""
    easting, northing = (float(one) for one in name.split("_")[3:5])
    return Affine(CELL, 0.0, easting, 0.0, -CELL, northing + 1000.0)


def _read(cache: Path, name: str) -> Tuple[np.ndarray, np.ndarray]:
    """Return pixels (bands, rows, columns), uint8, and the boxes as polygons in pixels (x right, y down)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(cache / f"{name}.png") as source:
            pixels = source.read([1, 2, 3])
    boxes: List[List[float]] = []
    for found in ElementTree.parse(cache / f"{name}.xml").iter("bndbox"):
        boxes.append([float(found.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax")])
    return pixels, shapely.box(*np.array(boxes).T)


def _write_raster(path: Path, pixels: np.ndarray, transform: Affine, valid: np.ndarray | None) -> None:
    bands, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": bands, "height": height, "width": width, "dtype": pixels.dtype}
    layout = {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "deflate", "photometric": "RGB"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", crs=CRS, transform=transform, **profile, **layout) as target,
    ):
        target.write(pixels)
        if valid is not None:
            target.write_mask(valid)


def _write_boxes(path: Path, boxes: np.ndarray, transform: Affine) -> None:
    def to_map(points: np.ndarray) -> np.ndarray:
        x, y = transform @ (points[:, 0], points[:, 1])
        return np.column_stack([x, y])

    polygons = shapely.transform(boxes, to_map)
    names = np.array(["Tree"] * len(polygons), dtype=object)
    path.unlink(missing_ok=True)
    pyogrio.raw.write(
        path,
        shapely.to_wkb(polygons),
        [names],
        ["class"],
        geometry_type="Polygon",
        crs=CRS,
        driver="GPKG",
        layer=path.stem,
        dataset_options={"VERSION": "1.2"},  # what QGIS 3.22 reads without a warning
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
