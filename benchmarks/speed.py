"""The speed of jobs over pixels: against what the machine can do, with the same result, and with few reads."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import checkout  # noqa: F401
import engines
import limits
import models
import numpy as np
import rasterio
import scenes
from deep_raster.engine.inference.plan import Plan
from measure import Table, middle, progress, spread

_TOOK = re.compile(r"took ([\d.]+) s of processor time, ([\d.]+) s")


def _engines_of(name: str) -> tuple[str, ...]:
    return ("torch", "torch folded") if name == "own" else ("ort",)


def _network_file(name: str, definition: Path) -> Path:
    return definition if name == "own" else definition.with_suffix(".onnx")


def against_limit(asked: argparse.Namespace) -> None:
    """Compare whole jobs with the network alone, and with the usual loop, in rounds of all three."""
    table = Table(
        "Whole job against the network alone (Mpix of network input per CPU second)",
        "network", "raster", "tiles", "input / raster", "network alone", "job", "ratio", "bound", "of the bound",
        "usual loop", "ratio", "in the network",
    )  # fmt: skip
    for name in asked.networks.split(","):
        for side in map(int, asked.sizes.split(",")):
            table.row(*_one_limit(asked, name, side))


def _one_limit(asked: argparse.Namespace, name: str, side: int) -> list[str]:
    definition = models.make(asked.scratch / "models", name)
    raster = scenes.make(asked.scratch / f"scene_{side}.tif", side, side)
    network, output = _network_file(name, definition), asked.scratch / "out.tif"
    job = engines.classify(raster, definition, output)
    layout = engines.plan_of(job, asked.scratch).items[0].layout
    share = layout.redundancy
    best = limits.best_forward(_engines_of(name), network, limits.FORMS, asked.seconds)
    progress(f"{name} {side}: " + ", ".join(f"{key} {rate:.2f}" for key, rate in best["rates"].items()))
    best.pop("rates")
    # The usual loop has the same rate on any raster, so the small one will do for it.
    small = scenes.make(asked.scratch / f"scene_{min(side, 2048)}.tif", min(side, 2048), min(side, 2048))
    rounds: list[dict[str, float]] = []
    with engines.WarmEngine(asked.scratch) as engine:
        for number in range(asked.rounds + 1):
            one = {"limit": limits.forward(model=network, seconds=2 * asked.seconds, **best)}
            done = engine.run(job)
            one["job"] = side * side * share / done.cpu / 1e6
            took = next(found for text in done.texts if (found := _TOOK.search(text)))
            one["network"] = float(took[2]) / done.cpu
            one["read"], one["write"] = _sides(raster, output, asked.scratch)
            if name != "own":
                found = limits.measure("loop", path=str(small), model=str(network), target=str(asked.scratch / "l.tif"))
                one["loop"] = found["pixels"] / found["cpu"] / 1e6
            progress(f"{name} {side} round {number}: " + ", ".join(f"{key} {value:.3f}" for key, value in one.items()))
            if number:  # the first warms up
                rounds.append(one)
    bounds = [bound(one["limit"], one["read"], one["write"], share) for one in rounds]
    ratios = [one["job"] / one["limit"] for one in rounds]
    loops = [one["loop"] for one in rounds if "loop" in one]
    return [
        models.NAMES[name],
        f"{side}²",
        f"{max(one.size for one in layout.columns)} × {max(one.size for one in layout.rows)}",
        f"{share:.3f}",
        f"{spread(one['limit'] for one in rounds)} ({best['engine']} {best['tile']} b{best['batch']})",
        spread(one["job"] for one in rounds),
        f"**{spread(ratios, 3)}**",
        f"{middle(bounds):.3f}",
        f"**{middle(ratio / most for ratio, most in zip(ratios, bounds)):.3f}**",
        spread(loops) if loops else "–",
        f"{middle(one['loop'] / one['limit'] for one in rounds):.2f}" if loops else "–",
        f"{middle(one['network'] for one in rounds):.3f}",
    ]


def _sides(raster: Path, output: Path, scratch: Path) -> tuple[float, float]:
    """Return Mpix of raster per CPU second of reading alone and of writing alone."""
    read = limits.measure("read", path=str(raster))
    write = limits.measure("write", path=str(output), target=str(scratch / "w.tif"))
    return read["pixels"] / read["cpu"] / 1e6, write["pixels"] / write["cpu"] / 1e6


def bound(network: float, read: float, write: float, share: float) -> float:
    """Return the share of the network's own rate that is left when every block is read and written once.

    On a CPU all stages share the cores, so their times add up; ``share`` is input pixels per raster pixel.
    """
    return (1 / network) / (1 / network + 1 / (read * share) + 1 / (write * share))


def exactness(asked: argparse.Namespace) -> None:
    """Compare tiled results with one pass over the whole image, and the files of 1, 2 and 4 workers."""
    table = Table(
        "Exactness",
        "network", "raster", "input / raster", "pixels unlike the whole-image pass", "files of 1, 2, 4 workers",
    )  # fmt: skip
    width, height = asked.side, asked.side - 201
    raster = scenes.make(asked.scratch / f"exact_{width}.tif", width, height)
    with rasterio.open(raster) as data:
        image = data.read()
    for name in asked.networks.split(","):
        definition = models.make(asked.scratch / "models", name)
        digests, share = [], 0.0
        with engines.WarmEngine(asked.scratch) as engine:
            for workers in (1, 2, 4):
                output = asked.scratch / "exact.tif"
                job = engines.classify(raster, definition, output, workers)
                engine.run(job)
                digests.append(hashlib.sha256(output.read_bytes()).hexdigest())
                share = engines.plan_of(job, asked.scratch).items[0].layout.redundancy
        with rasterio.open(asked.scratch / "exact.tif") as data:
            found = data.read(1)
        unlike = int((_whole(name, definition, image) + 1 != found).sum())
        same = "the same bytes" if len(set(digests)) == 1 else "DIFFERENT"
        table.row(models.NAMES[name], f"{width} × {height}", f"{share:.3f}", f"{unlike:,}", same)


def _whole(name: str, definition: Path, image: np.ndarray) -> np.ndarray:
    """Return the best channel of every pixel from one pass; the image is filled up with zeros to the stride."""
    multiple = models.MULTIPLE[name]
    down, across = (-side % multiple for side in image.shape[1:])
    whole = np.pad(image, ((0, 0), (0, down), (0, across))).astype(np.float32)[np.newaxis] / 255
    run = limits._onnx(str(definition.with_suffix(".onnx")))
    return run(whole)[0][0].argmax(0)[: image.shape[1], : image.shape[2]]


def decode_once(asked: argparse.Namespace) -> None:
    """Compare the reading of a job's tiles, as two workers share them, with reading every block once."""
    table = Table(
        "Reading the tiles of a job against reading every block once (CPU seconds)",
        "raster", "stored as", "network", "groups", "every block once", "as the workers read", "ratio",
    )  # fmt: skip
    forms = {"tiles of 256": {"block": 256}, "tiles of 512": {}, "strips of one row": {"strips": True}}
    for text, form in forms.items():
        key = "_".join(f"{name}{value}" for name, value in form.items()) or "plain"
        suffix = "" if key == "plain" else f"_{key}"
        raster = scenes.make(asked.scratch / f"scene_{asked.side}{suffix}.tif", asked.side, asked.side, **form)
        for name in asked.networks.split(","):
            job = engines.classify(raster, models.make(asked.scratch / "models", name), asked.scratch / "d.tif")
            plan = engines.plan_of(job, asked.scratch)
            rounds = []
            for number in range(asked.rounds + 1):
                once = limits.measure("read", path=str(raster))["cpu"]
                ours = sum(_reading(asked.scratch, part, 2) for part in range(2))
                progress(f"{text} {name}: {once:.2f} {ours:.2f}")
                if number:
                    rounds.append((once, ours))
            table.row(
                f"{asked.side}²", text, models.NAMES[name], plan.items[0].grouping.count,
                spread(one for one, _ in rounds), spread(one for _, one in rounds),
                f"**{spread(ours / once for once, ours in rounds)}**",
            )  # fmt: skip


def _reading(scratch: Path, part: int, of: int) -> float:
    command = [sys.executable, __file__, str(scratch / "plan" / "plan.json"), str(part), str(of)]
    # The interpreter and this file: nothing here comes from outside.
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def read_groups(path: Path, part: int, of: int) -> float:
    """Return the CPU seconds of reading every ``of``-th group of a plan, as a worker does it."""
    import time

    from deep_raster.engine.inference.predict import _around
    from deep_raster.engine.inference.reading import open_source

    plan = Plan.from_dict(json.loads(path.read_text(encoding="utf-8")))
    item = plan.items[0]
    start = time.process_time()
    source = open_source(item.inputs, item.second, item.grid, plan.bands, plan.resampling)
    for number in range(part, item.grouping.count, of):
        group = item.grouping.group(number)
        for row in range(group.top, group.bottom):
            source.read(_around([item.layout.tile(row, column) for column in range(group.left, group.right)]))
    return time.process_time() - start


if __name__ == "__main__":
    print(read_groups(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
