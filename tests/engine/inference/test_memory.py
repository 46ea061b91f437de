"""What fits into a memory budget, what gives way first, and a job that goes on with smaller batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from deep_raster.engine import jobs
from deep_raster.engine.inference import classify_pixels, measuring
from deep_raster.engine.inference.fitting import fit, largest
from deep_raster.engine.inference.journal import WorkFolder
from deep_raster.engine.inference.measuring import Need
from deep_raster.engine.inference.reading import open_source
from deep_raster.engine.inference.tiles import plan_tiles
from deep_raster.engine.models.base import TilePlan
from deep_raster.engine.raster.gdal import cache_limit, dataset_grid, open_dataset
from deep_raster.engine.workers.memory import available_memory, total_memory
from inference_support import NORTH_UP, SmoothClassifier, plan, write_raster

FREE = TilePlan(512, 512, 32, fixed=False, multiple=8, batch=4, exact=True)
NEED = Need(rest=200_000_000, pixel=1000.0)


def cut(side):
    return [plan_tiles(8000, 8000, FREE, side_limit=side)]


def bytes_of(found):
    """What the calls of all workers take, computed by hand; rows of tiles and the like come on top."""
    return found.workers * (NEED.rest + NEED.pixel * largest(found.layouts) * found.batch)


def test_workers_give_way_before_the_batch_and_the_batch_before_the_tiles():
    plenty = fit(NEED, FREE, cut, 8, 100 * 10**9)
    assert (plenty.workers, plenty.batch, plenty.sentence) == (8, 4, "")
    seen = []
    for budget in (60, 30, 12, 6, 4, 3, 2, 1.2, 0.8):
        found = fit(NEED, FREE, cut, 8, int(budget * 1e9))
        assert bytes_of(found) <= budget * 1e9
        assert found.fits
        seen.append((found.workers, found.batch, largest(found.layouts)))
        if found.batch < 4:
            assert found.workers == 1 or found.batch == 4
        if largest(found.layouts) < largest(plenty.layouts):
            assert found.batch == 1
        if seen[-1] != (8, 4, largest(plenty.layouts)):
            assert "memory_budget" in found.sentence
    assert seen == sorted(seen, reverse=True)
    assert {one[1] for one in seen} == {4, 2, 1}
    assert seen[-1][2] < seen[0][2]


def test_a_fixed_size_and_a_hopeless_budget_are_told():
    fixed = TilePlan(800, 800, 32, batch=2)
    found = fit(NEED, fixed, lambda side: [plan_tiles(4000, 4000, fixed, side_limit=side)], 4, 300 * 10**6)
    assert (found.workers, found.batch, largest(found.layouts)) == (1, 1, 640_000)
    assert not found.fits
    assert "swap" in found.sentence


def test_without_a_known_amount_of_memory_nothing_gives_way():
    found = fit(NEED, FREE, cut, 8, 0)
    assert (found.workers, found.batch, found.sentence) == (8, 4, "")


def test_free_memory_is_a_part_of_all_memory():
    assert 0 < available_memory() < total_memory()


class Hungry(SmoothClassifier):
    """A network that takes 400 bytes a pixel while it predicts, and refuses more than so many images at a time."""

    most = 99

    def scores(self, pixels, valid):
        if len(pixels) > self.most:
            raise MemoryError
        held = np.ones((len(pixels), 50, *pixels.shape[2:]), np.float64)
        answer = super().scores(pixels, valid)
        return answer + np.float32(held[0, 0, 0, 0] - 1)


def job(tmp_path, raster, model, **arguments):
    options = jobs.RunOptions(arguments={name: str(value) for name, value in arguments.items()})
    return jobs.ClassifyPixels(
        inputs=(jobs.RasterInput(raster),), model=model, output=str(tmp_path / "out.tif"), options=options
    )


@pytest.fixture
def raster(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 255, (700, 900), dtype=np.uint8)
    return write_raster(tmp_path / "in.tif", pixels, NORTH_UP)


def classified(path):
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def test_what_a_network_takes_is_measured_and_noted(tmp_path, make_package, use_model, raster, session, monkeypatch):
    kept = {}
    monkeypatch.setattr(WorkFolder, "write_plan", lambda self, members: kept.update(members) or write(self, members))
    network = use_model(Hungry(plan(64, 8, fixed=False)))
    classify_pixels.run(job(tmp_path, raster, make_package("ImageClassification")), session)
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell the peak of a call")
    assert 380 < kept["memory"]["pixel"] < 600
    calls = network.calls
    session.contexts[0].state.clear()
    classify_pixels.run(job(tmp_path, raster, make_package("ImageClassification")), session)
    assert network.calls - calls < calls


write = WorkFolder.write_plan


def test_a_budget_changes_neither_result_nor_identity(tmp_path, make_package, use_model, raster, session, monkeypatch):
    plans = []
    monkeypatch.setattr(WorkFolder, "write_plan", lambda self, members: plans.append(members) or write(self, members))
    use_model(Hungry(plan(256, 8, fixed=False, exact=True)))
    model = make_package("ImageClassification")
    monkeypatch.setattr(measuring, "_need", lambda *_: Need(0, 400.0))
    classify_pixels.run(job(tmp_path, raster, model), session)
    first = classified(tmp_path / "out.tif")
    classify_pixels.run(job(tmp_path, raster, model, memory_budget=150), session)
    np.testing.assert_array_equal(classified(tmp_path / "out.tif"), first)
    assert plans[0]["identity"] == plans[1]["identity"]
    sides = [max(one[1] for one in plan["items"][0]["columns"]) for plan in plans]
    assert sides[1] < sides[0]
    assert any("memory_budget" in str(one) for one in session.events)


def test_a_call_without_memory_is_done_in_smaller_ones(tmp_path, make_package, use_model, raster, session):
    model = make_package("ImageClassification")
    use_model(Hungry(plan(64, 8, batch=8)))
    classify_pixels.run(job(tmp_path, raster, model), session)
    first = classified(tmp_path / "out.tif")
    network = use_model(Hungry(plan(64, 8, batch=8)))
    network.most = 3
    session.contexts[0].state.clear()
    classify_pixels.run(job(tmp_path, raster, model), session)
    np.testing.assert_array_equal(classified(tmp_path / "out.tif"), first)
    assert sum("images at a time" in str(one) for one in session.events) == 2


def test_a_worker_that_died_of_a_batch_is_followed_by_one_with_half_of_it(
    tmp_path, make_package, use_model, raster, session, monkeypatch
):
    """A killed worker leaves word of the tiles it was at; whoever does the part again takes fewer at a time."""
    network = use_model(Hungry(plan(64, 8, batch=8)))
    sizes, whole = [], network.scores

    def dying(pixels, valid):
        sizes.append(len(pixels))
        if len(pixels) > 2:
            raise KeyboardInterrupt  # what no handler of ours may catch, as a kill
        return whole(pixels, valid)

    monkeypatch.setattr(network, "scores", dying)
    made = job(tmp_path, raster, make_package("ImageClassification"))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            classify_pixels.run(made, session)
    classify_pixels.run(made, session)
    assert [one for one in sizes if one > 1][:3] == [8, 4, 2]
    expected = whole(rasterio.open(raster).read()[None], np.ones((1, 700, 900), bool))[0].argmax(0) + 1
    np.testing.assert_array_equal(classified(tmp_path / "out.tif"), expected)


def test_the_block_cache_follows_the_windows_and_not_the_raster(tmp_path):
    wide = write_raster(
        tmp_path / "wide.tif", np.zeros((3, 256, 20_000), np.uint8), NORTH_UP, tiled=True, compress="deflate"
    )
    inputs = (jobs.RasterInput(wide),)
    limits = []
    for reach in (512, 0, 512):
        with open_dataset(inputs[0]) as dataset:
            grid = dataset_grid(dataset)
        source = open_source(inputs, (), grid, None, "nearest", reach)
        limits.append(cache_limit())
        source.close()
    assert limits[0] == limits[2] == 8 * 2**20
    # Three rows of blocks of the whole file, where windows are as wide as the file.
    assert limits[1] >= 3 * 256 * 20_000 * 3
