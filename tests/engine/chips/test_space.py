"""Disks on which the chips do not fit: told before, while it happens, and when it has happened."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from chips_support import write_raster
from deep_raster.engine.chips import layout, space, staging, tiff
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.errors import OutputError
from deep_raster.engine.jobs import ExportTrainingData

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Twelve blocks of one chip of 100 x 100 x 3 bytes each, that do not compress."""
    monkeypatch.setattr(layout, "_BLOCK_SIDE", 100)
    noise = np.random.default_rng(1).integers(0, 256, (3, 300, 400), "uint8")
    raster = write_raster(tmp_path / "r.tif", noise)
    size = {"tile_size_x": 100, "tile_size_y": 100}
    return ExportTrainingData((raster,), str(tmp_path / "o"), "Export_Tiles", **size)


def only(monkeypatch, free):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: usage._replace(free=free))


def test_room_for_half_of_the_chips_is_warned_of_at_the_start(job, export, tmp_path, monkeypatch):
    only(monkeypatch, 179_000)
    _, session = export(job)
    found = [one for one in session.logs if "free at" in one]
    assert found == [
        f"The chips may take up to 360 kB, but only 179 kB are free at “{tmp_path / 'o'}”. If the disk fills up, the "
        "export can be continued later."
    ]
    only(monkeypatch, 181_000)
    _, session = export(ExportTrainingData(**{**job.__dict__, "existing": "REPLACE"}))
    assert not any("free at" in one for one in session.logs)


def test_a_disk_that_is_surely_too_small_stops_the_export_early(job, export, tmp_path, monkeypatch):
    only(monkeypatch, 50_000)
    with pytest.raises(OutputError, match=rf"need about 2\d\d kB, but only 50 kB are free at “{tmp_path / 'o'}”"):
        export(job)
    done = list((tmp_path / "o" / staging.NAME / "blocks").glob("*.json"))
    assert len(done) == 4
    monkeypatch.undo()
    monkeypatch.setattr(layout, "_BLOCK_SIDE", 100)
    told, session = export(ExportTrainingData(**{**job.__dict__, "existing": "CONTINUE"}))
    assert session.calls.count("export_chips") == 8
    assert told["CHIPS"] == len(open_chips(tmp_path / "o")) == 12


def test_a_full_disk_is_told_with_what_is_free_and_can_be_continued(job, export, tmp_path, monkeypatch):
    encode, count = tiff.encode, []

    def full(*arguments, **options):
        count.append(1)
        if len(count) == 7:
            raise OSError(28, os.strerror(28))
        return encode(*arguments, **options)

    monkeypatch.setattr(tiff, "encode", full)
    with pytest.raises(OutputError, match=r"o”: No space left on device; .* are free there\..*continue") as told:
        export(job)
    assert told.value.file == str(tmp_path / "o")
    told, session = export(ExportTrainingData(**{**job.__dict__, "existing": "CONTINUE"}))
    assert session.calls.count("export_chips") == 6
    assert told["CHIPS"] == len(open_chips(tmp_path / "o")) == 12
