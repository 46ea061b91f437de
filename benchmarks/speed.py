"""The speed of jobs over pixels: against what the machine can do, with the same result, and with few reads."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import checkout  # noqa: F401
import engines
import limits
import models
import numpy as np
import rasterio
import scenes
from measure import Table, middle, progress, spread


def _engines_of(name: str) -> tuple[str, ...]:
    return ("torch", "torch folded") if name == "own" else ("ort",)


def _network_file(name: str, definition: Path) -> Path:
    return definition if name == "own" else definition.with_suffix(".onnx")


def against_limit(asked: argparse.Namespace) -> None:
    """Compare whole jobs with the network alone, and with the usual loop, in rounds of all three."""
    table = Table(
        "Whole job against the network alone (Mpix of network input per CPU second)",
        "network", "raster", "tiles", "input / raster", "network alone", "job", "ratio", "bound", "of the bound",
        "network alone on the job's tiles", "ratio", "usual loop", "ratio", "in the network",
    )  # fmt: skip
    for name in asked.networks.split(","):
        for side in map(int, asked.sizes.split(",")):
            table.row(*_one_limit(asked, name, side))


def _one_limit(asked: argparse.Namespace, name: str, side: int) -> list[str]:
    definition = models.make(asked.scratch / "models", name)
    raster = scenes.make(asked.scratch / f"scene_{side}.tif", side, side)
    network, output = _network_file(name, definition), asked.scratch / "out.tif"
    job = engines.classify(raster, definition, output)
    best = limits.best_forward(_engines_of(name), network, limits.FORMS, asked.seconds)
    progress(f"{name} {side}: " + ", ".join(f"{key} {rate:.2f}" for key, rate in best["rates"].items()))
    best.pop("rates")
    # The usual loop has the same rate on any raster, so the small one will do for it.
    small = scenes.make(asked.scratch / f"scene_{min(side, 2048)}.tif", min(side, 2048), min(side, 2048))
    rounds: list[dict[str, float]] = []
    share, side_of_tile = 1.0, 0
    with engines.WarmEngine(asked.scratch) as engine:
        for number in range(asked.rounds + 1):
            one = {"limit": limits.forward(model=network, seconds=2 * asked.seconds, **best)}
            done = engine.run(job)
            share, side_of_tile = _tiling(done)
            one["job"] = done.statistics["input_pixels"] / done.cpu / 1e6
            alike = max(models.ALIGNED, side_of_tile // models.ALIGNED * models.ALIGNED)
            one["alike"] = limits.forward(best["engine"], network, alike, 1, 2 * asked.seconds)
            one["network"] = done.statistics["network_seconds"] / done.cpu
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
        f"about {side_of_tile}²",
        f"{share:.3f}",
        f"{spread(one['limit'] for one in rounds)} ({best['engine']} {best['tile']} b{best['batch']})",
        spread(one["job"] for one in rounds),
        f"**{spread(ratios, 3)}**",
        f"{middle(bounds):.3f}",
        f"**{middle(ratio / most for ratio, most in zip(ratios, bounds)):.3f}**",
        spread(one["alike"] for one in rounds),
        f"{middle(one['job'] / one['alike'] for one in rounds):.3f}",
        spread(loops) if loops else "–",
        f"{middle(one['loop'] / one['limit'] for one in rounds):.2f}" if loops else "–",
        f"{middle(one['network'] for one in rounds):.3f}",
    ]


def _tiling(done: engines.Outcome) -> tuple[float, int]:
    """Return input pixels per raster pixel, and the side of an average tile."""
    pixels = done.statistics["input_pixels"]
    return pixels / done.statistics["raster_pixels"], round((pixels / done.tiles) ** 0.5)


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
                done = engine.run(job)
                digests.append(hashlib.sha256(output.read_bytes()).hexdigest())
                share = done.statistics["input_pixels"] / done.statistics["raster_pixels"]
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
    run = limits.onnx_runner(str(definition.with_suffix(".onnx")))
    return run(whole)[0][0].argmax(0)[: image.shape[1], : image.shape[2]]


def decode_once(asked: argparse.Namespace) -> None:
    """Compare what two workers spend on reading in a job with reading every block once."""
    table = Table(
        "Reading in a job of two workers against reading every block once (CPU seconds)",
        "raster", "stored as", "network", "every block once", "in the job", "ratio",
    )  # fmt: skip
    forms = {"tiles of 256": {"block": 256}, "tiles of 512": {}, "strips of one row": {"strips": True}}
    for text, form in forms.items():
        suffix = "".join(f"_{name}{value}" for name, value in form.items())
        raster = scenes.make(asked.scratch / f"scene_{asked.side}{suffix}.tif", asked.side, asked.side, **form)
        for name in asked.networks.split(","):
            job = engines.classify(raster, models.make(asked.scratch / "models", name), asked.scratch / "d.tif", 2)
            rounds = []
            with engines.WarmEngine(asked.scratch) as engine:
                for number in range(asked.rounds + 1):
                    once = limits.measure("read", path=str(raster))["cpu"]
                    ours = engine.run(job).statistics["read_seconds"]
                    progress(f"{text} {name}: {once:.2f} {ours:.2f}")
                    if number:
                        rounds.append((once, ours))
            table.row(
                f"{asked.side}²", text, models.NAMES[name],
                spread(one for one, _ in rounds), spread(one for _, one in rounds),
                f"**{spread(ours / once for once, ours in rounds)}**",
            )  # fmt: skip
