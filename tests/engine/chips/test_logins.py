"""Logins in the addresses of an export: nowhere on the disk and in no event, and it goes on with renewed ones."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path

import pytest
from chips_support import LocalSession, scene, write_raster
from deep_raster.engine.chips import layout, runner, staging
from deep_raster.engine.errors import JobCancelled, JobError, SourceLostError
from deep_raster.engine.jobs import ExportTrainingData, RasterInput
from range_server import IN_PROCESS, RangeServer
from test_exporting_again import content, without_exports

pytestmark = pytest.mark.filterwarnings("ignore")
OLD, NEW = "0ld-s3cr3t", "n3w-s3cr3t"


@pytest.fixture
def server(labelled, monkeypatch):
    monkeypatch.setattr(layout, "_BLOCK_SIDE", 100)
    for name, value in IN_PROCESS.items():
        monkeypatch.setenv(name, value)
    made = RangeServer(Path(labelled[0].path).read_bytes(), token=OLD)
    yield made
    made.close()


def job_of(raster, labelled, folder, **members):
    size = {"tile_size_x": 64, "tile_size_y": 64}
    return ExportTrainingData(
        (raster,), str(folder), "PASCAL_VOC_rectangles", labels=labelled[1], existing="CONTINUE", **size, **members
    )


def test_an_export_goes_on_with_a_renewed_login(tmp_path, server, labelled, export):
    def job(token):
        return job_of(RasterInput(server.path(token)), labelled, tmp_path / "out")

    export(dataclasses.replace(job(""), inputs=(labelled[0],), output=str(tmp_path / "local")))
    first = LocalSession(tmp_path, cancel_after=8)
    with pytest.raises(JobCancelled):
        runner.run(job(OLD), first)
    work = staging.Staging(tmp_path / "out")
    begun = {one.name for one in work.folder.rglob("*.json")}
    assert {"plan.json", "0.json"} <= begun
    assert not work.numbers_file.exists()
    assert not [one for one in work.folder.rglob("*") if one.is_file() and OLD.encode() in one.read_bytes()]
    assert stat.S_IMODE(work.plan_file.stat().st_mode) == 0o600
    server.token = NEW
    refused = LocalSession(tmp_path)
    with pytest.raises(SourceLostError) as told:
        runner.run(job(OLD), refused)
    assert OLD not in str(told.value.to_dict())
    # In the worker that still has the raster open with the login of before.
    again = LocalSession(tmp_path)
    again._context = first._context
    runner.run(job(NEW), again)
    assert again.calls.count("plan_export") == 0
    assert first.calls.count("export_chips") > 3
    assert again.calls.count("export_chips") > 0
    files = content(tmp_path / "out")
    assert not [name for name, data in files.items() if OLD.encode() in data or NEW.encode() in data]
    assert not [one for one in (OLD, NEW) if one in repr((first.logs, again.logs))]
    assert without_exports(files) == without_exports(content(tmp_path / "local"))


def test_logins_of_mosaics_labels_and_options_have_places_too(tmp_path, labelled):
    def job(token):
        raster = RasterInput(labelled[0].path, open_options=(f"USERPWD=me:{token}",))
        return dataclasses.replace(
            job_of(raster, labelled, tmp_path / "out"),
            inputs=(raster, RasterInput(f"/vsicurl/https://h.example/b.tif?item=3&token={token}")),
            mask=dataclasses.replace(labelled[1], path=f"PG:dbname=land password={token}"),
        )

    assert staging.digest(job(OLD)) == staging.digest(job(NEW))
    assert len(staging.logins(job(OLD))) == len(staging.logins(job(NEW))) == 4
    with_login, without = (RasterInput(f"/vsicurl/https://{one}h.example/b.tif") for one in (f"me:{OLD}@", ""))
    one, other = (dataclasses.replace(job(OLD), inputs=(raster,)) for raster in (with_login, without))
    assert staging.digest(one) != staging.digest(other), "the plan of the other has fewer places"


def test_another_raster_is_no_renewed_login(tmp_path, server, labelled):
    job = job_of(RasterInput(server.path(OLD)), labelled, tmp_path / "out")
    with pytest.raises(JobCancelled):
        runner.run(job, LocalSession(tmp_path, cancel_after=8))
    other = RasterInput(server.path(OLD).replace("item=3", "item=4"))
    with pytest.raises(JobError, match="other parameters or inputs"):
        runner.run(dataclasses.replace(job, inputs=(other,)), LocalSession(tmp_path))


def test_a_local_raster_needs_no_places(tmp_path, labelled):
    raster = write_raster(tmp_path / "plain.tif", scene())
    assert staging.logins(job_of(raster, labelled, tmp_path / "out")) == []
