"""What the machine can do at best, measured apart: the network alone, reading alone, writing alone, and the usual loop.

Each is a process of its own that does nothing else and imports nothing of the engine. Started as
``limits.py KIND JSON`` it gets ready, says so, waits for a line on its input, works, and prints its figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence

import numpy as np

Figures = dict[str, float]
# (tile, batch) that are tried for the best forward rate; the anchors found nothing better elsewhere
FORMS = ((256, 4), (512, 1), (1024, 1))
_STEP, _TILE = 448, 512


def measure(kind: str, processes: int = 1, **members: Any) -> Figures:
    """Run one kind of work in some processes at once and return the sums of their figures."""
    command = [sys.executable, __file__, kind, json.dumps(members)]
    # The interpreter and this file: nothing here comes from outside.
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(processes)
    ]
    for one in started:
        if one.stdout.readline().strip() != "ready":
            raise RuntimeError(f"{kind} did not get ready")
    for one in started:
        one.stdin.write("go\n")
        one.stdin.flush()
    found = [json.loads(one.communicate()[0]) for one in started]
    return {name: sum(one[name] for one in found) for name in found[0]}


def best_forward(engines: Sequence[str], model: Path, forms: Sequence[tuple[int, int]], seconds: float) -> dict:
    """Return the engine, tile and batch of the highest forward rate on two processes of one thread, and all rates."""
    rates = {}
    for engine in engines:
        for tile, batch in forms:
            rates[(engine, tile, batch)] = forward(engine, model, tile, batch, seconds)
    best = max(rates, key=rates.get)
    return {"engine": best[0], "tile": best[1], "batch": best[2], "rates": rates}


def forward(engine: str, model: Path, tile: int, batch: int, seconds: float) -> float:
    """Return Mpix of input per CPU second of the network alone."""
    found = measure("forward", 2, engine=engine, model=str(model), tile=tile, batch=batch, seconds=seconds)
    return found["pixels"] / found["cpu"] / 1e6


def _timed(work: Callable[[], Iterator[int]]) -> Figures:
    """Say that all is ready, wait for the word, and return the pixels done and the CPU seconds of the whole process."""
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.process_time()
    pixels = sum(work())
    return {"pixels": pixels, "cpu": time.process_time() - start}


def _forward(engine: str, model: str, tile: int, batch: int, seconds: float) -> Figures:
    import scenes

    image = scenes.rows_of(max(2048, tile), 0, tile).astype(np.float32) / 255
    columns = range(0, image.shape[2] - tile + 1, max(1, (image.shape[2] - tile) // 8 or 1))
    images = [np.ascontiguousarray(image[:, :, column : column + tile]) for column in columns]
    batches = [
        np.stack([images[(first + number) % len(images)] for number in range(batch)]) for first in range(len(images))
    ]
    run = onnx_runner(model) if engine == "ort" else _torch(model, folded=engine == "torch folded")
    for one in batches[:2]:
        run(one)

    def work() -> Iterator[int]:
        stop, turn = time.process_time() + seconds, 0
        while time.process_time() < stop:
            run(batches[turn % len(batches)])
            turn += 1
            yield batch * tile * tile

    return _timed(work)


def onnx_runner(model: str) -> Callable[[np.ndarray], Any]:
    """Return the function from images to outputs of an ONNX file, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _torch(model: str, folded: bool) -> Callable[[np.ndarray], Any]:
    import models
    import torch
    from torch.fx.experimental.optimization import fuse

    torch.set_num_threads(1)
    network = models.own_network(Path(model))
    network = (fuse(network) if folded else network).to(memory_format=torch.channels_last)

    def run(images: np.ndarray) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(images).contiguous(memory_format=torch.channels_last))

    return run


def _read(path: str) -> Figures:
    """Read every block once, a row of blocks at a time."""
    import rasterio
    from rasterio.windows import Window

    with rasterio.Env(GDAL_CACHEMAX=64 << 20), rasterio.open(path) as data:
        rows = max(data.block_shapes[0][0], 128)

        def work() -> Iterator[int]:
            for row in range(0, data.height, rows):
                count = min(rows, data.height - row)
                data.read(window=Window(0, row, data.width, count))
                yield count * data.width

        return _timed(work)


def _write(path: str, target: str) -> Figures:
    """Write a part of a class raster once more: tiled, DEFLATE of level 1, nothing else."""
    import rasterio

    with rasterio.open(path) as data:
        rows, columns = min(4096, data.height), min(4096, data.width)
        pixels, place = data.read(1, window=((0, rows), (0, columns))), {"crs": data.crs, "transform": data.transform}
    profile = {"driver": "GTiff", "width": columns, "height": rows, "count": 1, "dtype": pixels.dtype, "zlevel": 1}
    profile.update(tiled=True, blockxsize=512, blockysize=512, compress="deflate")

    def work() -> Iterator[int]:
        with rasterio.open(target, "w", **profile, **place) as out:
            out.write(pixels, 1)
        yield pixels.size

    return _timed(work)


def _loop(path: str, model: str, target: str) -> Figures:
    """The loop that everybody writes: read a tile, run the session as it comes, take the best, write the inner part."""
    import onnxruntime
    import rasterio
    from rasterio.windows import Window

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    border = (_TILE - _STEP) // 2
    with rasterio.open(path) as data:
        profile = {**data.profile, "count": 1, "dtype": "uint8", "interleave": "band", "predictor": 1}

        def starts(length: int) -> list[int]:
            return sorted({min(one, max(0, length - _TILE)) for one in range(0, max(1, length - 2 * border), _STEP)})

        def work() -> Iterator[int]:
            with rasterio.open(target, "w", **profile) as out:
                for row in starts(data.height):
                    for column in starts(data.width):
                        image = data.read(window=Window(column, row, _TILE, _TILE)).astype(np.float32) / 255
                        scores = session.run(None, {"images": image[np.newaxis]})[0][0]
                        top, left = border * (row > 0), border * (column > 0)
                        inner = scores.argmax(0).astype(np.uint8)[top:, left:] + 1
                        out.write(inner, 1, window=Window(column + left, row + top, inner.shape[1], inner.shape[0]))
                        yield image[0].size

        return _timed(work)


_KINDS = {"forward": _forward, "read": _read, "write": _write, "loop": _loop}

if __name__ == "__main__":
    print(json.dumps(_KINDS[sys.argv[1]](**json.loads(sys.argv[2]))))
