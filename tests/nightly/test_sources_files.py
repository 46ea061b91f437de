"""S1, S3, S4: files that are damaged, replaced or taken away while they are read; local, so with nobody to ask.

Real engine and worker processes for pixels; the other kinds of job run task by task, so that the fault falls between
two tasks.
"""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import rasterio
from deep_raster.engine import jobs
from deep_raster.engine.errors import SourceLostError
from nightly_models import pixel_job
from nightly_support import Host, Watch, digest, work_folder
from pictures import picture, write_picture
from processes import wait_until
from rasters_support import TILE, Network, Session, layer_of, run, use, write, write_definition
from rasters_support import scene as squares_scene
from sources_support import classes_of

SIDE, BLOCK, PADDING = 1536, 128, 8


def write_tiles(path, pixels):
    return write_picture(path, pixels, BLOCK, interleave="pixel")


@pytest.fixture(scope="module")
def sound(folder):
    return write_tiles(folder / "sound.tif", picture(SIDE))


@pytest.fixture(scope="module")
def expected(folder, sound, model):
    return classes_of(classified(sound, model, folder / "expected.tif"))


def job(path, model, output, **arguments):
    return pixel_job(str(path), model, output, workers=2, arguments={"padding": str(PADDING), **arguments})


def classified(path, model, output, **arguments):
    host = Host(job(path, model, output, **arguments), output.with_suffix(".run"))
    assert host.wait() == "done", host.message
    return output


def block_place(path, column, row) -> tuple[int, int]:
    """Return (offset, bytes) of a block in the file."""
    with rasterio.open(path) as file:
        offset, size = (file.get_tag_item(f"BLOCK_{one}_{column}_{row}", "TIFF", bidx=1) for one in ("OFFSET", "SIZE"))
    return int(offset), int(size)


def damaged(sound, path, blocks):
    """Copy a file with the bytes in the middle of some blocks turned over."""
    shutil.copyfile(sound, path)
    for column, row in blocks:
        offset, size = block_place(sound, column, row)
        with open(path, "r+b") as file:
            file.seek(offset + size // 2)
            part = file.read(64)
            file.seek(offset + size // 2)
            file.write(bytes(255 - one for one in part))
    return path


# --- S1 --------------------------------------------------------------------------------------------------------------


def test_damaged_blocks_fail_alone(folder, sound, model, expected, figure):
    blocks = [(3, 2), (7, 8)]
    broken = damaged(sound, folder / "broken.tif", blocks)
    output = folder / "broken_classes.tif"
    host = Host(job(broken, model, output), folder / "broken.run")
    assert host.wait() == "failed"
    assert "broken.tif" in host.message and "tile at x" in host.message and "failed_tiles" in host.message
    assert "Traceback" not in host.message and not output.exists()
    found = classes_of(classified(broken, model, output, failed_tiles="nodata"))
    filled, near = found > 0, np.zeros((SIDE, SIDE), bool)
    for column, row in blocks:
        assert not filled[row * BLOCK : (row + 1) * BLOCK, column * BLOCK : (column + 1) * BLOCK].any()
        reach = 256 - 2 * PADDING + PADDING
        rows = slice(max(0, row * BLOCK - reach), (row + 1) * BLOCK + reach)
        near[rows, max(0, column * BLOCK - reach) : (column + 1) * BLOCK + reach] = True
    wrong = int((found[filled] != expected[filled]).sum())
    figure("S1 two damaged blocks: wrong pixels elsewhere", wrong, "0", wrong == 0)
    assert wrong == 0
    assert filled[~near].all(), "only tiles that touch a damaged block are empty"


def test_a_file_cut_short_is_told(folder, sound, model, expected, figure):
    short = folder / "short.tif"
    shutil.copyfile(sound, short)
    os.truncate(short, short.stat().st_size * 6 // 10)
    output = folder / "short_classes.tif"
    host = Host(job(short, model, output), folder / "short.run")
    assert host.wait() == "failed"
    assert "short.tif" in host.message and not output.exists()
    found = classes_of(classified(short, model, output, failed_tiles="nodata"))
    there = found > 0
    wrong = int((found[there] != expected[there]).sum())
    figure("S1 file cut to 60 %: wrong pixels", wrong, "0", wrong == 0)
    assert wrong == 0
    assert 0.4 < there.mean() < 0.8


def test_a_damaged_overview_does_not_matter_where_it_is_not_read(folder, sound, model, expected):
    path = folder / "overview.tif"
    shutil.copyfile(sound, path)
    size = path.stat().st_size
    with rasterio.open(path, "r+") as file:
        file.build_overviews([4], rasterio.enums.Resampling.nearest)
    with open(path, "r+b") as file:
        file.seek(size + (path.stat().st_size - size) // 2)
        file.write(b"\xff" * 4000)
    assert np.array_equal(classes_of(classified(path, model, folder / "overview_classes.tif")), expected)
    found = []
    for number, one in enumerate((sound, path)):
        output = folder / f"coarse{number}.tif"
        asked = pixel_job(str(one), model, output, workers=2, cell_size=2.0, arguments={"padding": str(PADDING)})
        host = Host(asked, folder / f"coarse{number}.run")
        assert host.wait() == "done" or "overview.tif" in host.message
        found.append(classes_of(output) if output.exists() else None)
    assert found[1] is None or np.array_equal(*found)


# --- S3 --------------------------------------------------------------------------------------------------------------


def delete(path, other):
    os.unlink(path)


def replace(path, other):
    shutil.copyfile(other, f"{path}.new")
    os.replace(f"{path}.new", path)


def overwrite(path, other):
    with open(other, "rb") as source, open(path, "r+b") as target:
        target.write(source.read())
        target.truncate()


def shrink(path, other):
    os.truncate(path, os.path.getsize(path) // 2)


FAULTS = [delete, replace, overwrite, shrink]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_raster_that_changes_under_a_running_job(folder, sound, model, figure, fault):
    name = fault.__name__
    path, other = folder / f"{name}.tif", folder / "other.tif"
    shutil.copyfile(sound, path)
    if not other.exists():
        write_tiles(other, picture(SIDE, seed=6))
    output = folder / f"{name}_classes.tif"
    host = Host(job(path, model, output), folder / f"{name}.run")
    with Watch(output) as watch:
        wait_until(lambda: host.process.poll() is not None or any("Predicting: part" in one for one in host.texts), 120)
        fault(path, other)
        host.wait()
    assert host.end["end"] == "failed", host.end
    assert "was changed or removed" in host.message and f"{name}.tif" in host.message
    assert not watch.seen and not output.exists() and not host.left()
    figure(f"S3 {name} during the run", "named, nothing written", "no mixture", True)
    if fault in (replace, overwrite):
        again = Host(job(path, model, output), folder / f"{name}.again")
        assert again.wait() == "done", again.message
        assert not any("finished already" in one for one in again.texts)
        fresh = classified(other, model, folder / f"{name}_fresh.tif")
        assert np.array_equal(classes_of(output), classes_of(fresh))
    assert fault in (replace, overwrite) or work_folder(output).exists()


class Between(Session):
    """Does something after the first part of the work."""

    act = None

    def each(self, task, payloads, on_receipt, placement=None):
        for index, payload in enumerate(payloads):
            on_receipt(index, payload, self.call(task, payload))
            if index == 0 and task != "name_chips":
                self.act()
        return []


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["detect", "objects", "chips"])
def test_the_other_jobs_notice_too(tmp_path, own_places, monkeypatch, kind, fault):
    pixels, squares = squares_scene(700, 1400)
    raster = write(tmp_path / "raster.tif", pixels)
    write(tmp_path / "other.tif", 200 - pixels)
    use(Network(), monkeypatch)
    options = jobs.RunOptions(workers=1)
    if kind == "detect":
        model = write_definition(tmp_path / "model", "ObjectDetection")
        asked = jobs.DetectObjects((raster,), model, str(tmp_path / "found.gpkg"), options)
    elif kind == "objects":
        model = write_definition(tmp_path / "model", "ObjectClassification")
        features = layer_of(tmp_path / "features.gpkg", squares)
        asked = jobs.ClassifyObjects((raster,), model, str(tmp_path / "found.gpkg"), features, "Label", options)
    else:
        size = {"tile_size_x": TILE, "tile_size_y": TILE}
        asked = jobs.ExportTrainingData((raster,), str(tmp_path / "chips"), "Export_Tiles", **size)
    monkeypatch.setattr(Between, "act", lambda self: fault(raster.path, tmp_path / "other.tif"))
    with pytest.raises(SourceLostError, match=r"raster\.tif.*was changed or removed"):
        run(asked, tmp_path / "scratch", Between)
    assert not (tmp_path / "found.gpkg").exists()
    assert not list((tmp_path / "chips").glob("images/*"))


# --- S4 --------------------------------------------------------------------------------------------------------------


def test_one_raster_in_two_jobs_at_once(folder, sound, model, expected):
    hosts = [Host(job(sound, model, folder / f"both{i}.tif"), folder / f"both{i}.run") for i in (0, 1)]
    assert [one.wait() for one in hosts] == ["done", "done"]
    assert digest(folder / "both0.tif") == digest(folder / "both1.tif")
    assert np.array_equal(classes_of(folder / "both0.tif"), expected)
