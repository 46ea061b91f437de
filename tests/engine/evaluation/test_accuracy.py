"""Accuracy against hand-computed cases and against COCO's own evaluation code on random boxes."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobError, VectorError
from deep_raster.engine.evaluation import accuracy, matching, tasks
from deep_raster.engine.workers.task import TaskContext
from rasterio.warp import transform_bounds


def objects(boxes, classes=None, confidence=None):
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    classes = np.array(classes if classes is not None else ["tree"] * len(boxes), dtype=object)
    confidence = np.array(confidence if confidence is not None else np.ones(len(boxes)), dtype=float)
    return accuracy.Objects(shapely.box(*boxes.T), classes, confidence)


def test_hand_computed_case():
    reference = objects([(0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)])
    detected = objects(
        [(0, 0, 10, 10), (0, 0, 10, 8), (20, 0, 30, 6), (60, 0, 70, 10)], confidence=[0.9, 0.8, 0.7, 0.6]
    )
    result = accuracy.compute(detected, reference, 0.5)
    # Right: the first (IoU 1) and the third (0.6). The second is a duplicate, the fourth lies on nothing.
    assert (result.overall.true_positive, result.overall.false_positive, result.overall.false_negative) == (2, 2, 1)
    assert result.overall.precision == pytest.approx(0.5)
    assert result.overall.recall == pytest.approx(2 / 3)
    assert result.overall.f1 == pytest.approx(4 / 7)
    # Precision 1 up to recall 1/3 (34 of 101 recalls), 2/3 up to 2/3 (33 more), 0 beyond.
    assert result.overall.average_precision == pytest.approx((34 + 33 * 2 / 3) / 101)


@pytest.mark.parametrize("seed", range(6))
def test_equals_the_evaluation_code_of_coco(seed):
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    chance = np.random.default_rng(seed)
    corner = chance.uniform(0, 300, (60, 2))
    reference = np.hstack([corner, corner + chance.uniform(8, 50, (60, 2))])
    names = chance.choice(["a", "b", "c"], 60)
    picked = chance.integers(0, 60, 150)
    detected = reference[picked] + chance.normal(0, 4, (150, 4))
    detected[:, 2:] = np.maximum(detected[:, 2:], detected[:, :2] + 2)
    detected_names = np.where(chance.random(150) < 0.8, names[picked], chance.choice(["a", "b", "c"], 150))
    confidence = chance.permutation(150) / 150

    ids = {"a": 1, "b": 2, "c": 3}

    def records(boxes, classes):
        sizes = boxes[:, 2:] - boxes[:, :2]
        return [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": ids[name],
                "bbox": [*box[:2], *size],
                "area": float(size.prod()),
                "iscrowd": 0,
            }
            for i, (box, size, name) in enumerate(zip(boxes.tolist(), sizes, classes))
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": 1, "width": 400, "height": 400}],
            "categories": [{"id": value, "name": name} for name, value in ids.items()],
            "annotations": records(reference, names),
        }
        truth.createIndex()
        found = records(detected, detected_names)
        for one, score in zip(found, confidence):
            one["score"] = float(score)
        judge = evaluation.COCOeval(truth, truth.loadRes(found), "bbox")
        judge.params.maxDets = [1, 10, 1000]
        judge.params.areaRng, judge.params.areaRngLbl = [[0, 1e10]], ["all"]
        judge.evaluate()
        judge.accumulate()
    precision = judge.eval["precision"][:, :, :, 0, 2]  # limits, recalls, classes

    result = accuracy.compute(objects(detected, detected_names, confidence), objects(reference, names), min_iou=0.5)
    for k, one in enumerate(result.classes):
        assert one.average_precision == pytest.approx(precision[0, :, k].mean(), abs=1e-9)
    assert result.map_coco == pytest.approx(precision.mean(), abs=1e-9)
    assert result.limits[0.75] == pytest.approx(precision[5].mean(), abs=1e-9)


def test_undefined_figures_are_not_numbers_and_never_zero():
    nothing = accuracy.compute(objects([]), objects([]), 0.5)
    assert np.isnan(nothing.overall.precision)
    assert np.isnan(nothing.overall.average_precision)
    missed = accuracy.compute(objects([]), objects([(0, 0, 1, 1)]), 0.5)
    assert missed.overall.recall == 0.0
    assert missed.overall.average_precision == 0.0
    assert np.isnan(missed.overall.precision)


def test_classes_are_compared():
    result = accuracy.compute(objects([(0, 0, 1, 1)], ["tree"]), objects([(0, 0, 1, 1)], ["well"]), 0.5)
    assert result.overall.true_positive == 0


def test_mask_keeps_objects_by_an_inner_point():
    kept = accuracy.inside(objects([(0, 0, 10, 10), (8, 0, 18, 10)]), np.array([shapely.box(0, 0, 11, 20)]))
    assert shapely.bounds(kept.geometries).tolist() == [[0, 0, 10, 10]]


def test_many_objects_take_seconds_not_hours():
    chance = np.random.default_rng(1)
    corner = chance.uniform(0, 20_000, (50_000, 2))
    boxes = np.hstack([corner, corner + 20])
    many = objects(boxes)
    pairs = accuracy.overlapping_pairs(many.geometries, many.geometries)
    assert len(pairs.iou) < 1_000_000
    own = pairs.iou[pairs.detected == pairs.reference]
    assert len(own) == 50_000
    assert np.allclose(own, 1.0)


def write(path, boxes, crs="EPSG:32633", **fields):
    """Write a GeoPackage with pyogrio, which is not the code under test."""
    geometries = shapely.to_wkb(shapely.box(*np.asarray(boxes, dtype=float).T))
    names = list(fields)
    data = [np.array(fields[name], dtype=object if isinstance(fields[name][0], str) else None) for name in names]
    pyogrio.raw.write(str(path), geometries, data, names, geometry_type="Polygon", crs=crs, layer=path.stem)
    return jobs.VectorInput(str(path))


def run(tmp_path, detected, reference, **more):
    job = jobs.ComputeAccuracy(detected, reference, str(tmp_path / "table.csv"), str(tmp_path / "report.html"), **more)
    told = []
    context = TaskContext(tmp_path, "cpu", 1, told.append)
    payload = jobs.to_dict(job)
    payload.pop("job")
    return tasks.compute_accuracy(json.loads(json.dumps(payload)), context), told


def test_layers_in_different_systems_and_class_fields_found_by_name(tmp_path):
    box = (500_000, 5_000_000, 500_010, 5_000_010)
    reference = write(tmp_path / "ref.gpkg", [box], Classname=["tree"], Classvalue=[1])
    west, south, east, north = transform_bounds("EPSG:32633", "EPSG:4326", *box)
    detected = write(
        tmp_path / "det.gpkg", [(west, south, east, north)], crs="EPSG:4326", Class=["tree"], Confidence=[0.5]
    )
    receipt, _ = run(tmp_path, detected, reference)
    assert receipt["AP"] == pytest.approx(1.0)
    page = (tmp_path / "report.html").read_text()
    assert "tree" in page
    assert "<polyline" in page
    table = (tmp_path / "table.csv").read_text().splitlines()
    assert table[0].startswith("Class,IoU,Precision,Recall,F1_Score,AP")
    assert table[1].startswith("tree,0.5,1.0,1.0,1.0,1.0,,1,0,0")


def test_min_iou_fields_and_mask_are_obeyed(tmp_path):
    reference = write(tmp_path / "ref.gpkg", [(0, 0, 10, 10), (100, 0, 110, 10)], kind=["a", "b"])
    detected = write(tmp_path / "det.gpkg", [(0, 0, 10, 6), (100, 0, 110, 10)], sort=["a", "b"], score=[0.9, 0.8])
    fields = {"detected_class_field": "sort", "reference_class_field": "kind", "confidence_field": "score"}
    assert run(tmp_path, detected, reference, min_iou=0.5, **fields)[0]["RECALL"] == pytest.approx(1.0)
    assert run(tmp_path, detected, reference, min_iou=0.7, **fields)[0]["RECALL"] == pytest.approx(0.5)
    mask = write(tmp_path / "mask.gpkg", [(-5, -5, 20, 20)], n=[1])
    masked = run(tmp_path, detected, reference, min_iou=0.7, mask=mask, **fields)[0]
    assert masked["RECALL"] == 0.0


@pytest.mark.parametrize("suffix", ["gpkg", "dbf"])
def test_table_in_other_formats(tmp_path, suffix):
    reference = write(tmp_path / "ref.gpkg", [(0, 0, 10, 10)], Class=["a"])
    detected = write(tmp_path / "det.gpkg", [(0, 0, 10, 10)], Class=["a"], Confidence=[1.0])
    job = jobs.ComputeAccuracy(detected, reference, str(tmp_path / f"table.{suffix}"))
    payload = jobs.to_dict(job)
    payload.pop("job")
    tasks.compute_accuracy(payload, TaskContext(tmp_path, "cpu", 1, lambda event: None))
    meta, _, _, data = pyogrio.raw.read(job.output)
    row = dict(zip(meta["fields"], [column[0] for column in data]))
    assert row["Class"] == "a"
    assert row["AP"] == pytest.approx(1.0)


def test_names_of_layers_cannot_inject_markup(tmp_path):
    reference = write(tmp_path / "ref.gpkg", [(0, 0, 10, 10)], Class=["<script>x</script>"])
    detected = write(tmp_path / "det.gpkg", [(0, 0, 10, 10)], Class=["<script>x</script>"], Confidence=[1.0])
    run(tmp_path, detected, reference)
    assert "<script>" not in (tmp_path / "report.html").read_text()


def test_missing_fields_and_bad_limits_are_named(tmp_path):
    reference = write(tmp_path / "ref.gpkg", [(0, 0, 10, 10)], Class=["a"])
    detected = write(tmp_path / "det.gpkg", [(0, 0, 10, 10)], Class=["a"], score=[1.0])
    with pytest.raises(VectorError, match="no field “Confidence”"):
        run(tmp_path, detected, reference)
    with pytest.raises(VectorError, match="no field “kind”"):
        run(tmp_path, detected, reference, reference_class_field="kind", confidence_field="score")
    with pytest.raises(JobError, match="MIN_IOU"):
        run(tmp_path, detected, reference, min_iou=0.0, confidence_field="score")


def test_falling_order_puts_unknown_confidence_last():
    assert matching.falling(np.array([0.1, np.nan, 0.9, 0.1])).tolist() == [2, 0, 3, 1]
