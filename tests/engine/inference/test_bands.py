"""Files stored in rows: the same pixels as read directly, each row decoded once, little kept on the disk."""

from __future__ import annotations

import numpy as np
import pytest
from deep_raster.engine import jobs
from deep_raster.engine.errors import RasterError
from deep_raster.engine.inference import bands, classify_pixels, tiles
from deep_raster.engine.inference.bands import BandSource
from deep_raster.engine.raster.source import RasterSource
from deep_raster.engine.raster.window import Window
from inference_support import NORTH_UP, SmoothClassifier, plan, write_raster

WIDTH, HEIGHT = 700, 90


@pytest.fixture
def raster(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 6, (3, HEIGHT, WIDTH)).astype(np.uint16) * 900
    return write_raster(tmp_path / "rows.tif", pixels, NORTH_UP, nodata=900, blockysize=3, compress="deflate")


class Noting:
    """A raster source that notes which rows are read of it."""

    def __init__(self, source, broken=()):
        self.source, self.rows, self.broken = source, [], broken

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read(self, window):
        self.rows += range(window.row, window.bottom)
        if any(window.row <= row < window.bottom for row in self.broken):
            raise RasterError("This row is damaged.")
        return self.source.read(window)


@pytest.fixture
def small(monkeypatch):
    row = 11 * 64 * 7
    monkeypatch.setattr(bands, "_CELL", 64)
    monkeypatch.setattr(bands, "_BAND", 13 * row)
    monkeypatch.setattr(bands, "_CHUNK", 5 * row)


def test_windows_are_those_of_the_source_and_rows_are_decoded_once(tmp_path, raster, small):
    with RasterSource.open([jobs.RasterInput(raster)]) as direct:
        noting = Noting(RasterSource.open([jobs.RasterInput(raster)]))
        source = BandSource(noting, tmp_path / "made" / "here")
        most = 0
        for row in range(-5, HEIGHT + 5, 20):
            for column in range(-30, WIDTH + 30, 111):
                window = Window(column, row, 150, 28)
                for one, other in zip(source.read(window), direct.read(window)):
                    np.testing.assert_array_equal(one, other)
                    assert one.flags.c_contiguous
            most = max(most, len(list((tmp_path / "made" / "here").iterdir())))
        assert noting.rows == list(range(HEIGHT))
        assert most <= 4  # bands of 12 rows that a window of 28 can touch
        source.close()
        assert not list((tmp_path / "made" / "here").iterdir())


def test_a_damaged_row_costs_only_the_windows_that_hold_it(tmp_path, raster, small):
    source = BandSource(Noting(RasterSource.open([jobs.RasterInput(raster)]), broken=(40,)), tmp_path / "here")
    with pytest.raises(RasterError, match="damaged"):
        source.read(Window(0, 39, 100, 5))
    pixels, _ = source.read(Window(0, 42, 100, 5))
    with RasterSource.open([jobs.RasterInput(raster)]) as direct:
        np.testing.assert_array_equal(pixels, direct.read(Window(0, 42, 100, 5))[0])


def test_a_job_over_rows_gives_what_one_over_blocks_gives(
    tmp_path, make_package, use_model, session, monkeypatch, small
):
    import rasterio

    pixels = np.random.default_rng(3).integers(0, 255, (400, 900), dtype=np.uint8)
    monkeypatch.setattr(tiles, "READ_BUDGET", 64 * 64 * 2 * 2 * 3)
    found = []
    read = BandSource.read
    monkeypatch.setattr(BandSource, "read", lambda self, window: found.append(window) or read(self, window))
    answers = []
    for name, options in (("rows", {"blockysize": 1}), ("blocks", {"tiled": True, "blockxsize": 64, "blockysize": 64})):
        made = write_raster(tmp_path / f"{name}.tif", pixels, NORTH_UP, compress="deflate", **options)
        use_model(SmoothClassifier(plan(64, 8)))
        job = jobs.ClassifyPixels(
            inputs=(jobs.RasterInput(made),), model=make_package("ImageClassification"), output=str(tmp_path / "o.tif")
        )
        session.contexts[0].state.clear()
        classify_pixels.run(job, session)
        with rasterio.open(tmp_path / "o.tif") as dataset:
            answers.append(dataset.read(1))
    assert found
    np.testing.assert_array_equal(*answers)
