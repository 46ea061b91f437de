from __future__ import annotations

import struct

import numpy as np
import pyogrio.raw
import pytest
import shapely
from deep_raster.engine.jobs import VectorInput
from deep_raster.engine.raster.simple_polygons import Outlines, polygons_of
from deep_raster.engine.raster.vector import read_features

CENTRE = np.array([5e5, 5e6])


def rings(number, random):
    """Return closed rings of 3 to 12 corners about a centre: star-shaped, shuffled (mostly crossing), with repeats."""
    found = []
    for kind in random.integers(0, 5, number):
        corners = int(random.integers(3, 13))
        angles = np.sort(random.uniform(0, 2 * np.pi, corners))
        if kind == 1:
            random.shuffle(angles)
        if kind == 2:
            angles = angles * 2  # twice around
        radii = random.uniform(0.01 if kind == 3 else 0.5, 1, corners) * 10.0 ** random.integers(-8, 4)
        points = CENTRE + radii[:, None] * np.column_stack([np.cos(angles), np.sin(angles)])
        if kind == 4:
            points = np.round(points)  # corners fall together, edges overlap
        points = points[:: random.choice([-1, 1])]
        found.append(np.concatenate([points, points[:1]]))
    return found


def outlines_of(found):
    return Outlines(np.concatenate(found), np.array([len(one) for one in found]))


def test_what_is_surely_valid_is_valid():
    outlines = outlines_of(rings(20_000, np.random.default_rng(1)))
    valid, surely = shapely.is_valid(outlines.polygons()), outlines.surely_valid()
    assert 0.2 < valid.mean() < 0.8
    assert not (surely & ~valid).any()
    assert surely.sum() > 0.5 * valid.sum()


def test_each_fault_is_seen():
    turns = np.arange(6) * 0.8 * np.pi
    pentagram = np.column_stack([np.cos(turns), np.sin(turns)])
    pentagram[-1] = pentagram[0]
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)], dtype=float)
    found = [
        pentagram,
        square[[0, 2, 1, 3, 0]],  # bow tie
        square[[0, 1, 0, 1, 0]],  # no area
        square[[0, 0, 0, 0]],
        np.concatenate([square[:4], square]),  # twice around
        np.where(np.arange(5)[:, None] == 2, np.nan, square),
        square,
        square[::-1],
        square + 1e15,
    ]
    assert outlines_of(found).surely_valid().tolist() == [False] * 6 + [True] * 3


def test_measures_and_choices_agree_with_shapely():
    random = np.random.default_rng(2)
    outlines = outlines_of([one for one in rings(300, random) if shapely.Polygon(one).is_valid])
    polygons = outlines.polygons()
    assert np.array_equal(outlines.bounds(), shapely.bounds(polygons))
    sizes = np.ptp(outlines.bounds().reshape(-1, 2, 2), axis=1).prod(axis=1)
    assert (np.abs(outlines.areas() - shapely.area(polygons)) <= 1e-6 * sizes + 1e-9 * np.sqrt(sizes)).all()
    for index in (slice(3, 9), slice(0, 0), slice(5, None), np.array([7, 2, 2]), random.random(len(outlines)) < 0.5):
        some = outlines[index]
        assert shapely.equals_exact(some.polygons(), polygons[index]).all()
        assert some.owners().tolist() == np.repeat(np.arange(len(some)), some.counts).tolist()
        assert np.array_equal(some.bounds(), shapely.bounds(polygons[index]).reshape(-1, 4))
    assert np.array_equal(Outlines.of(polygons).points, outlines.points)


@pytest.mark.parametrize(
    "other",
    [
        shapely.Polygon([(0, 0), (2, 2), (2, 0), (0, 2)]),
        shapely.box(0, 0, 9, 9).difference(shapely.box(3, 3, 5, 5)),
        shapely.MultiPolygon([shapely.box(0, 0, 1, 1)]),
        shapely.Point(1, 2),
        shapely.LineString([(0, 0), (1, 1), (2, 0), (0, 0)]),
        shapely.Polygon(),
        None,
    ],
)
def test_other_shapes_need_a_closer_look(other):
    boxes = [shapely.box(i, 0, i + 1, 1) for i in range(3)]
    assert len(Outlines.from_wkb(shapely.to_wkb(np.array(boxes, dtype=object)))) == 3
    wkb = shapely.to_wkb(np.array([*boxes, other], dtype=object))
    assert Outlines.from_wkb(wkb) is None
    big = shapely.to_wkb(np.array(boxes, dtype=object), byte_order=0)
    assert Outlines.from_wkb(big) is None


def test_open_and_endless_rings_need_a_closer_look():
    for points in ([(0, 0), (3, 0), (3, 2), (0, 2)], [(0, 0), (np.inf, 0), (3, 2), (0, 0)]):
        ring = b"".join(struct.pack("<2d", *one) for one in points)
        assert Outlines.from_wkb(np.array([struct.pack("<BIII", 1, 3, 1, 4) + ring], dtype=object)) is None


def test_shapes_that_bend_away_from_their_middle_are_taken_all_the_same():
    bent = shapely.Polygon([(0, 0), (9, 0), (9, 9), (0, 9), (0, 8), (8, 8), (8, 1), (0, 1)])
    found = Outlines.from_wkb(shapely.to_wkb(np.array([bent, shapely.box(0, 0, 1, 1)], dtype=object)))
    assert found.surely_valid().tolist() == [False, True]
    assert found.polygons()[0].equals(bent)


@pytest.mark.filterwarnings("ignore")
def test_a_layer_is_read_alike_with_outlines_and_without(tmp_path):
    random = np.random.default_rng(3)
    shapes = [shapely.box(x, y, x + 3, y + 2) for x, y in random.uniform(0, 100, (200, 2))]
    shapes += [shapely.Polygon([(40 + x, 0), (42 + x, 90), (41 + x, 0)]) for x in range(3)]
    bow_tie = shapely.Polygon([(50, 50), (60, 60), (60, 50), (50, 60)])
    bounds = (20.0, 20.0, 60.0, 55.0)
    read = []
    for name, more in (("plain", []), ("mixed", [bow_tie])):
        wkb = shapely.to_wkb(np.array([*shapes, *more], dtype=object))
        path = str(tmp_path / f"{name}.gpkg")
        data = [np.arange(len(wkb))]
        pyogrio.raw.write(path, wkb, data, ["number"], geometry_type="Unknown", crs="EPSG:32633")
        found = read_features(VectorInput(path), bounds=bounds)
        read.append(found.take(np.argsort(found.fids)))
    plain, mixed = read
    assert isinstance(plain.shapes, Outlines)
    assert not isinstance(mixed.shapes, Outlines)
    assert (plain.repaired, mixed.repaired) == (0, 1)
    expected = np.flatnonzero(shapely.intersects(shapes, shapely.box(*bounds)))
    assert 20 < len(expected) < 200
    assert plain.column("number").tolist() == expected.tolist()
    assert mixed.column("number").tolist() == [*expected.tolist(), len(shapes)]
    assert shapely.equals_exact(plain.geometries, mixed.geometries[:-1]).all()
    assert np.allclose(plain.areas, mixed.areas[:-1], rtol=1e-12)
    assert polygons_of(mixed.shapes) is mixed.shapes
