"""Logins in addresses: nowhere on the disk and in no event, and work goes on with a renewed one."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobCancelled, SourceLostError
from deep_raster.engine.inference import classify_objects, detect
from deep_raster.engine.inference.provenance import provenance
from deep_raster.engine.models.base import TilePlan
from deep_raster.engine.raster.secrets import fill, hide
from inference_support import NORTH_UP, BlobDetector, InProcessSession, plan, write_raster
from range_server import IN_PROCESS, RangeServer

OLD, NEW = "0ld-s3cr3t", "n3w-s3cr3t"


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name, value in IN_PROCESS.items():
        monkeypatch.setenv(name, value)
    pixels = np.zeros((200, 300), np.uint8)
    pixels[20:30, 20:30] = pixels[150:160, 250:262] = 220
    raster = write_raster(tmp_path / "scene.tif", pixels, NORTH_UP, blockysize=20)
    made = RangeServer(Path(raster).read_bytes(), token=OLD)
    yield made
    made.close()


class Labels:
    """Two classes by the brightness of the image."""

    plan, fixed_crop, blacken = TilePlan(16, 16, 0, batch=4), False, False

    def probabilities(self, pixels, valid):
        bright = pixels.reshape(len(pixels), -1).mean(1) / 255
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def interrupted(job_of, run, server, folder, output):
    """Begin with one token, let it expire, and go on with another in the same worker."""
    first = InProcessSession(folder)
    first.stop_after = 1
    with pytest.raises(JobCancelled):
        run(job_of(OLD), first)
    work = next(folder.glob(".*.deepraster"))
    files = [one for one in work.rglob("*") if one.is_file()]
    assert {one.name for one in files} >= {"plan.json", "journal.jsonl"}
    assert not [one for one in files if OLD.encode() in one.read_bytes()]
    assert stat.S_IMODE((work / "plan.json").stat().st_mode) == 0o600
    server.token = NEW
    with pytest.raises(SourceLostError) as refused:
        run(job_of(OLD), InProcessSession(folder))
    assert OLD not in str(refused.value.to_dict())
    again = InProcessSession(folder)
    again.contexts = first.contexts
    run(job_of(NEW), again)
    assert any("1 of" in getattr(one, "text", "") and "already" in one.text for one in first.events)
    told = repr(first.events) + repr(again.events) + output.read_bytes().decode("latin-1")
    assert "scene.tif" in told
    assert OLD not in told and NEW not in told


def test_objects_of_a_guarded_raster(tmp_path, server, make_package, use_model):
    use_model(BlobDetector(plan(64, 16)))
    package, output = make_package(), tmp_path / "out.gpkg"
    interrupted(
        lambda token: jobs.DetectObjects((jobs.RasterInput(server.path(token)),), package, str(output)),
        detect.run, server, tmp_path, output,
    )  # fmt: skip
    assert len(pyogrio.raw.read(output)[2]) == 2


def test_classes_of_chips_of_a_guarded_raster(tmp_path, server, make_package, use_model):
    use_model(Labels())
    boxes = [shapely.box(600000 + x, 4999990 - y, 600005 + x, 4999995 - y) for x in range(0, 130, 10) for y in range(9)]
    layer = tmp_path / "boxes.gpkg"
    pyogrio.raw.write(
        layer, geometry=shapely.to_wkb(boxes), field_data=[], fields=[], crs="EPSG:32632", geometry_type="Polygon"
    )
    package, output = make_package("ObjectClassification"), tmp_path / "out.gpkg"
    interrupted(
        lambda token: jobs.ClassifyObjects(
            (jobs.RasterInput(server.path(token)),), package, str(output), jobs.VectorInput(str(layer))
        ),
        classify_objects.run, server, tmp_path, output,
    )  # fmt: skip
    read = pyogrio.raw.read(output)
    assert all(read[3][list(read[0]["fields"]).index("ClassLabel")])


def test_places_are_filled_with_what_is_renewed():
    def members(token):
        return {
            "job": {"inputs": [{"path": f"https://u:{token}@h/a.tif"}, {"path": f"/vsicurl/https://h/b.tif?sig={token}"}],
                    "mask": {"path": f"PG:host=h user=me password={token} dbname=d"},
                    "arguments": {"api_key": token, "padding": "3"}},
            "items": [{"path": f"/vsicurl/https://h/b.tif?sig={token}", "rows": [[1, 2], [3, None]]}],
            "sources": {"https://h/b.tif?item=3": [["", 1]]},
        }  # fmt: skip

    hidden, texts = hide(members(OLD))
    assert OLD not in repr(hidden)
    assert len(texts) == 5
    assert fill(hidden, texts) == members(OLD)
    assert fill(hidden, hide(members(NEW))[1]) == members(NEW)
    assert hide({"path": "/data/a.tif", "key": 3}) == ({"path": "/data/a.tif", "key": 3}, [])


def test_what_a_result_carries_holds_no_login():
    job = {"features": {"path": f"PG:dbname=d password={OLD}"}, "options": {"arguments": {"api_key": OLD, "a": "3"}}}
    told = provenance(job)
    assert OLD not in repr(told)
    assert "dbname=d" in told["DEEP_RASTER_JOB"]
    assert "DEEP_RASTER_MODEL" not in told


def test_a_stripped_name_of_a_raster_never_becomes_its_address():
    address = f"/vsicurl/https://h/a.tif?item=3&token={OLD}"
    members = {"path": address, "sources": {"https://h/a.tif?item=3": 1}}
    assert fill(*hide(members)) == members
