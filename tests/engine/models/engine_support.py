"""Jobs through a real engine: rasters with a place on the map for them, and what they wrote, brought back to pixels."""

from __future__ import annotations

import numpy as np
import pyogrio
import rasterio
import real_engine
import shapely
from deep_raster.engine import jobs

LEFT, TOP, CELL, CRS = 500_000.0, 5_500_000.0, 0.5, "EPSG:32633"
TRANSFORM = rasterio.Affine(CELL, 0, LEFT, 0, -CELL, TOP)


def run(job, told=None):
    """Have a job done, its events appended to ``told``; the engine stays for the next job."""
    return real_engine.run(job, told, keep_warm=True)


def write_raster(path, pixels) -> jobs.RasterInput:
    """Write pixels (bands, rows, columns) as GeoTIFF; a fourth band is near infrared, not transparency."""
    bands, rows, columns = pixels.shape
    profile = {"driver": "GTiff", "count": bands, "height": rows, "width": columns, "dtype": pixels.dtype}
    with rasterio.open(path, "w", crs=CRS, transform=TRANSFORM, photometric="MINISBLACK", **profile) as file:
        file.write(pixels)
    return jobs.RasterInput(str(path))


def write_features(path, boxes) -> jobs.VectorInput:
    """Write pixel boxes as polygons with a field ``number`` that counts them."""
    shapes = shapely.to_wkb(shapely.box(*to_map(np.asarray(boxes, float)).T))
    pyogrio.raw.write(str(path), shapes, [np.arange(len(shapes))], ["number"], geometry_type="Polygon", crs=CRS)
    return jobs.VectorInput(str(path))


def options(trust=(), **arguments) -> jobs.RunOptions:
    """One worker on the CPU, with arguments of the model."""
    texts = {name: str(value) for name, value in arguments.items()}
    return jobs.RunOptions(arguments=texts, processor=jobs.CPU, workers=1, trust=trust)


def read_layer(path):
    """Return the geometries of a layer, in map coordinates, and its fields by name."""
    meta, _, wkb, data = pyogrio.raw.read(path)
    return shapely.from_wkb(wkb), dict(zip(meta["fields"], data))


def read_classes(path):
    """Return the first band of a raster that lies where :func:`write_raster` puts it."""
    with rasterio.open(path) as file:
        assert file.transform == TRANSFORM
        return file.read(1)


def to_map(boxes):
    """Pixel boxes (xmin, ymin, xmax, ymax) as map boxes."""
    left, top, right, bottom = boxes.T
    return np.stack([LEFT + CELL * left, TOP - CELL * bottom, LEFT + CELL * right, TOP - CELL * top], 1)


def to_pixels(shapes):
    """Geometries on the map as geometries in pixels, y downwards."""
    return shapely.transform(shapes, lambda points: (points - [LEFT, TOP]) / [CELL, -CELL])


def same_objects(output, boxes, scores, labels, size=(96, 64), names=("kind 1", "kind 2", "kind 3")) -> None:
    """Compare a layer with pixel boxes, which the tool cuts off at the edge of a raster of (columns, rows)."""
    boxes = np.clip(boxes, 0, [*size, *size])
    shapes, fields = read_layer(output)
    assert len(shapes) == len(boxes) > 3
    order, wanted = np.argsort(-fields["Confidence"], kind="stable"), np.argsort(-scores, kind="stable")
    np.testing.assert_allclose(fields["Confidence"][order], scores[wanted], atol=1e-4)
    np.testing.assert_allclose(shapely.bounds(to_pixels(shapes[order])), boxes[wanted], rtol=0, atol=0.01)
    assert list(fields["Class"][order]) == [names[label] for label in labels[wanted]]
