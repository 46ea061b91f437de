"""Fault plan C2 for the export of chips: cancelled at each of its steps, while other programs keep all cores busy."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from deep_raster.engine import jobs
from nightly_models import write_scene
from nightly_support import Host, digest, scaled, tidy, wait_until

# Steps at which it is cancelled: words of the progress at that moment.
STEPS = {
    "start": "", "opening": "Opening", "labels": "Reading the labels", "chips": " chips", "names": "Naming",
    "statistics": "Writing statistics", "moving": "Moving",
}  # fmt: skip


@pytest.fixture(scope="module")
def job(workshop):
    """Export 1,600 chips, all of a scene, so that each step takes a moment."""
    folder = workshop / "c2x"
    scene = jobs.RasterInput(write_scene(folder / "scene.tif", 2560))
    return jobs.ExportTrainingData(
        (scene,), str(folder / "calm"), "Export_Tiles", tile_size_x=64, tile_size_y=64, all_tiles=True, workers=2
    )


@pytest.fixture(scope="module")
def expected(workshop, job):
    host = Host(job, workshop / "c2x" / "calm-run")
    assert host.wait() == "done", host.message
    return digest(job.output)


@pytest.fixture
def busy():
    """Keep every core busy twice."""
    code = "while True: pass"
    others = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2 * (os.cpu_count() or 1))]
    yield
    for one in others:
        one.kill()
        one.wait()


def cancelled(host):
    """Cancel; return how the job ended and the seconds until the host was free again."""
    asked = time.monotonic()
    host.tell_cancel()
    state = host.wait(60)
    assert state in ("cancelled", "done"), host.message
    return state, host.ended - asked


def there(output):
    return [one for one in Path(output).glob("*") if one.name[0] != "."]


def halfway(output):
    """Return whether it was cancelled between those renames; the next start does the rest."""
    work = Path(output) / ".deep_raster_export"
    return (work / "job.json").exists() and (work / "publish.json").exists()


def seen(output):
    """Return the digest of what a person sees; a cancel may leave the working folder to the next start."""
    shutil.rmtree(Path(output) / ".deep_raster_export", ignore_errors=True)
    return digest(output)


@pytest.mark.parametrize("step", STEPS)
def test_cancel_at_steps(workshop, job, expected, busy, figure, step):
    slowest = 0.0
    for number in range(scaled(2)):
        folder = workshop / f"c2x-{step}-{number}"
        asked = dataclasses.replace(job, output=str(folder / "out"))
        host = Host(asked, folder / "run")
        words = STEPS[step]
        wait_until(lambda host=host, words=words: any(words in text for text in host.texts) or not words, 60)
        time.sleep(0.1 * number)
        state, free = cancelled(host)
        slowest = max(slowest, free)
        assert not host.left(), "processes outlive a cancelled job"
        # Whole folders are renamed at the end: nothing is there before, everything within milliseconds.
        nothing = state == "cancelled" and not there(asked.output)
        assert nothing or halfway(asked.output) or seen(asked.output) == expected
        again = Host(dataclasses.replace(asked, existing="CONTINUE"), folder / "again")
        assert again.wait() == "done", again.message
        assert digest(asked.output) == expected
        tidy(folder)
    figure(f"C2 export cancelled during “{step}”, cores busy: slowest answer, s", round(slowest, 2), "2", slowest < 2.5)


def test_cancel_while_an_unfinished_export_is_given_up(workshop, job, expected, busy, figure):
    """What is left of a large export is removed file by file."""
    folder = workshop / "c2x-given-up"
    asked = dataclasses.replace(job, output=str(folder / "out"))
    host = Host(asked, folder / "run")
    assert wait_until(lambda: any("Naming" in text for text in host.texts), 120)
    cancelled(host)
    blocks = folder / "out" / ".deep_raster_export" / "blocks"
    (blocks / "0").mkdir(exist_ok=True)
    for number in range(60_000):
        (blocks / "0" / f"{number}.tif").touch()
    host = Host(asked, folder / "anew")
    assert wait_until(lambda: len(os.listdir(blocks)) == 0 or not (blocks.parent / "job.json").exists(), 60)
    state, free = cancelled(host)
    figure("C2 export cancelled while another is given up, s", round(free, 2), "2", free < 2.5)
    assert state == "cancelled"
    assert free < 3.5
    last = Host(asked, folder / "last")
    assert last.wait() == "done", last.message
    assert digest(asked.output) == expected
    assert not any(one.name[0] == "." for one in Path(asked.output).iterdir())
    tidy(folder)
