"""Objects that come row by row of tiles against the same rules applied to all at once, pair by pair."""

import numpy as np
import pytest
import shapely
from deep_raster.engine.inference.nms import box_areas, suppress_boxes, suppress_polygons
from deep_raster.engine.inference.object_stream import Found, ObjectStream
from deep_raster.engine.inference.seams import Objects, Seams, at_home, cut_sides, owned
from deep_raster.engine.inference.tiles import TileLayout, fixed_spans
from deep_raster.engine.raster.window import Window

WHOLE = Window(0, 0, 420, 500)


def found(boxes, scores, labels, tiles, layout, whole=WHOLE, outlines=None):
    boxes, tiles = np.asarray(boxes, float).reshape(-1, 4), np.asarray(tiles, np.int64)
    columns = len(layout.columns)
    images = [layout.tile(*divmod(one, columns)) for one in tiles.tolist()]
    cut = [cut_sides(box[None], tile.window, whole)[0] for box, tile in zip(boxes, images)]
    home = [at_home(box[None], tile.inner)[0] for box, tile in zip(boxes, images)]
    objects = Objects(
        boxes, np.asarray(scores, np.float32), np.asarray(labels, np.int64), tiles,
        np.array(cut, np.uint8), np.array(home, bool),
    )  # fmt: skip
    none = np.empty(len(boxes), dtype=object)
    return Found(objects, np.arange(len(boxes)), none.copy() if outlines is None else outlines, none)


def seen_in(layout, tiles):
    seen = np.zeros((len(layout.rows), len(layout.columns)), bool)
    seen.flat[np.asarray(tiles, int)] = True
    return seen


def streamed(everything, layout, shape=None, max_overlap=None):
    """Return what stays and the most that was held, the objects given row by row of tiles."""
    stream = ObjectStream(Seams(layout, seen_in(layout, everything.objects.tiles)), shape, max_overlap)
    row = everything.objects.tiles // len(layout.columns)
    tops = everything.objects.boxes[:, 1].copy()
    for position, outline in enumerate(everything.outlines):
        if outline is not None:
            tops[position] = min(tops[position], outline.bounds[1])
    parts, held = [], 0
    for one in range(len(layout.rows)):
        parts.append(stream.add(everything.take(row == one), tops[row > one].min(initial=np.inf)))
        held = max(held, sum(len(getattr(stream, name)) for name in ("_parts", "_sightings", "_rivals")))
    return Found.join(parts).in_order(), held


def iou(a, b):
    common = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0, common


def meets(a, b, by):
    return a[0] - by <= b[2] and b[0] <= a[2] + by and a[1] - by <= b[3] and b[1] <= a[3] + by


def all_at_once(everything, layout, max_overlap):
    """Return [(box, score, label)] by the rules of the modules' texts, in plain loops over all pairs."""
    one, columns = everything.objects, len(layout.columns)
    boxes, tiles, cut = one.boxes.tolist(), one.tiles.tolist(), one.cut.tolist()
    windows = {}
    for tile in set(tiles):
        w = layout.tile(*divmod(tile, columns)).window
        windows[tile] = (w.col, w.row, w.right, w.bottom)
    near = [any(t != tile and meets(box, w, 2) for t, w in windows.items()) for box, tile in zip(boxes, tiles)]
    group = list(range(len(boxes)))
    for j in range(len(boxes)):
        for i in range(j):
            if not (cut[i] and cut[j] and near[i] and near[j]) or tiles[i] == tiles[j]:
                continue
            if one.labels[i] != one.labels[j] or not meets(boxes[i], boxes[j], 4):
                continue
            a, b = windows[tiles[i]], windows[tiles[j]]
            shared = (max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3]))
            parts = []
            for box in (boxes[i], boxes[j]):
                low = [max(box[0], shared[0]), max(box[1], shared[1])]
                parts.append([*low, max(min(box[2], shared[2]), low[0]), max(min(box[3], shared[3]), low[1])])
            assert min(shared[2] - shared[0], shared[3] - shared[1]) >= 4, "the layouts here have a halo"
            if iou(*parts)[0] >= 0.5:
                old, new = max(group[i], group[j]), min(group[i], group[j])
                group = [new if g == old else g for g in group]
    entries = []
    for first in sorted(set(group)):
        members = [k for k, g in enumerate(group) if g == first]
        hull = [f(boxes[k][side] for k in members) for side, f in enumerate((min, min, max, max))]
        score = max(float(one.scores[k]) for k in members)
        joined = len(members) > 1
        entries.append((hull, score, int(one.labels[first]), tiles[first], 0 if joined else cut[first],
                        bool(one.home[first]), joined, near[first]))  # fmt: skip
    stays = [e for e in entries if not e[7]]
    kept = []
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])  # noqa: E731
    for e in sorted((e for e in entries if e[7]), key=lambda e: (e[4] > 0, not e[5], -e[1], -area(e[0]))):
        for k in kept:
            if k[2] != e[2] or not (k[3] != e[3] or k[6] or e[6]):
                continue
            share, common = iou(e[0], k[0])
            if max(share, common / area(e[0]) if e[4] > 0 or k[6] else 0) > 0.5 - 1e-9:
                break
        else:
            kept.append(e)
    found = [(tuple(e[0]), e[1], e[2]) for e in stays + kept]
    if max_overlap is not None:
        winners = []
        for e in sorted(found, key=lambda e: (-e[1], -area(e[0]))):
            if all(w[2] != e[2] or iou(w[0], e[0])[0] <= max_overlap for w in winners):
                winners.append(e)
        found = winners
    return sorted(found)


def reports(seed, count, layout, longest):
    """What the tiles of a scene report: true objects cut by images, a little displaced in each."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 1, (count, 2)) * (WHOLE.width, WHOLE.height)
    size = random.uniform(6, longest, (count, 2))
    truth = np.concatenate([corner, np.minimum(corner + size, (WHOLE.width, WHOLE.height))], 1)
    labels = random.integers(0, 2, count)
    rows = []
    for tile in layout:
        w = tile.window
        jitter = random.normal(0, 0.4, truth.shape)
        boxes = np.clip(truth + jitter, (w.col, w.row) * 2, (w.right, w.bottom) * 2)
        boxes = np.clip(boxes, 0, (WHOLE.width, WHOLE.height) * 2)
        usable = (boxes[:, 2] - boxes[:, 0] > 2) & (boxes[:, 3] - boxes[:, 1] > 2)
        usable &= owned(boxes, cut_sides(boxes, w, WHOLE), tile.inner, 10)
        rows += [(boxes[i], random.random(), labels[i], tile.index) for i in np.flatnonzero(usable)]
    return found(*zip(*rows), layout)


@pytest.mark.parametrize("longest", [15, 60, 300])
@pytest.mark.parametrize("max_overlap", [None, 0.0, 0.3])
def test_row_by_row_is_as_all_at_once(longest, max_overlap):
    layout = TileLayout(fixed_spans(WHOLE.width, 72, 10), fixed_spans(WHOLE.height, 64, 10))
    for seed in range(3):
        everything = reports(seed, 150 if longest < 100 else 25, layout, longest)
        result, held = streamed(everything, layout, None, max_overlap)
        objects = result.objects
        got = sorted(zip(map(tuple, objects.boxes.tolist()), objects.scores.tolist(), objects.labels.tolist()))
        assert got == all_at_once(everything, layout, max_overlap)
        if longest == 15:
            assert held < len(everything) / 3


def test_overlapping_polygons_are_suppressed_row_by_row():
    layout = TileLayout(fixed_spans(WHOLE.width, 72, 10), fixed_spans(WHOLE.height, 64, 10))
    everything = reports(5, 400, layout, 30)
    middle = (everything.objects.boxes[:, :2] + everything.objects.boxes[:, 2:]) / 2
    outlines = shapely.buffer(shapely.points(middle), np.sqrt(box_areas(everything.objects.boxes)) / 1.7)
    everything = Found(everything.objects, everything.numbers, outlines, everything.attributes)
    left, _ = streamed(everything, layout, 4)
    result, _ = streamed(everything, layout, 4, 0.2)
    kept = suppress_polygons(left.outlines, left.objects.scores, left.objects.labels, 0.2)
    assert 0 < len(kept) < len(left)
    assert result.numbers.tolist() == sorted(left.numbers[kept].tolist())


@pytest.mark.parametrize("spread", [4, 40])
@pytest.mark.parametrize("shapes", [False, True])
def test_suppression_in_crowds_is_greedy(spread, shapes):
    random = np.random.default_rng(spread)
    middle = random.uniform(0, 500, (12, 2))[random.integers(0, 12, 500)] + random.normal(0, spread, (500, 2))
    size = random.uniform(4, 20, (500, 2))
    boxes = np.concatenate([middle - size, middle + size], 1)
    scores, labels = np.round(random.random(500), 2), random.integers(0, 3, 500)
    polygons = shapely.buffer(shapely.points(middle), size[:, 0], quad_segs=2)
    areas = shapely.area(polygons) if shapes else box_areas(boxes)
    expected = []
    for one in sorted(range(500), key=lambda i: (-scores[i], -areas[i], i)):
        for other in expected:
            if labels[one] != labels[other]:
                continue
            if shapes:
                common = polygons[one].intersection(polygons[other]).area
                share = common / (areas[one] + areas[other] - common)
            else:
                share = iou(boxes[one], boxes[other])[0]
            if share > 0.3:
                break
        else:
            expected.append(one)
    suppress, things = (suppress_polygons, polygons) if shapes else (suppress_boxes, boxes)
    assert suppress(things, scores, labels, 0.3).tolist() == expected
    assert len(expected) < 490


TWO = TileLayout(fixed_spans(100, 60, 10), fixed_spans(100, 100, 0))


def two_tiles(*rows, layout=TWO):
    everything = found(*zip(*rows), layout, Window(0, 0, 100, 100))
    return streamed(everything, layout)[0]


def test_parts_of_a_long_object_are_joined():
    result = two_tiles(((10, 10, 60, 20), 0.6, 0, 0), ((40, 10.5, 90, 20), 0.8, 0, 1), ((40, 50, 90, 60), 0.7, 0, 1))
    assert result.objects.boxes.tolist() == [[10, 10, 90, 20], [40, 50, 90, 60]]
    assert result.objects.scores.tolist() == pytest.approx([0.8, 0.7])
    assert result.numbers.tolist() == [0, 2]


def test_the_whole_sighting_stays():
    result = two_tiles(((42, 10, 60, 30), 0.9, 0, 0), ((42, 10, 70, 30), 0.5, 0, 1), ((42, 10, 70, 30), 0.4, 1, 1))
    assert result.objects.boxes.tolist() == [[42, 10, 70, 30], [42, 10, 70, 30]]
    assert result.objects.labels.tolist() == [0, 1]


def test_two_sightings_of_one_object_become_the_better_one():
    result = two_tiles(((45, 10, 55, 20), 0.5, 0, 0), ((20, 10, 30, 20), 0.3, 0, 0), ((45, 10, 55, 21), 0.6, 0, 1))
    assert result.numbers.tolist() == [1, 2]


def test_overlapping_objects_of_one_tile_are_left_alone():
    result = two_tiles(((45, 10, 55, 20), 0.5, 0, 0), ((45, 10, 55, 21), 0.6, 0, 0), ((80, 10, 90, 20), 0.3, 0, 1))
    assert len(result) == 3


def test_parts_that_only_touch_are_joined_without_a_halo():
    layout = TileLayout(fixed_spans(100, 50, 0), fixed_spans(100, 100, 0))
    rows = ((30, 10, 50, 20), 0.5, 0, 0), ((50, 10, 70, 21), 0.6, 0, 1), ((50, 60, 70, 70), 0.6, 0, 1)
    assert two_tiles(*rows, layout=layout).objects.boxes.tolist() == [[30, 10, 70, 21], [50, 60, 70, 70]]
