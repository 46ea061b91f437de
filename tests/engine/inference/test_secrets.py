"""Logins in addresses: nowhere on the disk and in no event, and work goes on with a renewed one."""

from __future__ import annotations

import http.server
import re
import stat
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobCancelled, SourceLostError
from deep_raster.engine.inference import classify_objects, detect
from deep_raster.engine.inference.assemble_objects import provenance
from deep_raster.engine.models.base import TilePlan
from deep_raster.engine.raster import remote
from deep_raster.engine.raster.secrets import fill, hide
from inference_support import NORTH_UP, BlobDetector, InProcessSession, plan, write_raster

OLD, NEW = "0ld-s3cr3t", "n3w-s3cr3t"


class Guarded:
    """A server of one file that lets in whoever has the token of the day."""

    def __init__(self, data: bytes) -> None:
        self.token, owner = OLD, self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.do_GET()

            def do_GET(self):
                query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
                asked = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
                first, last = (int(asked[1]), int(asked[2] or len(data))) if asked else (0, len(data))
                status = 403 if query.get("token") != [owner.token] else 206 if asked else 200
                part = data[first : last + 1] if status != 403 else b""
                self.send_response(status)
                self.send_header("Content-Length", str(len(part)))
                if status == 206:
                    self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
                self.send_header("ETag", '"1"')
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(part)

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def raster(self, token: str) -> jobs.RasterInput:
        where = f"127.0.0.1:{self.server.server_address[1]}"
        return jobs.RasterInput(f"/vsicurl/http://{where}/scene.tif?item=3&token={token}")


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("GDAL_HTTP_MAX_RETRY", "0")
    # GDAL lists folders while rasterio holds Python's lock, so a server in this process could not answer.
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
    monkeypatch.setenv(remote.PATIENCE, "3")
    pixels = np.zeros((200, 300), np.uint8)
    pixels[20:30, 20:30] = pixels[150:160, 250:262] = 220
    made = Guarded(Path(write_raster(tmp_path / "scene.tif", pixels, NORTH_UP, blockysize=20)).read_bytes())
    yield made
    made.server.shutdown()
    made.server.server_close()


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
        lambda token: jobs.DetectObjects((server.raster(token),), package, str(output)),
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
            (server.raster(token),), package, str(output), jobs.VectorInput(str(layer))
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
