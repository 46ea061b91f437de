"""Which objects are in which chip: against shapely one by one, and GDAL's pixels."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from affine import Affine
from deep_raster.engine.chips import label_store
from deep_raster.engine.chips.class_maps import of_features
from deep_raster.engine.chips.objects import ChipFrame, Objects, turned
from deep_raster.engine.raster.window import Window
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.features import rasterize

GRID = Window(0, 0, 50, 40)
# Quarters of pixels, so that edges of objects and chips often coincide.
quarters = st.integers(-40, 240).map(lambda one: one / 4)
triangles = st.tuples(quarters, quarters, quarters, quarters, quarters, quarters)


def objects_of(shapes) -> Objects:
    found = np.empty(len(shapes), dtype=object)
    found[:] = shapes
    numbers = np.arange(1, len(shapes) + 1)
    return Objects(found, numbers, shapely.area(found), numbers)


def frames(turn: float) -> list[ChipFrame]:
    windows = [Window(col, row, 20, 20) for row in (0, 20) for col in (0, 20, 40)]
    return [ChipFrame(n, 20, 20, turned(one, turn), int(turn != 0)) for n, one in enumerate(windows)]


@pytest.mark.parametrize(("turn", "least"), [(0, 0.0), (30, 0.0), (90, 0.0), (0, 0.4)])
@settings(max_examples=25, deadline=None)
@given(st.lists(triangles, min_size=1, max_size=6), st.booleans())
def test_class_maps_show_the_objects_with_an_area_in_the_chip(turn, least, corners, holed):
    shapes = [shapely.Polygon(np.reshape(one, (3, 2))) for one in corners]
    shapes = [one for one in shapes if one.area > 0.01]
    if holed:
        shapes.append(shapely.box(-3, -3, 60, 60).difference(shapely.box(5, 5, 30, 30)))
    if not shapes:
        return
    image = shapely.box(0, 0, 50, 40)
    for frame, found in zip(frames(turn), of_features(objects_of(shapes), frames(turn), least, GRID, "uint8")):
        parts = [one.intersection(frame.footprint).intersection(image).area for one in shapes]
        shares = [part / one.area for part, one in zip(parts, shapes)]
        if any(0 < part < 1e-6 or abs(share - least) < 1e-8 < least for part, share in zip(parts, shares)):
            continue  # rounding may decide either way
        kept = [n for n, (part, share) in enumerate(zip(parts, shares), 1) if part > 0 and share >= least]
        assert found.values.tolist() == kept
        if turn:
            continue
        window = frame.window
        place = Affine.translation(window.col, window.row)
        burnt = [(shapes[n - 1], n) for n in kept] or [(shapely.box(-9, -9, -8, -8), 1)]
        theirs = rasterize(burnt, out_shape=(20, 20), transform=place, dtype="uint8")
        theirs[max(0, 40 - window.row) :] = 0
        theirs[:, max(0, 50 - window.col) :] = 0
        rows, columns = np.nonzero(found.pixels != theirs)
        centres = shapely.points(columns + window.col + 0.5, rows + window.row + 0.5)
        edges = shapely.union_all([one.boundary for one in (*shapes, image)])
        assert (shapely.distance(centres, edges) < 1e-9).all()  # a centre on an edge may belong to either side


@pytest.mark.parametrize("holed", [False, True])
def test_stored_objects_come_back(tmp_path, holed):
    shapes = [shapely.Polygon([(0, 0), (5.5, 0.1), (3, 4)]), shapely.box(-1, 2, 7, 9)]
    if holed:
        ring = shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 5, 5))
        shapes += [ring, shapely.MultiPolygon([shapely.box(0, 0, 1, 1), shapely.box(3, 3, 4, 4)])]
    objects = objects_of(shapes)
    label_store.save(tmp_path / "7.npys", objects)
    again = label_store.load(tmp_path / "7.npys")
    assert shapely.to_wkb(again.geometries).tolist() == shapely.to_wkb(objects.geometries).tolist()
    for name in ("values", "areas", "fids"):
        assert np.array_equal(getattr(again, name), getattr(objects, name))


def test_no_file_means_no_objects(tmp_path):
    assert len(label_store.load(tmp_path / "7.npys")) == 0
