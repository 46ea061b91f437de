"""Bad input from the command line: one clear sentence, a code other than 0, and nothing left at the output."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from conftest_values import DEFINITION, write_package, write_raster
from osgeo import ogr, osr
from processes import processes_with, wait_until


def polygons(path, boxes, epsg=32633, field="Classvalue"):
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    layer = source.CreateLayer("labels", reference, ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn(field, ogr.OFTInteger))
    for x, y in boxes:
        feature = ogr.Feature(layer.GetLayerDefn())
        feature[field] = 1
        ring = f"{x} {y},{x + 20} {y},{x + 20} {y + 20},{x} {y + 20},{x} {y}"
        feature.SetGeometry(ogr.CreateGeometryFromWkt(f"POLYGON(({ring}))"))
        layer.CreateFeature(feature)
    source = None
    return path


def refused(outcome, *words, output: Path):
    assert outcome.code != 0, outcome.text
    told = outcome.text.casefold()
    assert all(word.casefold() in told for word in words), outcome.text
    assert "Traceback" not in outcome.text, outcome.text
    assert not output.exists()
    assert not list(output.parent.glob(f"*{output.stem}*part*")), "a part of the output is left"


@pytest.fixture
def raster_without_crs(tmp_path):
    return write_raster(tmp_path / "nowhere.tif", epsg=None)


def test_missing_and_unreadable_rasters(real, detector, tmp_path):
    output = tmp_path / "o.gpkg"
    refused(real.run("detectobjects", INPUT="/nowhere/x.tif", MODEL=detector, OUTPUT=output), "INPUT", output=output)
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0" + bytes(100))
    refused(real.run("detectobjects", INPUT=broken, MODEL=detector, OUTPUT=output), "INPUT", output=output)


def test_a_truncated_package(real, image, detector, tmp_path):
    broken = tmp_path / "broken.dlpk"
    broken.write_bytes(detector.read_bytes()[:100_000])
    output = tmp_path / "o.gpkg"
    refused(real.run("detectobjects", INPUT=image, MODEL=broken, OUTPUT=output), "broken.dlpk", output=output)


def test_a_model_for_another_tool(real, image, detector, tmp_path):
    output = tmp_path / "o.tif"
    outcome = real.run("classifypixels", INPUT=image, MODEL=detector, OUTPUT=output)
    refused(outcome, "ObjectDetection", output=output)


def test_an_unknown_model_argument(real, image, detector, tmp_path):
    output = tmp_path / "o.gpkg"
    outcome = real.run("detectobjects", INPUT=image, MODEL=detector, ARGUMENTS="padddding=3", OUTPUT=output)
    refused(outcome, "padddding", "padding", output=output)


def test_code_is_refused_with_the_hash(real, image, tmp_path):
    code = {**DEFINITION, "Framework": "", "ModelConfiguration": "", "InferenceFunction": "find.py"}
    package = write_package(tmp_path / "code.dlpk", code, {"find.py": "class Find:\n    pass\n"})
    output = tmp_path / "o.gpkg"
    outcome = real.run("detectobjects", INPUT=image, MODEL=package, OUTPUT=output)
    refused(outcome, "TRUST=sha256:", output=output)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("no_crs", ("coordinate",)),
        ("outside", ("outside",)),
        ("empty", ("No feature",)),
        ("unknown_field", ("nothing_like_it", "Classvalue")),
    ],
)
def test_labels_that_cannot_be_made_are_refused(qgis, image, raster_without_crs, tmp_path, case, words):
    schema = tmp_path / "schema.csv"
    schema.write_text("value,name\n1,tree\n2,house\n")
    boxes = {"outside": [(0, 0)], "empty": []}.get(case, [(500010, 4999900)])
    labels = polygons(tmp_path / "l.gpkg", boxes)
    output = tmp_path / "labels.gpkg"
    parameters = {"INPUT": raster_without_crs if case == "no_crs" else image, "SCHEMA": schema, "FEATURES": labels}
    if case == "unknown_field":
        parameters["CLASS_FIELD"] = "nothing_like_it"
    refused(qgis.run("labelobjects", **parameters, OUTPUT=output), *words, output=output)


def test_a_missing_environment_is_told_with_the_next_step(qgis, image, tmp_path):
    package = write_package(tmp_path / "tree.dlpk", DEFINITION)
    output = tmp_path / "o.gpkg"
    qgis.python = ""
    outcome = qgis.run("detectobjects", INPUT=image, MODEL=package, OUTPUT=output)
    refused(outcome, "environment", "deepraster:setupenvironment", output=output)
    qgis.python = "/nowhere/python"
    refused(qgis.run("detectobjects", INPUT=image, MODEL=package, OUTPUT=output), "/nowhere/python", output=output)


def test_an_environment_that_is_too_old(qgis, image, tmp_path):
    old = tmp_path / "python"
    answer = {"python": [3, 7, 1], "prefix": "/old", "versions": {}, "broken": {}}
    old.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    old.chmod(0o755)
    qgis.python = str(old)
    package = write_package(tmp_path / "tree.dlpk", DEFINITION)
    output = tmp_path / "o.gpkg"
    refused(qgis.run("detectobjects", INPUT=image, MODEL=package, OUTPUT=output), "3.7.1", "3.10", output=output)


# --- the end of QGIS is the end of everything ----------------------------------------------------------------------


def kill_mid_job(qgis, parameters, ready):
    """Start a job, wait until ``ready``, kill -9 qgis_process and return who is left after 3 seconds."""
    mark = str(qgis.folder / "cache")  # in the environment of all processes of this run
    started = subprocess.Popen(
        qgis.command("deepraster:detectobjects", parameters), env=qgis.environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert wait_until(lambda: started.poll() is not None or ready(processes_with(mark)), 60), "the job did not start"
    assert started.poll() is None, started.stdout.read()
    assert len(processes_with(mark)) >= 2
    started.send_signal(signal.SIGKILL)
    started.wait()
    started.stdout.close()
    wait_until(lambda: not processes_with(mark), 3)
    return processes_with(mark)


def test_killed_with_the_stand_in(qgis, image, tmp_path):
    package = write_package(tmp_path / "slow.dlpk", DEFINITION)
    parameters = {"INPUT": image, "MODEL": package, "OUTPUT": tmp_path / "o.gpkg"}
    assert kill_mid_job(qgis, parameters, lambda _running: bool(list(qgis.jobs.glob("*.json")))) == {}


def test_killed_with_the_real_engine(real, detector, tmp_path):
    large = write_raster(tmp_path / "large.tif", width=6000, height=6000)
    output = tmp_path / "o.gpkg"
    parameters = {"INPUT": large, "MODEL": detector, "WORKERS": 2, "ARGUMENTS": "threshold=0.9", "OUTPUT": output}

    def at_work(running):
        return sum("worker" in command.split() for command in running.values()) >= 2

    assert kill_mid_job(real, parameters, at_work) == {}
    assert not output.exists()
