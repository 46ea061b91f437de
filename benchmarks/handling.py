"""How a job behaves around its work: memory for rasters of any size, the start, and the end by cancel."""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import checkout  # noqa: F401
import engines
import models
import scenes
from deep_raster.engine.errors import JobCancelled
from deep_raster.engine.inference.journal import WorkFolder
from measure import Table, descendants, progress, spread

_SHAPES = ("4096x4096", "10240x10240", "20480x20480", "4096x100000", "100000x4096")
# A cancel comes at a random moment of this share of the job's usual time.
_PHASES = (0.05, 0.98)


def memory(asked: argparse.Namespace) -> None:
    """Compare the peak memory of the process tree for rasters of growing size; each has an engine of its own."""
    table = Table(
        "Memory of engine and workers (peak PSS)",
        "network", "raster", "Mpix", "peak, MB", "slope from the first, bytes per pixel", "CPU s",
    )  # fmt: skip
    shapes = [tuple(map(int, one.split("x"))) for one in (asked.shapes or ",".join(_SHAPES)).split(",")]
    for name in asked.networks.split(","):
        definition = models.make(asked.scratch / "models", name)
        first: tuple[int, float] | None = None
        for width, height in shapes:
            raster = scenes.make(asked.scratch / f"memory_{width}_{height}.tif", width, height, repeat=True)
            output = asked.scratch / "memory.tif"
            job = engines.classify(raster, definition, output)
            with engines.WarmEngine(asked.scratch, memory=True) as engine:
                done = engine.run(job)
                peak = engine.tree.peak_mb
            output.unlink()
            pixels = width * height
            first = first or (pixels, peak)
            slope = f"{(peak - first[1]) * 2**20 / (pixels - first[0]):.3f}" if pixels > first[0] else "–"
            members = " + ".join(f"{size:.0f}" for size in engine.tree.members.values())
            text = f"{width:,} × {height:,}"
            table.row(
                models.NAMES[name], text, f"{pixels / 1e6:.0f}", f"{peak:.0f} ({members})", slope, f"{done.cpu:.0f}"
            )


def start(asked: argparse.Namespace) -> None:
    """Time the way to the first finished tile, by a new engine and by one that has done the job before."""
    table = Table(
        "From the start to the first finished group of tiles",
        "network", "engine", "wall, s", "CPU of the tree, s",
    )  # fmt: skip
    raster = scenes.make(asked.scratch / f"scene_{asked.side}.tif", asked.side, asked.side)
    for name in asked.networks.split(","):
        definition = models.make(asked.scratch / "models", name)
        job = engines.classify(raster, definition, asked.scratch / "start.tif")
        found: dict[str, list[tuple[float, float]]] = {"new": [], "warm": []}
        for number in range(asked.rounds + 1):
            for how, (wall, cpu) in zip(found, _starts(asked.scratch, job)):
                progress(f"{name} {how}: {wall:.2f} s, CPU {cpu:.2f} s")
                if number:
                    found[how].append((wall, cpu))
        for how, values in found.items():
            walls, cpus = zip(*values)
            table.row(models.NAMES[name], how, f"**{spread(walls)}**", spread(cpus))


def _starts(scratch: Path, job: engines.jobs.Job) -> list[tuple[float, float]]:
    """Return (wall, CPU) seconds to the first group of a new engine, then of the same engine again."""
    begun = time.monotonic()
    with engines.WarmEngine(scratch) as engine:
        new = _first_group(engine, job, begun, 0.0)
        return [new, _first_group(engine, job, time.monotonic(), engine.tree.cpu)]


def _first_group(engine: engines.WarmEngine, job: engines.jobs.Job, begun: float, before: float) -> tuple[float, float]:
    found: list[tuple[float, float]] = []

    def listen(event: object) -> None:
        if not found and getattr(event, "text", "").startswith("Predicting: part"):
            found.append((time.monotonic() - begun, engine.tree.cpu - before))

    engine.engine.run(job, listen, lambda: False)
    return found[0]


def cancel(asked: argparse.Namespace) -> None:
    """Cancel jobs at random moments; time to the job's end, and to the end of the last process after its engine's."""
    table = Table(
        "Cancel at random moments (wall, s)",
        "network", "raster", "cancels", "to the end of the job", "longest", "to no process left", "longest",
    )  # fmt: skip
    raster = scenes.make(asked.scratch / f"scene_{asked.side}.tif", asked.side, asked.side)
    generator = random.Random(5)
    for name in asked.networks.split(","):
        definition = models.make(asked.scratch / "models", name)
        job = engines.classify(raster, definition, asked.scratch / "cancel.tif")
        with engines.WarmEngine(asked.scratch) as engine:
            usual = engine.run(job, from_start=True).wall
        ends, leaves = [], []
        for _ in range(max(10, asked.rounds)):
            WorkFolder.for_output(job.output).remove()  # a job that finds finished parts would be done too soon
            moment = usual * generator.uniform(*_PHASES)
            end, leave = _cancelled(asked.scratch, job, moment)
            if end:
                progress(f"{name} after {moment:.1f} of {usual:.1f} s: {end:.2f} s, all gone after {leave:.2f} s")
                ends.append(end)
                leaves.append(leave)
        table.row(
            models.NAMES[name], f"{asked.side}²", len(ends), spread(ends), f"**{max(ends):.2f}**",
            spread(leaves), f"**{max(leaves):.2f}**",
        )  # fmt: skip


def _cancelled(scratch: Path, job: engines.jobs.Job, moment: float) -> tuple[float, float]:
    """Return the seconds from a cancel to the job's end and to no process left; zeros if the job was done before."""
    engine = engines.client.Engine(engines.ENVIRONMENT)
    begun, asked_at = time.monotonic(), 0.0

    def is_cancelled() -> bool:
        nonlocal asked_at
        if not asked_at and time.monotonic() - begun > moment:
            asked_at = time.monotonic()
        return asked_at > 0

    try:
        engine.run(job, lambda event: None, is_cancelled)
    except JobCancelled:
        end = time.monotonic() - asked_at
        family = descendants(engine.pid)
        engine.kill()
        while any(_is_alive(pid) for pid in family):
            time.sleep(0.01)
        return end, time.monotonic() - asked_at
    finally:
        engine.kill()
    return 0.0, 0.0


def _is_alive(pid: int) -> bool:
    return bool(descendants(pid))
