"""Chips per core-second of the exporter, in paired rounds with the encoding alone, which is its limit.

    python benchmarks/chips.py [--rounds 5] [--sizes 4096,10240] [--polygons 2000,50000] [--format Classified_Tiles]
                               [--chip-format TIFF|PNG] [--reference]

Scenes are made on the fly (deterministic, compressible like an orthophoto). A round runs the whole export (plan, read,
rasterise, encode, count, move) in this process, then encodes the same image and label chips with nothing around it,
then, as asked, the loop that one would write with rasterio, or OpenCV's PNG encoder on the same images. Figures are CPU
seconds (user and system), medians over rounds; wall time says more about the neighbours. The peak of memory is that of
a fresh process that does nothing but the export, as a worker does.

README.md beside this file holds what was measured.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _register() -> None:
    spec = importlib.util.spec_from_file_location("deep_raster_launch", ROOT / "engine" / "launch.py")
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.register()


_register()

import numpy as np  # noqa: E402
import pyogrio.raw  # noqa: E402
import rasterio  # noqa: E402
import shapely  # noqa: E402
from deep_raster.engine.chips import images, runner, tiff  # noqa: E402
from deep_raster.engine.jobs import ExportTrainingData, RasterInput, VectorInput  # noqa: E402
from deep_raster.engine.workers.task import TASKS, TaskContext  # noqa: E402
from rasterio.features import rasterize  # noqa: E402
from rasterio.transform import from_origin  # noqa: E402

TILE = 256


class InProcess:
    """A session that runs tasks here, so that the CPU time of one process is that of the whole export."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self._context = TaskContext(scratch, "cpu", 1, lambda event: None)
        self.seconds: dict[str, float] = {}

    def emit(self, event: object) -> None:
        """Nobody listens."""

    def progress(self, fraction: float, text: str = "") -> None:
        """Nobody listens."""

    def log(self, text: str, level: str = "info") -> None:
        """Nobody listens."""

    def check_cancelled(self) -> None:
        """Nobody cancels."""

    def call(self, task: str, payload: dict, placement: object = None, span: object = None) -> dict:
        """Run a task, with its payload and receipt through JSON as between processes."""
        module, _, name = TASKS[task].partition(":")
        function = getattr(importlib.import_module(f"deep_raster.engine.{module}"), name)
        start = time.process_time()
        receipt = json.loads(json.dumps(function(json.loads(json.dumps(payload)), self._context)))
        self.seconds[task] = self.seconds.get(task, 0.0) + time.process_time() - start
        return receipt

    def each(self, task: str, payloads: object, on_receipt: object, placement: object = None) -> list:
        """Run a task for every payload."""
        for index, payload in enumerate(payloads):
            on_receipt(index, payload, self.call(task, payload))
        return []


def make_scene(path: Path, side: int) -> None:
    """Write 3 x uint8, tiled, DEFLATE, that compresses to about three quarters."""
    random = np.random.default_rng(side)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    profile.update(tiled=True, blockxsize=256, blockysize=256, compress="deflate", predictor=2)
    x = np.arange(side)
    with rasterio.open(path, "w", **profile, transform=from_origin(5e5, 5e6, 0.5, 0.5)) as out:
        for row in range(0, side, 512):
            y = np.arange(row, min(row + 512, side))[:, None]
            waves = [128 + 60 * np.sin(x / 37 + i) + 50 * np.cos(y / 23 - i) for i in range(3)]
            noise = random.normal(0, 9, (3, len(y), side))
            pixels = np.clip(np.stack(waves) + noise, 0, 255).astype("uint8")
            out.write(pixels, window=rasterio.windows.Window(0, row, side, len(y)))


def make_labels(path: Path, side: int, count: int) -> None:
    """Write polygons of 9 corners and three classes, evenly spread."""
    random = np.random.default_rng(count)
    size = side / np.sqrt(count) * 0.4
    centres = random.uniform(0, side, (count, 2))
    radii = size * random.uniform(0.4, 1, (count, 9))
    angles = np.arange(9) * 2 * np.pi / 9
    x = centres[:, :1] + radii * np.cos(angles)
    y = centres[:, 1:] + radii * np.sin(angles)
    shapes = shapely.polygons(np.stack([5e5 + 0.5 * x, 5e6 - 0.5 * y], axis=2))
    values = np.arange(count) % 3 + 1
    pyogrio.raw.write(
        str(path), shapely.to_wkb(shapes), [values], ["classvalue"], geometry_type="Polygon", crs="EPSG:32633"
    )


def encode_only(folder: Path, output: Path, chip_format: str, crs: str) -> tuple[int, float]:
    """Encode and write the image and label chips of a finished export once more; return chips and CPU seconds."""
    pictures = sorted((output / "images").glob(f"*{images.SUFFIX[chip_format]}"))[:256]
    loaded = []
    for one in pictures:
        with rasterio.open(one) as image, rasterio.open(output / "labels" / f"{one.stem}.tif") as label:
            loaded.append((one.stem, image.read(), label.read(), image.transform))
    writer = images.ImageWriter(chip_format, crs)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    start = time.process_time()
    for stem, image, label, transform in loaded:
        writer.write(folder / "images" / stem, image, transform)
        (folder / "labels" / f"{stem}.tif").write_bytes(tiff.encode(label, crs, transform))
    return len(loaded), time.process_time() - start


def reference(folder: Path, raster: Path, labels: Path) -> float:
    """Return the CPU seconds of the usual loop: read a window, rasterise what an index finds, write both with GDAL."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    start = time.process_time()
    _, _, wkb, (values,) = pyogrio.raw.read(str(labels), columns=["classvalue"])
    shapes = shapely.from_wkb(wkb)
    tree = shapely.STRtree(shapes)
    options = {"driver": "GTiff", "width": TILE, "height": TILE, "dtype": "uint8", "tiled": True, "compress": "deflate"}
    with rasterio.open(raster) as source:
        for number, (row, column) in enumerate(np.ndindex(source.height // TILE, source.width // TILE)):
            window = rasterio.windows.Window(column * TILE, row * TILE, TILE, TILE)
            place = {"crs": source.crs, "transform": source.window_transform(window)}
            near = np.sort(tree.query(shapely.box(*source.window_bounds(window)), predicate="intersects"))
            if not len(near):
                continue
            burnt = rasterize(
                zip(shapes[near], values[near].tolist()), (TILE, TILE), transform=place["transform"], dtype="uint8"
            )
            with rasterio.open(folder / "images" / f"{number}.tif", "w", **options, **place, count=3) as out:
                out.write(source.read(window=window))
            with rasterio.open(folder / "labels" / f"{number}.tif", "w", **options, **place, count=1) as out:
                out.write(burnt, 1)
    return time.process_time() - start


def png_against_opencv(pictures: list[Path]) -> tuple[float, float]:
    """Return images per CPU second of our PNG encoder and of OpenCV's on the same pixels; 0 without OpenCV."""
    try:
        cv2 = importlib.import_module("cv2")
    except ImportError:
        return 0.0, 0.0
    loaded = []
    for one in pictures[:256]:
        with rasterio.open(one) as image:
            loaded.append(image.read())
    as_cv2 = [np.ascontiguousarray(one[::-1].transpose(1, 2, 0)) for one in loaded]
    times = [time.process_time()]
    for one in loaded:
        images.encode_png(one)
    times.append(time.process_time())
    for one in as_cv2:
        cv2.imencode(".png", one)
    times.append(time.process_time())
    return len(loaded) / (times[1] - times[0]), len(loaded) / (times[2] - times[1])


def peak_memory(arguments: list[str]) -> int:
    """Return the peak resident memory (MB) of a process that runs one export and nothing else."""
    # The interpreter and this file: nothing here comes from outside.
    done = subprocess.run([sys.executable, __file__, "--only", *arguments], check=True, capture_output=True, text=True)
    return int(done.stdout)


def _own_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage tells begins with the memory of the process that started this one
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    """Run the rounds and print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", default="4096,10240")
    parser.add_argument("--polygons", default="2000,50000")
    parser.add_argument("--format", default="Classified_Tiles")
    parser.add_argument("--chip-format", default="TIFF")
    parser.add_argument("--scratch", default=None, help="folder for scenes and chips (default: a temporary one)")
    parser.add_argument("--reference", action="store_true", help="measure the usual loop over rasterio as well")
    parser.add_argument("--only", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        folder, side, count, format_, chip_format = options.only
        runner.run(the_job(Path(folder), int(side), int(count), format_, chip_format), InProcess(Path(folder)))
        print(_own_peak())
        return
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        folder = Path(name)
        for side in (int(one) for one in options.sizes.split(",")):
            make_scene(folder / f"{side}.tif", side)
            for count in (int(one) for one in options.polygons.split(",")):
                make_labels(folder / f"{side}_{count}.gpkg", side, count)
                case(folder, side, count, options)


def the_job(folder: Path, side: int, count: int, format_: str, chip_format: str) -> ExportTrainingData:
    """Return the export that is measured."""
    return ExportTrainingData(
        inputs=(RasterInput(str(folder / f"{side}.tif")),),
        labels=VectorInput(str(folder / f"{side}_{count}.gpkg")),
        output=str(folder / "chips"),
        format=format_,
        chip_format=chip_format,
        tile_size_x=TILE,
        tile_size_y=TILE,
    )


def case(folder: Path, side: int, count: int, options: argparse.Namespace) -> None:
    """Run one scene and number of polygons; the first round warms up and is not counted."""
    with rasterio.open(folder / f"{side}.tif") as data:
        crs = data.crs.to_wkt()
    output, alone = folder / "chips", folder / "alone"
    job = the_job(folder, side, count, options.format, options.chip_format)
    rounds = []
    for number in range(options.rounds + 1):
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(alone, ignore_errors=True)
        session = InProcess(folder)
        before = time.process_time()
        told = runner.run(job, session)
        whole = time.process_time() - before
        encoded, seconds = (
            encode_only(alone, output, options.chip_format, crs) if options.format == "Classified_Tiles" else (0, 1.0)
        )
        shutil.rmtree(alone, ignore_errors=True)
        plain = 0.0
        if options.reference:
            plain = told["CHIPS"] / reference(alone, folder / f"{side}.tif", folder / f"{side}_{count}.gpkg")
        pictures = sorted((output / "images").glob("*.png"))
        png = png_against_opencv(pictures) if pictures else (0.0, 0.0)
        if number:
            rounds.append((told["CHIPS"] / whole, encoded / seconds, session.seconds, plain, png))
    files = [one.stat().st_size for one in (output / "images").glob("*.*")]
    shutil.rmtree(output)
    shutil.rmtree(alone, ignore_errors=True)
    result = {
        "side": side,
        "polygons": count,
        "format": options.format,
        "chip_format": options.chip_format,
        "chips": told["CHIPS"],
        "chips_per_core_second": _middle(one[0] for one in rounds),
        "encode_only_per_core_second": _middle(one[1] for one in rounds),
        "ratio": _middle((one[0] / one[1] for one in rounds), 3),
        "image_bytes_share": round(sum(files) / (told["CHIPS"] * TILE * TILE * 3), 3),
        "cpu_seconds": {task: _middle((one[2][task] for one in rounds), 3) for task in rounds[0][2]},
        "peak_mb": peak_memory([str(folder), str(side), str(count), options.format, options.chip_format]),
    }
    if options.reference:
        result["reference_per_core_second"] = _middle(one[3] for one in rounds)
    if rounds[0][4][1]:
        result["png_per_core_second"] = _middle(one[4][0] for one in rounds)
        result["opencv_png_per_core_second"] = _middle(one[4][1] for one in rounds)
    print(json.dumps(result), flush=True)


def _middle(values: object, digits: int = 1) -> float:
    return round(statistics.median(values), digits)


if __name__ == "__main__":
    main()
