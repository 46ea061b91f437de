"""Fault plan W3 and W4: tiles that kill or block whoever takes them."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from nightly_models import function_job, set_fault
from nightly_support import Host, Watch, scaled, tidy, work_folder

TILES = [37, 38]
LEASE = {"lease": 3.0, "first": 30.0}


@pytest.mark.parametrize("kind", ["abort", "segfault", "exit0", "exit3", "sleep", "native", "stop", "fifo"])
def test_a_fault_that_passes(workshop, numbered, function, calm, figure, kind):
    """Once each: the tile is done again and the bytes are the same."""
    rounds, deaths, slowest = scaled(1), 0, 0.0
    for number in range(rounds):
        folder = workshop / f"once-{kind}-{number}"
        output = folder / "classes.tif"
        set_fault(numbered, kind=kind, tiles=TILES, times=2)
        with Watch(output) as watch:
            host = Host(function_job(numbered, function, output), folder / "run", engine=LEASE)
            assert host.wait() == "done", host.message
        host.check(calm[1], watch)
        replaced = [text for text in host.texts if "was replaced" in text]
        deaths += len(replaced)
        slowest = max(slowest, host.seconds)
        tidy(folder)
    assert deaths >= 2 * rounds
    figure(f"W3/W4 {kind}: replaced, same bytes", deaths, "all")
    figure(f"W3/W4 {kind}: slowest job, s (calm {calm[2]:.0f})", round(slowest, 1))


@pytest.mark.parametrize("kind", ["abort", "segfault", "exit0", "exit3", "native"])
def test_a_poison_tile(workshop, numbered, function, calm, figure, kind):
    """Always: three deaths at most, all else done, the place named; the job goes on when the fault is gone."""
    folder = workshop / f"poison-{kind}"
    output = folder / "classes.tif"
    set_fault(numbered, kind=kind, tiles=TILES[:1])
    with Watch(output) as watch:
        host = Host(function_job(numbered, function, output), folder / "run", engine=LEASE)
        assert host.wait() == "failed", host.end
    host.check(calm[1], watch)
    deaths = sum("was replaced" in text for text in host.texts)
    assert not output.exists() and work_folder(output).exists()
    assert deaths <= 3
    assert "x 400896 to 401024, y 4999488 to 4999616" in host.message, host.message
    assert "start the same job again" in host.message, host.message
    set_fault(numbered)
    with Watch(output) as watch:
        again = Host(function_job(numbered, function, output), folder / "again")
        assert again.wait() == "done", again.message
    again.check(calm[1], watch)
    assert any("finished already" in text for text in again.texts)
    figure(f"W3 poison tile ({kind}): deaths; resumed to the same bytes", deaths, "<= 3", deaths <= 3)
    tidy(folder)


def test_a_poison_tile_may_stay_empty(workshop, numbered, function, calm, figure):
    folder = workshop / "poison-nodata"
    output = folder / "classes.tif"
    set_fault(numbered, kind="abort", tiles=TILES[:1])
    host = Host(function_job(numbered, function, output, failed_tiles="nodata"), folder / "run", engine=LEASE)
    assert host.wait() == "done", host.message
    with rasterio.open(output) as found, rasterio.open(calm[0]) as expected:
        got, valid, right = found.read(1), found.read_masks(1) > 0, expected.read(1)
    row, column = divmod(TILES[0], 10)
    assert not valid[row * 256 : row * 256 + 256, column * 256 : column * 256 + 256].any()
    assert (got[valid] == right[valid]).all()
    lost = int(np.count_nonzero(~valid))
    assert any("Left empty is the tile at x 400896 to 401024" in text for text in host.texts)
    figure("W3 failed_tiles=nodata: pixels left empty", lost, "65,536 (one tile)", lost == 65536)
    tidy(folder)
