"""Any window, any transform: a chip's pixels are the raster's, and labels stay where they are on the map."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from chips_support import LocalSession, scene, write_raster, write_vector
from deep_raster.engine.chips import runner
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.chips.objects import turned
from deep_raster.engine.jobs import ExportTrainingData
from deep_raster.engine.raster.window import Window
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.filterwarnings("ignore")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angle=st.sampled_from([0, 0, 17, 90, 143, 270]),
    flip=st.sampled_from([1, -1]),
    cell=st.floats(0.01, 30),
    tile=st.tuples(st.integers(8, 70), st.integers(8, 70)),
    stride=st.tuples(st.integers(20, 90), st.integers(20, 90)),
    space=st.sampled_from(["MAP_SPACE", "PIXEL_SPACE"]),
)
def test_pixels_and_labels_stay_in_place(angle, flip, cell, tile, stride, space):
    transform = Affine.translation(4e5, 5.1e6) * Affine.rotation(angle) * Affine.scale(cell, -cell * flip)
    boxes = [shapely.box(x, y, x + 5, y + 4) for x, y in ((10, 12), (40.5, 30.25), (61, 50.75))]
    one = transform
    on_map = [
        shapely.transform(
            box,
            lambda p: np.column_stack(
                [one.a * p[:, 0] + one.b * p[:, 1] + one.c, one.d * p[:, 0] + one.e * p[:, 1] + one.f]
            ),
        )
        for box in boxes
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raster = write_raster(folder / "r.tif", scene(2, 60, 80), transform=transform)
        layer = write_vector(folder / "l.gpkg", on_map, classvalue=[1, 2, 3])
        job = ExportTrainingData(
            (raster,),
            str(folder / "o"),
            "PASCAL_VOC_rectangles",
            labels=layer,
            tile_size_x=tile[0],
            tile_size_y=tile[1],
            stride_x=stride[0],
            stride_y=stride[1],
            reference_system=space,
            all_tiles=True,
        )
        runner.run(job, LocalSession(folder))
        data = open_chips(folder / "o")
        for chip in data.chips:
            with rasterio.open(chip.image) as file:
                check_pixels(file.read(), file.transform, transform)
                check_labels(data.boxes(chip), file.transform, on_map)


def check_pixels(pixels, chip, raster):
    y, x = np.mgrid[: pixels.shape[1], : pixels.shape[2]] + 0.5
    both = ~raster * chip
    column, row = both.a * x + both.b * y + both.c, both.d * x + both.e * y + both.f
    # Away from pixel edges, where rounding may choose either neighbour.
    clear = (np.abs(column - np.round(column)) > 0.02) & (np.abs(row - np.round(row)) > 0.02)
    column, row = np.floor(column).astype(int), np.floor(row).astype(int)
    inside = (column >= 0) & (column < 80) & (row >= 0) & (row < 60)
    good = clear & inside
    assert np.array_equal(pixels[:, good], scene(2, 60, 80)[:, row[good], column[good]])
    assert not pixels[:, clear & ~inside & ((column < -1) | (column > 80) | (row < -1) | (row > 60))].any()


def check_labels(found, chip, on_map):
    cell = np.hypot(chip.a, chip.d)
    for (xmin, ymin, xmax, ymax), value in zip(found.boxes.tolist(), found.labels.tolist()):
        corners = [chip * one for one in ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax))]
        # Grown by half a pixel, the object's surroundings hold the box, and it touches the object.
        around = shapely.transform(
            shapely.box(*shapely.transform(on_map[value - 1], lambda p: to_chip(p, chip)).bounds),
            lambda p: np.column_stack(
                [chip.a * p[:, 0] + chip.b * p[:, 1] + chip.c, chip.d * p[:, 0] + chip.e * p[:, 1] + chip.f]
            ),
        )
        assert around.buffer(0.5 * cell).covers(shapely.Polygon(corners))
        assert shapely.Polygon(corners).buffer(0.5 * cell).intersects(on_map[value - 1])


def to_chip(points, chip):
    inverse = ~chip
    x, y = points.T
    return np.column_stack([inverse.a * x + inverse.b * y + inverse.c, inverse.d * x + inverse.e * y + inverse.f])


@given(st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 90), st.integers(1, 90), st.floats(0, 359.9))
def test_turning_keeps_the_centre_and_lengths(col, row, width, height, degrees):
    placement = turned(Window(col, row, width, height), degrees)
    assert placement * (width / 2, height / 2) == pytest.approx((col + width / 2, row + height / 2))
    assert placement.determinant == pytest.approx(1)
    corner = placement * (0, 0)
    centre = placement * (width / 2, height / 2)
    assert np.hypot(corner[0] - centre[0], corner[1] - centre[1]) == pytest.approx(np.hypot(width, height) / 2)
