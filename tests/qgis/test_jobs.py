"""From parameters to the job that reaches the engine, and from its events to feedback and results."""

from __future__ import annotations

import os

import pytest
from qgis.core import (
    QgsApplication,
    QgsCoordinateReferenceSystem,
    QgsFeature,
    QgsGeometry,
    QgsProcessingContext,
    QgsProcessingException,
    QgsRasterLayer,
    QgsRectangle,
    QgsReferencedRectangle,
    QgsVectorLayer,
)
from telling import Feedback


def run(algorithm, parameters, feedback=None):
    import processing

    return processing.run(f"deepraster:{algorithm}", parameters, feedback=feedback or Feedback())


def raster_job(path, name):
    return {"path": str(path), "name": name, "bands": None, "nodata": None, "crs": "", "open_options": []}


def test_detect_objects_with_defaults(provider, fake_engine, image, model, tmp_path):
    output = tmp_path / "trees.gpkg"
    results = run("detectobjects", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(output)})
    assert results == {"OUTPUT": str(output), "COUNT": 3}
    assert fake_engine.jobs == [
        {
            "job": "detectobjects",
            "inputs": [raster_job(image, "image")],
            "model": str(model),
            "output": str(output),
            "options": {
                "arguments": {},
                "processing_mode": "MOSAICKED",
                "extent": None,
                "cell_size": 0.0,
                "mask": None,
                "processor": "AUTO",
                "gpu_id": [],
                "workers": 0,
                "cluster": "",
                "resume": True,
                "trust": [],
            },
            "run_nms": True,
            "max_overlap": 0.1,
            "confidence_field": "Confidence",
            "class_field": "Class",
        }
    ]


def test_detect_objects_with_everything(provider, fake_engine, image, model, tmp_path):
    mask = QgsVectorLayer("Polygon?crs=EPSG:32633", "area", "memory")
    feature = QgsFeature()
    feature.setGeometry(QgsGeometry.fromRect(QgsRectangle(500000, 4999960, 500040, 5000000)))
    mask.dataProvider().addFeature(feature)
    folder = tmp_path / "more"
    folder.mkdir()
    for name in ("b.tif", "a.tif"):
        (folder / name).write_bytes(image.read_bytes())
    digest = "sha256:" + "ab" * 32
    run(
        "detectobjects",
        {
            "INPUT": str(image),
            "COLLECTION": [str(folder)],
            "MODEL": str(model),
            "ARGUMENTS": "padding=64; threshold=0.25",
            "RUN_NMS": False,
            "MAX_OVERLAP": 0.5,
            "CONFIDENCE_FIELD": "score",
            "CLASS_FIELD": "kind",
            "PROCESSING_MODE": "ITEMS_SEPARATELY",
            "EXTENT": "500000,500040,4999980,5000000 [EPSG:32633]",
            "CELL_SIZE": 0.5,
            "MASK": mask,
            "PROCESSOR": "CPU",
            "GPU_ID": "0,2",
            "WORKERS": 2,
            "CLUSTER": "tcp://node:8786",
            "RESUME": False,
            "TRUST": digest,
            "OUTPUT": str(tmp_path / "o.gpkg"),
        },
    )
    (job,) = fake_engine.jobs
    assert [os.path.basename(one["path"]) for one in job["inputs"]] == ["image.tif", "a.tif", "b.tif"]
    options = job["options"]
    assert options["arguments"] == {"padding": "64", "threshold": "0.25"}
    assert options["extent"] == {
        "xmin": 500000.0, "ymin": 4999980.0, "xmax": 500040.0, "ymax": 5000000.0, "crs": "EPSG:32633",
    }  # fmt: skip
    assert options["mask"]["layer"] == "features" and options["mask"]["crs"] == "EPSG:32633"
    assert (options["cell_size"], options["processor"], options["gpu_id"]) == (0.5, "CPU", [0, 2])
    assert (options["workers"], options["cluster"], options["resume"]) == (2, "tcp://node:8786", False)
    assert (options["trust"], options["processing_mode"]) == ([digest], "ITEMS_SEPARATELY")
    assert (job["run_nms"], job["max_overlap"]) == (False, 0.5)
    assert (job["confidence_field"], job["class_field"]) == ("score", "kind")
    assert not os.path.exists(options["mask"]["path"]), "the copy of the mask must go when the job is done"


def test_the_same_job_from_texts_values_and_layers(provider, fake_engine, image, model, tmp_path):
    """A command gives texts, a script gives values, a dialog gives layers: the engine sees one job."""
    output = str(tmp_path / "o.gpkg")
    layer = QgsRasterLayer(str(image), "image")
    box = QgsReferencedRectangle(QgsRectangle(0, 0, 10, 5), QgsCoordinateReferenceSystem("EPSG:32633"))
    run("detectobjects", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": output, "MAX_OVERLAP": "0.3",
                          "RUN_NMS": "false", "EXTENT": "0,10,0,5 [EPSG:32633]", "WORKERS": "2",
                          "ARGUMENTS": '{"padding": 8}'})  # fmt: skip
    run("detectobjects", {"INPUT": layer, "MODEL": str(model), "OUTPUT": output, "MAX_OVERLAP": 0.3,
                          "RUN_NMS": False, "EXTENT": box, "WORKERS": 2, "ARGUMENTS": "padding=8"})  # fmt: skip
    first, second = fake_engine.jobs
    assert first == second


def test_classify_pixels_writes_extra_outputs_only_when_asked(provider, fake_engine, image, model, tmp_path):
    output = str(tmp_path / "classes.tif")
    run("classifypixels", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": output})
    run("classifypixels", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": output,
                           "CONFIDENCE": str(tmp_path / "c.tif"), "POLYGONS": str(tmp_path / "p.gpkg")})  # fmt: skip
    plain, extra = fake_engine.jobs
    assert (plain["confidence_output"], plain["probabilities_output"], plain["polygons_output"]) == ("", "", "")
    assert extra["confidence_output"] == str(tmp_path / "c.tif")
    assert extra["probabilities_output"] == "" and extra["polygons_output"] == str(tmp_path / "p.gpkg")


def test_classify_pixels_item_by_item_fills_a_folder(provider, fake_engine, image, model, tmp_path):
    run("classifypixels", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "classes.tif"),
                           "PROCESSING_MODE": "ITEMS_SEPARATELY"})  # fmt: skip
    assert fake_engine.jobs[0]["output"] == str(tmp_path / "classes")


def test_classify_objects_without_features(provider, fake_engine, image, model, tmp_path):
    run("classifyobjects", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg")})
    (job,) = fake_engine.jobs
    assert job["features"] is None and job["label_field"] == "ClassLabel"


def test_detect_change(provider, fake_engine, image, model, tmp_path):
    later = tmp_path / "later.tif"
    later.write_bytes(image.read_bytes())
    run("detectchange", {"FROM": str(image), "TO": str(later), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.tif")})
    (job,) = fake_engine.jobs
    assert (job["from_raster"]["path"], job["to_raster"]["path"]) == (str(image), str(later))


def test_export_takes_vector_or_raster_labels(provider, fake_engine, image, tmp_path):
    classes = tmp_path / "classes.tif"
    classes.write_bytes(image.read_bytes())
    labels = QgsVectorLayer("Polygon?crs=EPSG:32633&field=Classvalue:integer", "labels", "memory")
    results = run("exporttrainingdata", {"INPUT": str(image), "LABELS": labels, "CLASS_FIELD": "Classvalue",
                                         "FORMAT": "KITTI_rectangles", "OUTPUT": str(tmp_path / "chips")})  # fmt: skip
    run("exporttrainingdata", {"INPUT": str(image), "LABELS": str(classes), "FORMAT": "Classified_Tiles",
                               "TILE_SIZE_X": 128, "STRIDE_X": 0, "OUTPUT": str(tmp_path / "chips2")})  # fmt: skip
    vector, raster = fake_engine.jobs
    assert results == {"OUTPUT": str(tmp_path / "chips"), "CHIPS": 4, "OBJECTS": 5}
    assert vector["labels"]["layer"] == "features" and vector["label_raster"] is None
    assert (vector["class_field"], vector["format"], vector["stride_x"]) == ("Classvalue", "KITTI_rectangles", 128)
    assert raster["labels"] is None and raster["label_raster"]["path"] == str(classes)
    assert (raster["tile_size_x"], raster["tile_size_y"], raster["stride_x"]) == (128, 256, 0)


def test_train_model(provider, fake_engine, model, tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    run("trainmodel", {"INPUT": f"{folders[0]};{folders[1]}", "EPOCHS": 3, "BACKBONE": "resnet18",
                       "PRETRAINED_MODEL": str(model), "ARGUMENTS": "class_balancing=true", "GPU_ID": "1",
                       "SEED": 7, "OUTPUT": str(tmp_path / "model")})  # fmt: skip
    (job,) = fake_engine.jobs
    assert job["inputs"] == [str(one) for one in folders]
    assert (job["model_type"], job["backbone"], job["epochs"], job["seed"]) == ("", "resnet18", 3, 7)
    assert (job["arguments"], job["gpu_id"]) == ({"class_balancing": "true"}, [1])
    assert job["pretrained_model"] == str(model) and job["output"] == str(tmp_path / "model")


def test_parameters_of_the_package_tools_reach_their_jobs(provider, fake_engine, model, tmp_path):
    extra = tmp_path / "notes.txt"
    extra.write_text("notes")
    run("createpackage", {"DEFINITION": str(model), "FILES": str(extra), "OUTPUT": str(tmp_path / "t.dlpk")})
    run("packageinfo", {"MODEL": str(model), "HTML": str(tmp_path / "t.html")})
    created, told = fake_engine.jobs
    assert created["files"] == [str(extra)] and created["definition"] == str(model)
    assert (told["html"], told["json"]) == (str(tmp_path / "t.html"), "")


def test_nms_and_accuracy(provider, fake_engine, tmp_path):
    layer = QgsVectorLayer("Polygon?crs=EPSG:32633&field=Confidence:double", "found", "memory")
    run("nonmaximumsuppression", {"INPUT": layer, "MAX_OVERLAP": 0.2, "OUTPUT": str(tmp_path / "o.gpkg")})
    run("computeaccuracy", {"DETECTED": layer, "REFERENCE": layer, "MIN_IOU": 0.4,
                            "OUTPUT": str(tmp_path / "a.gpkg"), "REPORT": str(tmp_path / "a.html")})  # fmt: skip
    nms, accuracy = fake_engine.jobs
    assert (nms["max_overlap"], nms["confidence_field"], nms["class_field"]) == (0.2, "Confidence", "")
    assert (accuracy["min_iou"], accuracy["report"]) == (0.4, str(tmp_path / "a.html"))
    assert accuracy["detected"]["path"] != accuracy["reference"]["path"]


# --- events and faults ---------------------------------------------------------------------------------------------


def test_events_reach_the_feedback(provider, fake_engine, image, model, tmp_path):
    feedback = Feedback()
    run("detectobjects", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg")}, feedback)
    assert "Detecting" in feedback.steps
    assert "One tile was empty." in feedback.warnings
    assert any("AP" in line and "0.5" in line for line in feedback.lines)
    assert feedback.values == sorted(feedback.values) and feedback.values[-1] >= 90


def test_a_failure_is_one_sentence(provider, fake_engine, image, tmp_path):
    with pytest.raises(QgsProcessingException, match=r"The raster has a hole\..*Mend it\..*reading"):
        run(
            "detectobjects",
            {"INPUT": str(image), "MODEL": definition(tmp_path, "fail"), "OUTPUT": str(tmp_path / "o.gpkg")},
        )


def test_a_dead_engine_is_a_sentence(provider, fake_engine, image, tmp_path):
    with pytest.raises(QgsProcessingException, match="ended unexpectedly"):
        run(
            "detectobjects",
            {"INPUT": str(image), "MODEL": definition(tmp_path, "die"), "OUTPUT": str(tmp_path / "o.gpkg")},
        )


def test_cancel_ends_within_two_seconds(provider, fake_engine, image, tmp_path):
    import time

    feedback = Feedback(cancel_after_steps=1)
    started = time.monotonic()
    with pytest.raises(QgsProcessingException, match="Cancelled"):
        run("detectobjects", {"INPUT": str(image), "MODEL": definition(tmp_path, "slow"),
                              "OUTPUT": str(tmp_path / "o.gpkg")}, feedback)  # fmt: skip
    assert time.monotonic() - feedback.cancelled_at < 2.0
    assert time.monotonic() - started < 10.0


def test_a_cancelled_child_run_leaves_no_copy(provider, fake_engine, image, tmp_path):
    """Copies are removed although the job did not end well."""
    mask = QgsVectorLayer("Polygon?crs=EPSG:32633", "area", "memory")
    with pytest.raises(QgsProcessingException):
        run("detectobjects", {"INPUT": str(image), "MODEL": definition(tmp_path, "fail"), "MASK": mask,
                              "OUTPUT": str(tmp_path / "o.gpkg")})  # fmt: skip
    assert not os.path.exists(fake_engine.jobs[0]["options"]["mask"]["path"])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"INPUT": "/nowhere/x.tif"}, "does not exist|INPUT|could not"),
        ({"MODEL": "/nowhere/x.dlpk"}, "does not exist"),
        ({"ARGUMENTS": "nonsense"}, "has no value"),
        ({"GPU_ID": "first"}, "whole numbers"),
        ({"INPUT": None}, "Give an input raster"),
        ({"PROCESSOR": "TPU"}, "PROCESSOR"),
        ({"OUTPUT": "/somewhere/o.xyz"}, "xyz|extension|OUTPUT"),
    ],
)
def test_wrong_values_are_sentences(provider, fake_engine, image, model, tmp_path, changed, sentence):
    parameters = {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg"), **changed}
    with pytest.raises(QgsProcessingException, match=sentence):
        run("detectobjects", parameters)
    assert fake_engine.jobs == []


def test_without_an_environment(provider, image, model, tmp_path):
    algorithm = QgsApplication.processingRegistry().algorithmById("deepraster:detectobjects")
    ready, reason = algorithm.canExecute()
    assert not ready and "deepraster:setupenvironment" in reason
    with pytest.raises(QgsProcessingException, match="setupenvironment"):
        run("detectobjects", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg")})


def test_a_missing_interpreter_is_named(provider, image, model, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_PYTHON", "/nowhere/python")
    with pytest.raises(QgsProcessingException, match="/nowhere/python"):
        run("detectobjects", {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg")})


def test_labels_need_no_environment(provider, qgis_app):
    algorithm = QgsApplication.processingRegistry().algorithmById("deepraster:labelobjects")
    assert algorithm.canExecute()[0]


def definition(folder, name):
    path = folder / f"{name}.emd"
    path.write_text("{}")
    return str(path)


def test_context_is_not_needed(provider, fake_engine, image, model, tmp_path):
    """An algorithm made by a script runs with a context of the script's own."""
    algorithm = QgsApplication.processingRegistry().createAlgorithmById("deepraster:detectobjects")
    results, ok = algorithm.run(
        {"INPUT": str(image), "MODEL": str(model), "OUTPUT": str(tmp_path / "o.gpkg")},
        QgsProcessingContext(),
        Feedback(),
    )
    assert ok and results["COUNT"] == 3
