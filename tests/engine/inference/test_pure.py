"""Tiles, suppression, seams, blending, polygons and augmentation, each against an independent answer."""

from __future__ import annotations

import time

import numpy as np
import pytest
import rasterio.features
import shapely
from deep_raster.engine.errors import JobError
from deep_raster.engine.inference.augment import SYMMETRIES, augmented_detections, augmented_scores, turned, turned_back
from deep_raster.engine.inference.blend import Blender, ramp
from deep_raster.engine.inference.nms import suppress_boxes, suppress_polygons
from deep_raster.engine.inference.polygons import regularised, rings_polygon, simplified
from deep_raster.engine.inference.receptive import receptive_field_halo
from deep_raster.engine.inference.tiles import (
    Tile,
    TileLayout,
    fixed_spans,
    free_spans,
    group_inner,
    plan_groups,
    plan_tiles,
    widest,
)
from deep_raster.engine.inference.walk import Walk
from deep_raster.engine.models.base import Detections, TilePlan
from deep_raster.engine.raster.window import Window
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage


def assert_partition(spans, length):
    assert spans[0].inner_start == 0
    assert spans[-1].inner_stop == length
    for one, other in zip(spans, spans[1:]):
        assert one.inner_stop == other.inner_start
        assert one.inner_start < one.inner_stop
    for one in spans:
        assert one.start <= one.inner_start
        assert one.inner_stop <= one.stop


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 300), st.integers(0, 80), st.sampled_from([1, 1, 4, 32]))
def test_fixed_tiles_partition_an_axis_with_full_context(length, size, halo, multiple):
    if size <= 2 * halo:
        with pytest.raises(JobError):
            fixed_spans(length, size, halo, multiple)
        return
    spans = fixed_spans(length, size, halo, multiple)
    assert_partition(spans, length)
    for one in spans:
        assert one.size == size
        assert one.start >= 0
        assert one.start == 0 or one.inner_start - one.start >= halo
        assert one.stop >= length or one.stop - one.inner_stop >= halo
        assert length <= size or one.stop < length + multiple


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 5000),
    st.integers(64, 1500),
    st.integers(0, 31),
    st.sampled_from([1, 8, 32]),
    st.sampled_from([1, 256]),
)
def test_free_tiles_start_at_multiples_and_end_at_the_image(length, size, halo, multiple, align):
    if size - 2 * halo < multiple:
        return
    spans = free_spans(length, size, halo, multiple, align)
    assert_partition(spans, length)
    padded = -(-length // multiple) * multiple
    for one in spans:
        assert one.start % multiple == 0
        assert one.size % multiple == 0
        assert one.start >= 0
        assert one.stop <= padded
        assert one.start == 0 or one.inner_start - one.start >= halo
        assert one.stop == padded or one.stop - one.inner_stop >= halo


def test_free_tiles_cost_little():
    for halo in (16, 48, 64):
        layout = plan_tiles(10240, 10240, TilePlan(512, 512, halo, fixed=False, multiple=16, exact=True), align=512)
        assert layout.redundancy <= 1.15


def test_groups_cover_each_tile_once():
    layout = plan_tiles(1000, 700, TilePlan(64, 64, 8))
    grouping = plan_groups(layout, read_bytes=4, kept_bytes=2, at_least=5)
    cover = np.zeros((700, 1000), int)
    for number in range(grouping.count):
        cover[group_inner(layout, grouping.group(number)).slices()] += 1
    assert grouping.count >= 5
    assert (cover == 1).all()
    tiles = np.zeros((700, 1000), int)
    for tile in layout:
        tiles[tile.inner.slices()] += 1
    assert (tiles == 1).all()


def test_groups_of_large_rasters_hold_no_more_than_those_of_small_ones():
    free = TilePlan(512, 512, 0, fixed=False, exact=True)
    for side, strips in ((4096, (256, 256)), (10240, (256, 256)), (100_000, (256, 256)), (10240, (1, 10240))):
        layout = plan_tiles(side, side, free, align=256)
        grouping = plan_groups(layout, read_bytes=4, kept_bytes=2, at_least=12, block=strips, row_wise=strips[0] == 1)
        group = group_inner(layout, grouping.group(grouping.count // 2))
        assert group.width * group.height <= max(1.5 * 2**20, 512 * strips[1]), side


def test_tiles_that_overlap_form_groups_many_blocks_wide():
    layout = plan_tiles(20480, 20480, TilePlan(512, 512, 48, fixed=False, multiple=16, exact=True), align=256)
    grouping = plan_groups(layout, read_bytes=4, kept_bytes=2, at_least=12, block=(256, 256))
    inner = group_inner(layout, grouping.group(grouping.columns + 1))
    assert (widest(layout, grouping) + 256) / inner.width <= 1.15


@pytest.mark.parametrize("done", [set(), {0}, {5, 6, 20}, set(range(24))])
def test_a_walk_visits_each_unfinished_group_once(done):
    items = [(0, 3, 4), (12, 5, 2), (22, 1, 2)]
    assert sorted(Walk(items, done)) == sorted(set(range(24)) - done)
    walk = Walk(items, done)
    seen = []
    for group in walk:
        seen.append(group)
        walk.finished(group)
    assert sorted(seen) == sorted(set(range(24)) - done)


def test_a_worker_goes_on_below_where_it_was():
    walk = Walk([(0, 8, 3)], set())
    order = iter(walk)
    places = [next(order), next(order)]
    ways = [[places[0]], [places[1]]]
    for turn in range(6):
        worker = turn % 2
        walk.finished(places[worker])
        places[worker] = next(order)
        ways[worker].append(places[worker])
    for way in ways:
        # Numbers count row by row, so the group below is three further; after the last row comes the next column.
        steps = [after - before for before, after in zip(way, way[1:])]
        assert all(step == 3 or step == 1 - 3 * 7 for step in steps), way


def random_boxes(count, side, classes, seed=0):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, side, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(20, 80, (count, 2))], axis=1)
    return boxes, random.random(count), random.integers(0, classes, count)


@pytest.mark.parametrize(("count", "side"), [(1, 10), (300, 300), (5000, 900), (20000, 9000)])
@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.7])
def test_suppression_agrees_with_torchvision(count, side, overlap):
    torch, torchvision = pytest.importorskip("torch"), pytest.importorskip("torchvision")
    boxes, scores, labels = random_boxes(count, side, 3)
    expected = torchvision.ops.batched_nms(
        torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), overlap
    ).numpy()
    np.testing.assert_array_equal(suppress_boxes(boxes, scores, labels, overlap), expected)
    squares = shapely.box(*boxes.T)
    if count <= 5000:
        np.testing.assert_array_equal(suppress_polygons(squares, scores, labels, overlap), expected)


def test_equal_scores_keep_the_larger_then_the_earlier():
    boxes = [(0, 0, 10, 10), (0, 0, 12, 10), (50, 0, 60, 10), (50, 0, 60, 10)]
    assert suppress_boxes(boxes, [0.5] * 4, None, 0.3).tolist() == [1, 2]


def test_touching_boxes_do_not_overlap():
    assert len(suppress_boxes([(0, 0, 10, 10), (10, 0, 20, 10)], [0.9, 0.5], None, 0.0)) == 2
    assert suppress_boxes(np.zeros((0, 4)), [], [], 0.5).tolist() == []


def test_suppression_of_many_boxes_is_fast():
    boxes, scores, labels = random_boxes(100_000, 20_000, 5)
    times = []
    for _ in range(3):
        start = time.thread_time()
        suppress_boxes(boxes, scores, labels, 0.3)
        times.append(time.thread_time() - start)
    assert min(times) < 0.5


def test_blending_restores_what_tiles_agree_on():
    random = np.random.default_rng(0)
    whole = random.random((2, 90, 130)).astype(np.float32)
    layout = TileLayout(fixed_spans(130, 48, 8), fixed_spans(90, 48, 8))
    blender = Blender(Window(0, 0, 130, 90), 2)
    for tile in layout:
        row, column = divmod(tile.index, len(layout.columns))
        weights = ramp(layout.rows[row], 16, 90), ramp(layout.columns[column], 16, 130)
        part = whole[(slice(None), *tile.window.slices())]
        assert part.shape[1:] == (48, 48)
        blender.add(tile, part, weights)
    np.testing.assert_allclose(blender.result(), whole, atol=1e-6)


def test_blending_runs_smoothly_from_one_tile_to_the_next():
    spans = fixed_spans(80, 48, 8)
    blender = Blender(Window(0, 0, 80, 1), 1)
    for number, span in enumerate(spans):
        tile = Tile(number, Window(span.start, 0, 48, 1), Window(span.inner_start, 0, 1, 1))
        blender.add(tile, np.full((1, 1, 48), number, np.float32), (np.ones(1), ramp(span, 16, 80)))
    steps = np.diff(blender.result()[0, 0])
    assert steps.min() >= 0
    assert steps.max() < 0.11


def test_simpler_outlines():
    disc = (np.hypot(*np.mgrid[-40:40, -40:40]) < 30).astype(np.uint8)
    (outline,) = (shapely.geometry.shape(one) for one, _ in rasterio.features.shapes(disc, mask=disc > 0))
    simple = simplified(outline, 1.5)
    assert len(shapely.get_coordinates(simple)) < len(shapely.get_coordinates(outline)) / 3
    assert simple.hausdorff_distance(outline) <= 1.5 + 1e-9
    building = shapely.Polygon([(0, 0), (40, 1), (40.5, 20), (20, 20.3), (19.5, 40), (0.4, 39)])
    straight = regularised(building, 2.0)
    points = shapely.get_coordinates(straight)
    steps = np.diff(points, axis=0)
    following = np.roll(steps, -1, axis=0)
    cosines = (steps * following).sum(1) / np.maximum(np.hypot(*steps.T) * np.hypot(*following.T), 1e-9)
    assert len(points) == 7
    np.testing.assert_allclose(cosines, 0, atol=1e-9)
    assert straight.intersection(building).area / straight.union(building).area > 0.93


def test_rings_that_cross_themselves_keep_their_area():
    bow_tie = rings_polygon([np.array([(0, 0), (4, 4), (4, 0), (0, 4)], float)])
    assert shapely.is_valid(bow_tie)
    assert bow_tie.area == pytest.approx(8)
    assert rings_polygon([np.zeros((2, 2))]) is None


@pytest.mark.parametrize("symmetry", SYMMETRIES)
def test_turning_back_undoes_turning(symmetry):
    image = np.arange(24).reshape(1, 4, 6)
    np.testing.assert_array_equal(turned_back(turned(image, symmetry), symmetry), image)


def test_augmentation_of_an_indifferent_network_changes_nothing():
    image = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
    valid = np.ones((1, 8, 8), bool)
    for policy in ("mean", "max", "min"):
        np.testing.assert_allclose(augmented_scores(lambda p, v: p * 2, image, valid, policy), image * 2, rtol=1e-6)


def test_augmentation_joins_by_policy():
    image = np.zeros((1, 1, 4, 4), np.float32)
    image[0, 0, 0, 0] = 1
    left = lambda p, v: np.where(np.arange(4) < 2, p, 0)  # noqa: E731 - sees the left half only
    answers = {
        one: augmented_scores(left, image, np.ones((1, 4, 4), bool), one)[0, 0, 0, 0] for one in ("mean", "max", "min")
    }
    assert answers == {"mean": 0.5, "max": 1.0, "min": 0.0}


@pytest.mark.parametrize("shape", [(20, 20), (20, 30)])
def test_augmented_objects_come_back_to_their_place(shape):
    image = np.zeros((1, 1, *shape), np.uint8)
    image[0, 0, 3:7, 11:17] = 200

    def detect(pixels, valid):
        answers = []
        for one in pixels:
            boxes = [
                (c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(ndimage.label(one[0] > 100)[0])
            ]
            x0, y0, x1, y1 = boxes[0]
            ring = np.array([(x0, y0), (x1, y0), (x1, y1)], float)
            answers.append(
                Detections(np.array(boxes, np.float32), np.array([0.5], np.float32), np.array([0]), [[ring]])
            )
        return answers

    (found,) = augmented_detections([detect], image, image[:, 0] >= 0, "mean")
    assert found.boxes.tolist() == [[11, 3, 17, 7]]
    assert found.scores.tolist() == [0.5]
    ring = np.asarray(found.rings[0][0])
    assert [ring[:, 0].min(), ring[:, 1].min(), ring[:, 0].max(), ring[:, 1].max()] == [11, 3, 17, 7]


def test_receptive_field_of_known_convolutions():
    def network(radius):
        kernel = np.random.default_rng(3).random((2 * radius + 1, 2 * radius + 1))
        return lambda p, v: np.stack(
            [np.stack([ndimage.convolve(one[0].astype(float), kernel, mode="constant")]) for one in p]
        )

    assert receptive_field_halo(network(3), 1, np.uint8) == 3
    assert receptive_field_halo(network(0), 1, np.uint8) == 0
    assert receptive_field_halo(network(5), 1, np.uint8, multiple=8) == 8
    assert receptive_field_halo(network(12), 1, np.float32, limit=8) is None
    assert receptive_field_halo(lambda p, v: p - p.mean(), 1, np.float32) is None
