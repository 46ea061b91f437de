"""Fault plan W9 to W13: chatter, junk on the pipes, broken environments, a stopped machine, endurance."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import rasterio
from deep_raster.engine import client
from deep_raster.engine.environment import Environment
from nightly_jobs import all_kinds
from nightly_models import function_job, pixel_job, set_fault, write_pixel_network
from nightly_support import Host, Watch, memory_of, processes_with, scaled, tidy, wait_until
from pictures import write_scene
from rasterio.windows import Window

psutil = pytest.importorskip("psutil")
WORKERS = Path(__file__).resolve().parents[1] / "engine" / "workers"


def test_chatter(workshop, numbered, function, calm, figure):
    """W9: 100 MB on stderr, 10 MB and junk on stdout, 100 MB of messages: no deadlock, small memory, a bounded log."""
    folder = workshop / "w9"
    output = folder / "classes.tif"
    quiet = Host(function_job(numbered, function, output), folder / "quiet")
    set_fault(numbered, kind="chatter", tiles=[5, 50], times=2)
    most = {"quiet": 0, "loud": 0}
    for name in most:
        if name == "loud":
            output = folder / "loud.tif"
            host = Host(function_job(numbered, function, output), folder / "loud")
        else:
            host = quiet
        with Watch(output) as watch:
            while host.process.poll() is None:
                most[name] = max(most[name], *(memory_of(pid) for pid in [host.process.pid, *host.engines()]))
                time.sleep(0.05)
            assert host.wait() == "done", host.message
        host.check(calm[1], watch)
        set_fault(numbered, kind="chatter", tiles=[5, 50], times=2)
    log = sum(len(text) for text in host.texts)
    growth = (most["loud"] - most["quiet"]) / 2**20
    figure("W9 characters of log that reach the user of 200 MB", f"{log:,}", "10 MB", log <= 10.5e6)
    figure("W9 growth of host and engine, MiB", f"{growth:.0f}", "20", growth <= 20)
    assert log <= 10.5e6 and growth <= 40
    tidy(folder)


def test_frames_of_a_fuzzer(figure):
    """W10: the way of a message through the engine, with mutated frames."""
    spec = importlib.util.spec_from_file_location("test_messages", WORKERS / "test_messages.py")
    fuzz = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz)
    chance, counts = random.Random(20), {"refused": 0, "taken": 0, "end": 0}
    count = scaled(100_000)
    for _ in range(count):
        counts[fuzz.take(fuzz.mutated(chance))] += 1
    assert counts["refused"] and counts["taken"]
    figure("W10 mutated frames: refused / harmless", f"{counts['refused']:,} / {counts['taken']:,}", "plan: 1,000,000")


FAKES = {
    "missing": None,
    "no program": b"\0\1\2 junk",
    "not executable": b"#!/bin/sh\nexit 0\n",
    "ends at once": b"#!/bin/sh\necho broken venv >&2; exit 1\n",
    "another program": b"#!/bin/sh\necho hello; cat\n",
    "another protocol": b'#!/bin/sh\necho \'{"event": "hello", "protocol": 99, "version": "9"}\'; cat\n',
}


@pytest.mark.parametrize("name", FAKES)
def test_broken_environments(workshop, scene, model, figure, name):
    """W11: told within 5 s, before anything is touched."""
    folder = workshop / "w11" / name
    folder.mkdir(parents=True)
    python = folder / "python"
    if FAKES[name] is not None:
        python.write_bytes(FAKES[name])
        python.chmod(0o600 if name == "not executable" else 0o700)
    host = Host(pixel_job(scene, model, folder / "out" / "o.tif"), folder / "run", python=str(python))
    assert host.wait() == "failed"
    assert not host.left()
    assert not (folder / "out").exists()
    assert "Traceback" not in host.stderr + host.message
    words = ("Restart QGIS",) if name == "another protocol" else ("Set up environment", str(python))
    assert all(one in host.message for one in words), host.message
    figure(f"W11 environment “{name}” refused after, s", round(host.seconds, 1), "5", host.seconds <= 5)


def test_a_stopped_machine(workshop, scene, model, undisturbed, figure):
    """W12: all processes stop for longer than a lease and go on: no worker is ended for it."""
    ended = 0
    for number in range(scaled(2)):
        folder = workshop / f"w12-{number}"
        output = folder / "classes.tif"
        with Watch(output) as watch:
            host = Host(pixel_job(scene, model, output), folder / "run", engine={"lease": 6.0, "first": 6.0})
            assert wait_until(lambda host=host: any("Predicting" in one for one in host.texts), 60), host.texts
            pids = list(processes_with(host.mark))
            for sign in (signal.SIGSTOP, signal.SIGCONT):
                for pid in pids if sign == signal.SIGSTOP else reversed(pids):
                    with contextlib.suppress(OSError):
                        os.kill(pid, sign)
                time.sleep(12 if sign == signal.SIGSTOP else 0)
            assert host.wait() == "done", host.message
        host.check(undisturbed[1], watch)
        ended += sum("no sign of life" in text for text in host.texts)
        tidy(folder)
    figure("W12 workers ended because the machine slept for two leases", ended, "0", ended == 0)
    assert ended == 0


def test_a_clock_that_is_set(workshop, scene, model, undisturbed, figure):
    """W12: the wall clock jumps by hours in both directions, again and again: nobody notices."""
    folder = workshop / "w12-clock"
    output = folder / "classes.tif"
    jumps = 0
    with Watch(output) as watch:
        host = Host(
            pixel_job(scene, model, output), folder / "run", engine={"clock": True, "lease": 3.0, "first": 30.0}
        )
        while host.process.poll() is None:
            (folder / "run" / "clock").write_text(str((3600, -3600, 86400, 0)[jumps % 4]))
            jumps += 1
            time.sleep(0.2)
        assert host.wait() == "done", host.message
    host.check(undisturbed[1], watch)
    replaced = sum("was replaced" in text for text in host.texts)
    figure(f"W12 workers ended because the clock was set {jumps} times", replaced, "0", replaced == 0)
    assert replaced == 0 and jumps > 5
    tidy(folder)


def test_a_job_of_many_tiles(workshop, figure):
    """W13: 20,000 tiles: memory, descriptors and threads stay as they are, and the result is the network's answer."""
    tiles, side = round(scaled(20_000, 400) ** 0.5) + 1, 64
    folder = workshop / "w13-tiles"
    scene = write_scene(folder / "scene.tif", tiles * side)
    network = write_pixel_network(folder / "net", side)
    output, seen = folder / "out" / "classes.tif", []
    host = Host(pixel_job(scene, network, output, workers=2), folder / "run")
    while host.process.poll() is None:
        with contextlib.suppress(psutil.Error, IndexError):
            engine = psutil.Process(host.engines()[0])
            workers = engine.children()
            told = max((one["fraction"] for one in host.events if one.get("event") == "progress"), default=0.0)
            if 0.2 < told < 0.9 and len(workers) == 2:
                family = (engine, *workers)
                seen.append([
                    engine.memory_info().rss + psutil.Process(host.process.pid).memory_info().rss,
                    sum(one.memory_info().rss for one in workers),
                    sum(one.num_fds() for one in family), sum(one.num_threads() for one in family),
                ])  # fmt: skip
        time.sleep(0.1)
    assert host.wait() == "done", host.message
    assert not host.left()
    third = max(1, len(seen) // 3)
    first, last = ([max(row[i] for row in rows) for i in range(4)] for rows in (seen[:third], seen[-third:]))
    growth = [(last[i] - first[i]) / 2**20 for i in (0, 1)]
    figure(f"W13 {tiles**2:,} tiles, s", round(host.seconds, 1))
    figure("W13 many tiles: growth of engine / workers, MiB", f"{growth[0]:.1f} / {growth[1]:.1f}", "10 / 50",
           growth[0] <= 10 and growth[1] <= 50)  # fmt: skip
    figure("W13 many tiles: descriptors, threads first / last", f"{first[2:]} / {last[2:]}", "equal",
           last[2] <= first[2] + 3 and last[3] <= first[3])  # fmt: skip
    asked = onnxruntime.InferenceSession(str(folder / "net" / "net.onnx"), providers=["CPUExecutionProvider"])
    chance, right = random.Random(13), []
    with rasterio.open(scene) as pixels, rasterio.open(output) as classes:
        for _ in range(50):
            column, row = (chance.randrange(tiles) * side for _ in range(2))
            window = Window(column, row, side, side)
            image = pixels.read(window=window)
            scores = asked.run(None, {"image": image[None].astype("float32")})[0][0]
            valid = classes.read_masks(1, window=window) > 0
            right.append((classes.read(1, window=window) == scores.argmax(0) + 1)[valid])
    # Tiles overlap and are blended, so that seams differ a little from the answer for a window alone.
    assert np.concatenate(right).mean() > 0.95
    assert growth[0] <= 20 and growth[1] <= 60 and last[2] <= first[2] + 3
    tidy(folder)


def test_endurance(workshop, figure):
    """W13: many jobs in one warm engine: memory, descriptors and threads stay; files can be replaced afterwards."""
    kinds = all_kinds(workshop / "w13", 2 * 256)
    kind, count = kinds["pixels"], scaled(100)
    environment = Environment(python=sys.executable, root="", frameworks=(), versions={})
    me = psutil.Process()
    seen = []
    before = {one.pid for one in me.children(recursive=True)}
    try:
        for number in range(count):
            target = workshop / "w13" / f"out-{number}"
            client.run_job(
                kind.job(target), on_event=lambda event: None, is_cancelled=lambda: False, environment=environment,
                keep_warm=True,
            )  # fmt: skip
            family = [me, *[one for one in me.children(recursive=True) if one.pid not in before]]
            if number >= count // 5:
                seen.append([
                    me.memory_info().rss, sum(one.memory_info().rss for one in family[1:]),
                    sum(one.num_fds() for one in family), sum(one.num_threads() for one in family),
                    len(family),
                ])  # fmt: skip
            tidy(target)
        time.sleep(2.5)
        scene = os.path.realpath(kind.job(workshop).inputs[0].path)
        held = [one.pid for one in family if any(file.path == scene for file in one.open_files())]
    finally:
        client.shutdown_engines()
    first, last = seen[0], seen[-1]
    growth = [(last[i] - first[i]) / 2**20 for i in (0, 1)]
    figure(f"W13 {count} jobs: growth of host / engine and workers, MiB", f"{growth[0]:.1f} / {growth[1]:.1f}", "50",
           max(growth) <= 50)  # fmt: skip
    figure("W13 descriptors, threads, processes: first / last", f"{first[2:]} / {last[2:]}", "equal",
           last[2] <= first[2] + 3 and last[3:] == first[3:])  # fmt: skip
    figure("W13 processes that hold the raster open 2.5 s after the last job", len(held), "0", not held)
    assert max(growth) <= 50 and last[2] <= first[2] + 3 and last[4] == first[4] and not held
