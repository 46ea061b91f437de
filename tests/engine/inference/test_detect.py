"""detectobjects from raster to GeoPackage: every square found once, wherever tiles cut, with and without CRS."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobCancelled, JobError, OutputError, RasterError, WorkerError
from deep_raster.engine.inference import detect
from inference_support import NORTH_UP, BlobDetector, InProcessSession, plan, write_raster


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


def digest(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def reversed_order(todo):
    return todo[::-1]


def shuffled(todo):
    return [todo[i] for i in np.random.default_rng(5).permutation(len(todo))]


@pytest.mark.parametrize("rings", [False, True])
def test_bytes_do_not_depend_on_workers_order_or_place(tmp_path, make_package, use_model, rings):
    pixels, _ = scene(count=60)
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    use_model(BlobDetector(plan(64, 16), rings))
    package, digests = make_package(), set()
    for number, (workers, order) in enumerate([(1, None), (2, reversed_order), (4, shuffled)]):
        output = tmp_path / str(number) / "out.gpkg"
        options = jobs.RunOptions(workers=workers)
        detect.run(job(raster, package, output, options=options), InProcessSession(tmp_path, workers, order))
        digests.add(digest(output))
    assert len(digests) == 1


def test_a_cancelled_job_goes_on_where_it_stopped(tmp_path, make_package, use_model):
    pixels, _ = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    model, package, output = use_model(BlobDetector(plan(64, 16))), make_package(), tmp_path / "out.gpkg"
    first = InProcessSession(tmp_path)
    first.stop_after = 3
    with pytest.raises(JobCancelled):
        detect.run(job(raster, package, output), first)
    assert not output.exists()
    journal = next(tmp_path.glob(".*.deepraster")) / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"group": 7, "fi')
    before, again = model.calls, InProcessSession(tmp_path)
    detect.run(job(raster, package, output), again)
    resumed = model.calls - before
    whole = tmp_path / "whole.gpkg"
    before = model.calls
    detect.run(job(raster, package, whole), InProcessSession(tmp_path))
    assert resumed < model.calls - before
    assert found_boxes(output)[0].tolist() == found_boxes(whole)[0].tolist()
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_part_is_done_again(tmp_path, make_package, use_model):
    pixels, squares = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    use_model(BlobDetector(plan(64, 16)))
    package, output = make_package(), tmp_path / "out.gpkg"
    first = InProcessSession(tmp_path)
    first.stop_after = 3
    with pytest.raises(JobCancelled):
        detect.run(job(raster, package, output), first)
    part = sorted((next(tmp_path.glob(".*.deepraster")) / "parts").glob("*.part"))[0]
    part.write_bytes(part.read_bytes()[:-3] + b"xyz")
    assert detect.run(job(raster, package, output), InProcessSession(tmp_path))["COUNT"] == len(squares)


def test_another_job_or_a_changed_raster_begins_anew(tmp_path, make_package, use_model):
    pixels, _ = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    model, package, output = use_model(BlobDetector(plan(64, 16))), make_package(), tmp_path / "out.gpkg"

    def calls(session, **changes):
        before = model.calls
        with contextlib.suppress(JobCancelled):
            detect.run(job(raster, package, output, **changes), session)
        return model.calls - before

    stopping = InProcessSession(tmp_path)
    stopping.stop_after = 3
    some = calls(stopping)
    write_raster(tmp_path / "scene.tif", np.flipud(pixels), NORTH_UP)
    assert calls(InProcessSession(tmp_path)) > some
    stopping = InProcessSession(tmp_path)
    stopping.stop_after = 3
    calls(stopping)
    anew = calls(InProcessSession(tmp_path), options=jobs.RunOptions(resume=False))
    assert anew == calls(InProcessSession(tmp_path))


def test_poisoned_parts_end_the_job_resumable_or_stay_empty(tmp_path, make_package, use_model):
    pixels, squares = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    use_model(BlobDetector(plan(64, 16)))
    package, output = make_package(), tmp_path / "out.gpkg"
    sick = InProcessSession(tmp_path)
    sick.poison = {0}
    with pytest.raises(WorkerError, match=r"1 of \d+ parts.*the worker died.*same job again"):
        detect.run(job(raster, package, output), sick)
    assert not output.exists()
    sick = InProcessSession(tmp_path)
    sick.poison = {0}
    options = jobs.RunOptions(arguments={"failed_tiles": "nodata"})
    found = detect.run(job(raster, package, output, options=options), sick)["COUNT"]
    assert 0 < found < len(squares)


def test_two_jobs_on_one_output_are_refused(tmp_path, session, make_package, use_model):
    from deep_raster.engine.inference.journal import WorkFolder

    raster = write_raster(tmp_path / "scene.tif", scene()[0], NORTH_UP)
    use_model(BlobDetector(plan()))
    output = tmp_path / "out.gpkg"
    with WorkFolder.for_output(str(output)).locked(), pytest.raises(OutputError, match="Another job"):
        detect.run(job(raster, make_package(), output), session)


def test_an_old_output_survives_a_failure(tmp_path, session, make_package, use_model):
    raster = write_raster(tmp_path / "scene.tif", scene()[0], NORTH_UP)
    use_model(BlobDetector(plan()))
    output = tmp_path / "out.gpkg"
    output.write_bytes(b"old")
    with pytest.raises(RasterError):
        detect.run(job(str(tmp_path / "missing.tif"), make_package(), output), session)
    assert output.read_bytes() == b"old"
    assert not list(tmp_path.glob(".*"))
    detect.run(job(raster, make_package(), output), session)
    assert pyogrio.read_info(output)["features"] > 0


@pytest.mark.parametrize(
    ("members", "options", "expected"),
    [
        ({"ModelType": "ImageClassification"}, {}, "is of the type ImageClassification"),
        ({"ExtractBands": [0, 4]}, {}, "needs 5 bands, but the raster offers 1"),
        ({}, {"arguments": {"no_such": "1"}}, "no argument called no_such"),
        ({}, {"arguments": {"merge_policy": "median"}}, "expected is one of mean, max, min"),
        ({}, {"extent": jobs.Extent(0, 0, 10, 10)}, "does not touch"),
        ({}, {"processing_mode": "SOMEHOW"}, "processing mode “SOMEHOW” is unknown"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_tile(
    tmp_path, session, make_package, use_model, members, options, expected
):
    raster = write_raster(tmp_path / "scene.tif", scene()[0], NORTH_UP)
    model = use_model(BlobDetector(plan()))
    with pytest.raises(JobError, match=expected):
        detect.run(
            job(raster, make_package(**members), tmp_path / "o.gpkg", options=jobs.RunOptions(**options)), session
        )
    assert model.calls == 0
    assert not list(tmp_path.glob("*.gpkg"))
    assert not list(tmp_path.glob(".*"))


def test_extent_and_mask_limit_what_is_found_and_what_is_read(tmp_path, session, make_package, use_model):
    pixels, squares = scene(shape=(400, 600), count=80)
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    model = use_model(BlobDetector(plan(64, 16)))
    area = shapely.Polygon([(600010, 4999990), (600120, 4999980), (600060, 4999850)])
    pyogrio.raw.write(
        tmp_path / "mask.gpkg", shapely.to_wkb(np.array([area], object)), [np.array([1])], ["n"], driver="GPKG",
        crs="EPSG:32632", geometry_type="Polygon",
    )  # fmt: skip
    options = jobs.RunOptions(mask=jobs.VectorInput(str(tmp_path / "mask.gpkg")))
    output = tmp_path / "out.gpkg"
    detect.run(job(raster, make_package(), output, options=options), session)
    boxes = [
        shapely.box(600000 + x0 / 2, 5000000 - y1 / 2, 600000 + x1 / 2, 5000000 - y0 / 2)
        for x0, y0, x1, y1, _ in squares
    ]
    expected = {one.bounds for one in boxes if area.intersects(one.centroid)}
    assert {one.bounds for one in found_boxes(output)[0]} == expected
    all_tiles = 10 * 14
    assert model.calls < all_tiles / 2
    inside = jobs.Extent(600050, 4999850, 600200, 4999950)
    detect.run(job(raster, make_package(), output, options=jobs.RunOptions(extent=inside)), session)
    found = found_boxes(output)[0]
    assert shapely.box(inside.xmin, inside.ymin, inside.xmax, inside.ymax).contains(shapely.union_all(found))
    whole = {one.bounds for one in boxes if shapely.box(600050, 4999850, 600200, 4999950).contains(one)}
    assert whole <= {one.bounds for one in found}


def test_items_are_detected_one_by_one_and_named(tmp_path, session, make_package, use_model):
    squares = []
    for number, crs in enumerate(["EPSG:32632", "EPSG:32633"]):
        pixels, found = scene(seed=number, count=10)
        write_raster(tmp_path / f"scene{number}.tif", pixels, NORTH_UP, crs)
        squares.append(found)
    use_model(BlobDetector(plan(64, 16)))
    inputs = tuple(jobs.RasterInput(str(tmp_path / f"scene{n}.tif"), name) for n, name in enumerate(["", "second"]))
    options = jobs.RunOptions(processing_mode=jobs.ITEMS_SEPARATELY)
    output = tmp_path / "out.gpkg"
    result = detect.run(job("", make_package(), output, inputs=inputs, options=options), session)
    shapes, fields = found_boxes(output)
    assert result["COUNT"] == 20
    assert fields["Item"].tolist() == ["scene0"] * 10 + ["second"] * 10
    from rasterio.warp import transform

    x, y = transform("EPSG:32632", "EPSG:32633", *[[one] for one in shapes[10].centroid.coords[0]])
    columns, rows = (x[0] - 600000) * 2, (5000000 - y[0]) * 2
    assert any(x0 - 1 < columns < x1 + 1 and y0 - 1 < rows < y1 + 1 for x0, y0, x1, y1, _ in squares[1])


def test_overlapping_objects_are_suppressed_only_if_asked(tmp_path, session, make_package, use_model):
    class Twice(BlobDetector):
        def detect(self, pixels, valid):
            from deep_raster.engine.models.base import Detections

            answers = []
            for one in super().detect(pixels, valid):
                shifted = one.boxes + np.array([1, 0, 1, 0], np.float32)
                answers.append(
                    Detections(
                        np.concatenate([one.boxes, shifted]),
                        np.concatenate([one.scores, one.scores / 2]),
                        np.concatenate([one.labels, one.labels]),
                        attributes=[{"Height": 3.5, "Class": ""}] * (2 * len(one.scores)),
                    )
                )
            return answers

    pixels, squares = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    use_model(Twice(plan(64, 16)))
    package = make_package()
    names = {"confidence_field": "score", "class_field": "kind"}
    kept = detect.run(job(raster, package, tmp_path / "a.gpkg", max_overlap=0.3, **names), session)["COUNT"]
    raw = detect.run(job(raster, package, tmp_path / "b.gpkg", run_nms=False, **names), session)["COUNT"]
    assert (kept, raw) == (len(squares), 2 * len(squares))
    fields = found_boxes(tmp_path / "a.gpkg")[1]
    assert list(fields) == ["kind", "Classvalue", "score", "Height"]
    assert set(fields["Height"]) == {3.5}


@pytest.mark.parametrize("transform", ["rotated", "south_up"])
def test_turned_rasters_give_objects_at_the_right_place(tmp_path, session, make_package, use_model, transform):
    from affine import Affine

    pixels, squares = scene(count=8)
    where = {
        "rotated": Affine.translation(600000, 5000000) * Affine.rotation(30) * Affine.scale(0.5, -0.5),
        "south_up": Affine(0.5, 0, 600000, 0, 0.5, 5000000),
    }[transform]
    raster = write_raster(tmp_path / "scene.tif", pixels, where)
    use_model(BlobDetector(plan(64, 16)))
    output = tmp_path / "out.gpkg"
    package = make_package(ImageSpaceUsed="PIXEL_SPACE")
    assert detect.run(job(raster, package, output), session)["COUNT"] == len(squares)
    shapes = found_boxes(output)[0]
    for x0, y0, x1, y1, _ in squares:
        expected = shapely.Polygon([where * corner for corner in [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]])
        assert max(one.intersection(expected).area / expected.area for one in shapes) > 0.999


def test_objects_larger_than_a_tile_are_one(tmp_path, session, make_package, use_model):
    pixels = np.zeros((200, 300), np.uint8)
    pixels[90:110, 20:280] = 220
    pixels[20:40, 30:34] = 150
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    for rings in (False, True):
        use_model(BlobDetector(plan(64, 16), rings))
        output = tmp_path / f"out{rings}.gpkg"
        detect.run(job(raster, make_package(), output), session)
        bounds = {one.bounds for one in found_boxes(output)[0]}
        assert bounds == {(600010, 4999945, 600140, 4999955), (600015, 4999980, 600017, 4999990)}


def test_nothing_found_gives_an_empty_layer(tmp_path, session, make_package, use_model):
    raster = write_raster(tmp_path / "scene.tif", np.zeros((50, 50), np.uint8), NORTH_UP)
    use_model(BlobDetector(plan()))
    output = tmp_path / "out.gpkg"
    assert detect.run(job(raster, make_package(), output), session)["COUNT"] == 0
    assert pyogrio.read_info(output)["fields"].tolist() == ["Class", "Classvalue", "Confidence"]


def test_arguments_of_the_host_reach_their_place(tmp_path, session, make_package, use_model):
    pixels, squares = scene()
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP)
    model = use_model(BlobDetector(plan(64, 16), rings=True))
    package, counts, calls = make_package(), [], []
    # The first run of all asks the network for its memory, too.
    detect.run(job(raster, package, tmp_path / "first.gpkg"), session)
    for arguments in (
        {},
        {"test_time_augmentation": "True", "merge_policy": "min"},
        {"skip_constant": "True"},
        {"simplify": "0.5"},
        {"regularize": "yes"},
    ):
        before = model.calls
        options = jobs.RunOptions(arguments=arguments)
        output = tmp_path / f"{len(counts)}.gpkg"
        counts.append(detect.run(job(raster, package, output, options=options), session)["COUNT"])
        calls.append(model.calls - before)
        assert {one.bounds for one in found_boxes(output)[0]} == {
            (600000 + 0.5 * x0, 5000000 - 0.5 * y1, 600000 + 0.5 * x1, 5000000 - 0.5 * y0)
            for x0, y0, x1, y1, _ in squares
        }
    assert counts == [len(squares)] * 5
    assert calls[1] == 8 * calls[0]
    assert calls[2] < calls[0] == calls[3]


@pytest.mark.parametrize(
    ("members", "arguments", "said"), [({}, {}, 8), ({"Padding": 0}, {}, 0), ({}, {"padding": "0"}, 0)]
)
def test_detectors_get_context_unless_someone_says_no(
    tmp_path, session, make_package, use_model, members, arguments, said
):
    raster = write_raster(tmp_path / "scene.tif", scene()[0], NORTH_UP)
    use_model(BlobDetector(plan(64, 0)))
    options = jobs.RunOptions(arguments=arguments)
    detect.run(job(raster, make_package(**members), tmp_path / "o.gpkg", options=options), session)
    assert any(f"padding of {said} pixels" in getattr(one, "text", "") for one in session.events)
