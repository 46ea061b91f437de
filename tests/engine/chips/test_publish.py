"""The output gets an export as a whole or stays as it is: on a really full disk, and when a move fails half-way."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil

import pytest
from chips_support import LocalSession
from deep_raster.engine.chips import layout, publish, runner, staging
from deep_raster.engine.errors import JobCancelled, OutputError
from deep_raster.engine.jobs import ExportTrainingData, VectorInput
from small_disks import small_disk
from test_exporting_again import content, without_exports

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = (("plan_export", 1), ("export_chips", 3), ("name_chips", 1), ("finish_export", 1), ("publish_export", 1))


@pytest.fixture
def halves(labelled, tmp_path, monkeypatch):
    """Return two jobs, each with half of the labels, that write into a folder of a disk of its own."""
    monkeypatch.setattr(layout, "_BLOCK_SIDE", 150)
    raster, layer, _, _ = labelled
    size = {"tile_size_x": 64, "tile_size_y": 64, "stride_x": 50, "stride_y": 50}

    def jobs(kind, folder):
        layers = [VectorInput(layer.path, where=f"fid % 2 = {one}") for one in (0, 1)]
        return [ExportTrainingData((raster,), str(folder), kind, labels=one, **size) for one in layers]

    return jobs


def visible(folder):
    """Return what a person sees in the output."""
    found = content(folder) if folder.is_dir() else {}
    return {name: data for name, data in found.items() if not name.startswith(".")}


class Filling(LocalSession):
    """Fills the disk before the ``count``-th call of a step, so that not a byte is left."""

    step, count, disk = "", 1, None

    def call(self, task, payload, placement=None, span=None):
        if task == self.step and self.calls.count(task) == self.count - 1:
            fill(self.disk)
        return super().call(task, payload, placement, span)


def fill(disk):
    with open(disk / "filler", "ab", buffering=0) as file:
        for size in (2**20, 2**12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    pass
    assert os.statvfs(disk).f_bfree == 0


@pytest.mark.parametrize(
    ("kind", "existing"), [("PASCAL_VOC_rectangles", "APPEND"), ("YOLO", "REPLACE"), ("COCO", "APPEND")]
)
def test_a_full_disk_leaves_the_output_as_it_was(halves, export, tmp_path, kind, existing):
    with small_disk(tmp_path / "disk", 2**24) as disk:
        out = disk / "o"
        first, second = halves(kind, out)
        for job in (first, dataclasses.replace(second, existing=existing)):
            alone = dataclasses.replace(job, output=str(tmp_path / "alone"))
            if out.exists():
                shutil.copytree(out, tmp_path / "alone")
            export(alone)
            expected = without_exports(content(tmp_path / "alone"))
            shutil.rmtree(tmp_path / "alone")
            before = visible(out)
            for step, count in STEPS:
                session = Filling(tmp_path)
                session.step, session.count, session.disk = step, count, disk
                with pytest.raises(OutputError) as told:
                    runner.run(job, session)
                sentence = str(told.value.to_dict())
                assert str(out) in sentence and "free there" in sentence, (step, sentence)
                assert visible(out) == before, step
                os.unlink(disk / "filler")
                if count > 1:  # some chips are done
                    job = dataclasses.replace(job, existing="CONTINUE")
            export(job)
            assert without_exports(content(out)) == expected
            assert not [one for one in out.iterdir() if one.name.startswith(".")]


def failing(monkeypatch, at, back=False):
    """Let the ``at``-th rename fail as if another program held the file, and those that undo it too if ``back``."""
    rename, count = publish.give_name, []

    def tried(source, target):
        count.append(source)
        if len(count) == at or (back and len(count) > at):
            raise PermissionError(errno.EACCES, "Permission denied", str(source))
        return rename(source, target)

    monkeypatch.setattr(publish, "give_name", tried)
    return count


@pytest.mark.parametrize("existing", ["APPEND", "REPLACE"])
def test_a_file_that_cannot_be_moved_undoes_the_others(halves, export, tmp_path, monkeypatch, existing):
    out = tmp_path / "o"
    first, second = halves("PASCAL_VOC_rectangles", out)
    second = dataclasses.replace(second, existing=existing)
    export(first)
    before = visible(out)
    shutil.copytree(out, tmp_path / "copy")
    with monkeypatch.context() as patch:
        moves = failing(patch, 10**9)
        export(dataclasses.replace(second, output=str(tmp_path / "copy")))
    assert len(moves) > 8
    expected = without_exports(content(tmp_path / "copy"))
    for at in (1, 4, len(moves) // 2, len(moves)):
        with monkeypatch.context() as patch:
            failing(patch, at)
            with pytest.raises(OutputError, match=r"Permission denied\. The output is as it was before\..*continue"):
                export(second)
        assert visible(out) == before
        export(dataclasses.replace(second, existing="CONTINUE"))
        assert without_exports(content(out)) == expected
        shutil.rmtree(out)
        export(first)


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_can_be_moved_neither_on_nor_back_is_told(halves, export, tmp_path, monkeypatch, goes_on):
    out = tmp_path / "o"
    first, second = halves("COCO", out)
    export(first)
    before = visible(out)
    with monkeypatch.context() as patch:
        failing(patch, 9, back=True)
        with pytest.raises(OutputError, match=r"Some chips are in place already.*“continue”, which moves the rest"):
            export(second)
    assert visible(out) != before
    assert staging.Staging(out).publish_file.exists()
    if goes_on:
        export(dataclasses.replace(second, existing="CONTINUE"))
    else:  # another export undoes what was begun, once it is not cancelled before
        with pytest.raises(JobCancelled):
            export(dataclasses.replace(second, rotation=90.0), cancel_after=0)
        assert visible(out) != before
        with pytest.raises(JobCancelled):
            export(dataclasses.replace(second, rotation=90.0), cancel_after=1)
        assert visible(out) == before
        export(second)
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    one, other = halves("COCO", tmp_path / "copy")
    export(one)
    export(other)
    assert without_exports(content(out)) == without_exports(content(tmp_path / "copy"))


def test_what_is_not_of_an_export_stays(halves, export, tmp_path):
    out = tmp_path / "o"
    first, second = halves("PASCAL_VOC_rectangles", out)
    export(first)
    (out / "stats.txt").unlink()
    (out / "stats.txt").mkdir()
    (out / "stats.txt" / "mine").write_text("kept")
    before = visible(out)
    with pytest.raises(OutputError, match=r"“stats\.txt” cannot be moved.*another file.*as it was before"):
        export(second)
    assert visible(out) == before
    shutil.rmtree(out / "stats.txt")
    told, session = export(dataclasses.replace(second, existing="CONTINUE"))
    assert session.calls.count("export_chips") == 0
    assert told["CHIPS"] > 0
    assert (out / "stats.txt").is_file()
