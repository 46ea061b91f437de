"""Fault plan W5, W6 and W8: memory that runs out, and GPUs that fail."""

from __future__ import annotations

import contextlib
import os
import re
import time
from pathlib import Path

import pytest
from nightly_models import function_job, pixel_job, set_fault
from nightly_support import Host, Watch, scaled, state_of, tidy

GROUPS = Path("/sys/fs/cgroup")


@contextlib.contextmanager
def memory_group(limit: int):
    """Make a control group of that much memory and yield the command that enters it; skips where none can be made."""
    root = GROUPS / "memory" if (GROUPS / "memory" / "memory.limit_in_bytes").exists() else GROUPS
    group = root / f"deep_raster_test_{os.getpid()}"
    try:
        group.mkdir()
        (group / ("memory.max" if root == GROUPS else "memory.limit_in_bytes")).write_text(str(limit))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield ("sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh")
    finally:
        for _ in range(100):
            with contextlib.suppress(OSError):
                group.rmdir()
                break
            time.sleep(0.1)


def test_memory_runs_out(workshop, numbered, function, calm, figure):
    """W5, W6: one tile takes more than there is: the kernel takes a worker, never engine or host; the rest is done."""
    rounds, victims = scaled(2), 0
    for number in range(rounds):
        folder = workshop / f"w6-{number}"
        output = folder / "classes.tif"
        set_fault(numbered, kind="memory", tiles=[37], bytes=2 * 10**9)
        with memory_group(10**9) as enter, Watch(output) as watch:
            host = Host(function_job(numbered, function, output), folder / "run", wrap=enter)
            while not host.engines() and host.process.poll() is None:
                time.sleep(0.02)
            engines = host.engines()
            while host.process.poll() is None:
                if host.end == {}:
                    assert all(state_of(pid) != "Z" for pid in engines) or host.process.poll() is not None
                time.sleep(0.1)
            assert host.wait() == "failed", host.end
            host.check(calm[1], watch)
        victims += sum("SIGKILL" in text and "was replaced" in text for text in host.texts)
        assert "x 400896 to 401024" in host.message, host.message
        set_fault(numbered)
        again = Host(function_job(numbered, function, output), folder / "again")
        assert again.wait() == "done", again.message
        tidy(folder)
    figure("W6 victims of the kernel: workers / engine or host", f"{victims} / 0", "plan: 10")
    figure(
        "W5 tile too large for memory: given up after kills", f"{victims / rounds:.0f}", "<= 4", victims <= 4 * rounds
    )


def test_a_leak(workshop, numbered, function, calm, figure):
    """W5: 10 MiB a tile are lost: workers are replaced between two tasks, before the kernel does it."""
    folder = workshop / "leak"
    output = folder / "classes.tif"
    set_fault(numbered, kind="leak", tiles="all", bytes=10 * 2**20)
    with memory_group(1000 * 2**20) as enter, Watch(output) as watch:
        host = Host(function_job(numbered, function, output), folder / "run", wrap=enter)
        assert host.wait() == "done", host.message
        host.check(calm[1], watch)
    recycled = sum("held much memory" in text for text in host.texts)
    killed = sum("was replaced" in text and "A worker ended" in text for text in host.texts)
    figure("W5 leak of 10 MiB a tile: workers recycled / killed", f"{recycled} / {killed}", "> 0 / 0",
           recycled and not killed)  # fmt: skip
    assert recycled and not killed
    tidy(folder)


def test_a_gpu_context_is_lost(workshop, numbered, function, calm, figure):
    """W8: the worker is replaced and the job completes; when every worker fails so, the job ends resumable."""
    rounds = scaled(1)
    for number in range(rounds):
        folder = workshop / f"w8-{number}"
        output = folder / "classes.tif"
        set_fault(numbered, kind="cuda", tiles="all", times=3)
        with Watch(output) as watch:
            host = Host(function_job(numbered, function, output), folder / "run")
            assert host.wait() == "done", host.message
        host.check(calm[1], watch)
        set_fault(numbered, kind="cuda", tiles="all")
        with Watch(output) as watch:
            host = Host(function_job(numbered, function, folder / "never.tif"), folder / "bad")
            assert host.wait() == "failed"
        assert "GPU fails again and again" in host.message and "PROCESSOR to CPU" in host.message
        assert not host.left() and not (folder / "never.tif").exists()
        tidy(folder)
    figure("W8 lost GPU contexts survived, then an end that asks for the CPU", 3 * rounds, "plan: 10")


def test_oom_scores(workshop, scene, model, figure):
    """The kernel is told to take workers first."""
    host = Host(pixel_job(scene, model, workshop / "score.tif"), workshop / "score")
    while not host.workers():
        time.sleep(0.02)
    time.sleep(1)
    scores = {int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in host.workers()}
    mine = int(re.sub(r"\D", "", Path("/proc/self/oom_score_adj").read_text()) or 0)
    host.tell_cancel()
    host.wait()
    assert scores == {800} and mine < 800
