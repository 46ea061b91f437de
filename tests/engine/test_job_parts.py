"""What the engine does around a job, without processes: its log, its journal, its scratch folder, lost tiles."""

from __future__ import annotations

import json
import os

import pytest
from deep_raster.engine import events
from deep_raster.engine.chips import staging
from deep_raster.engine.errors import OutputError
from deep_raster.engine.inference import lost
from deep_raster.engine.inference.journal import JOURNAL, Journal, WorkFolder
from deep_raster.engine.job_session import MAX_LOG, JobSession
from deep_raster.engine.raster.output import output_errors
from deep_raster.engine.scratch import new_scratch
from deep_raster.engine.workers.frames import FrameError
from deep_raster.engine.workers.pool import _Pending


@pytest.fixture
def work(tmp_path):
    folder = WorkFolder.for_output(str(tmp_path / "o.tif"))
    folder.create()
    return folder


def test_a_log_without_end_is_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_SCRATCH", str(tmp_path))
    told = []
    session = JobSession(told.append, lambda: False, None)
    for _ in range(30):
        session.log("x" * 1_000_000)
    session.progress(0.5)
    session.close()
    assert sum(len(one.text) for one in told if isinstance(one, events.Log)) <= MAX_LOG + 100
    assert told[-2].text.startswith("The log is full") and isinstance(told[-1], events.Progress)
    assert os.listdir(tmp_path) == []


def test_a_scratch_folder_that_cannot_be_made(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_SCRATCH", str(tmp_path / "none"))
    with pytest.raises(OutputError, match=r"scratch folder cannot be made.*none.*DEEP_RASTER_SCRATCH"):
        new_scratch()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="plays the full disk")
def test_a_journal_on_a_full_disk_says_so_and_closes(work):
    (work.path / JOURNAL).symlink_to("/dev/full")
    with (
        pytest.raises(OutputError, match=r"journal.*No space left.*free there.*goes on from there"),
        Journal(work) as it,
    ):
        it.add({"group": 1}, 1)


@pytest.mark.parametrize(
    "receipt",
    [
        {"group": 2},
        {},
        {"group": 1, "file": "../00000001.part"},
        {"group": 1, "file": 3},
        {"group": 1, "counts": []},
        {"group": 1, "counts": {"nodata": "many"}},
    ],
)
def test_receipts_of_another_part_are_refused(work, receipt):
    with Journal(work) as journal:
        with pytest.raises(FrameError, match="no receipt of part 1"):
            journal.add(receipt, 1)
        journal.add({"group": 1, "file": "00000001.part", "counts": {"nodata": 1}, "odd": "\ud800"}, 1)
    assert [one["group"] for one in work.receipts()] == [1]


def test_a_crumb_tells_the_tile_to_blame_once(work):
    payload = {"work": str(work.path), "group": 5}
    assert lost.without_blame(work, payload) == (payload, [])
    lost.leave_crumb(lost.crumb_of(work, 5), [17], [(10.0, 20.0, 30.0, 40.0)])
    again, boxes = lost.without_blame(work, payload)
    assert again["leave_out"] == [17] and lost.describe(boxes) == "x 10 to 30, y 20 to 40"
    assert lost.without_blame(work, again) == (again, [])  # it has been left out already: something else is to blame
    lost.crumb_of(work, 5).write_text(json.dumps([["x"], 3]))
    assert lost.without_blame(work, payload) == (payload, [])
    lost.remove_crumb(lost.crumb_of(work, 5))
    assert list(work.parts.iterdir()) == []


def test_own_deaths_condemn_and_kills_only_when_alone():
    task = _Pending(0, {})
    for killed in (True, True, True):
        assert not task.condemned
        task.lose("killed", killed)
    assert task.suspect and not task.condemned
    task.lose("killed alone again", True)
    assert task.condemned
    task = _Pending(0, {})
    for _ in range(3):
        assert not task.condemned
        task.lose("aborted", False)
    assert task.condemned and task.reason == "aborted"


def test_what_keeps_an_output_from_being_written_is_told(tmp_path):
    """An OutputError is an OSError itself; the way to it must not swallow it."""
    with (
        pytest.raises(OutputError, match=r"o\.tif” cannot be written: no space") as caught,
        output_errors(tmp_path / "o.tif"),
    ):
        raise ValueError("no space")
    assert "are free there" in caught.value.hint
    with pytest.raises(OutputError, match="its folder is gone"), output_errors(tmp_path / "gone" / "o.tif"):
        raise OSError("no such file")


def test_nothing_was_exported_below_a_file(tmp_path):
    """A path through a file is a place where nothing is; that the folder cannot be made is told later."""
    (tmp_path / "file").touch()
    assert staging.read_json(tmp_path / "file" / "chips" / "split.json") is None
