"""The tools as people call them: ``qgis_process`` in a profile of its own, over one large raster."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import checkout
import limits
import models
import numpy as np
import pyogrio
import rasterio
import scenes
import shapely
from measure import Table, Tree, progress

_PROCESS = next((one for one in ("/usr/bin/qgis_process.bin", "/usr/bin/qgis_process") if os.path.exists(one)), "")
_MARKS = 20_000
_FEATURES = 20_000
_FIELD = 64
_PROBES, _PROBE, _MARGIN = 12, 256, 128


def tools(asked: argparse.Namespace) -> None:
    """Run the three tools over one raster and check what they give against what is known of it."""
    if not _PROCESS:
        sys.exit("qgis_process is not installed here.")
    side = asked.side
    raster = scenes.make(asked.scratch / f"marked_{side}.tif", side, side, marks=_MARKS)
    folder = asked.scratch / "models"
    table = Table(
        f"qgis_process over {side}² × 3 ({side * side / 1e6:.0f} Mpix)",
        "tool", "network", "exit code", "wall, s", "CPU of the tree, s", "peak PSS of the tree, MB", "checked",
    )  # fmt: skip
    for name in asked.networks.split(","):
        definition = models.make(folder, name)
        output = asked.scratch / "qgis_pixels.tif"
        told = _run(asked.scratch, "classifypixels", INPUT=raster, MODEL=definition, OUTPUT=output, PROCESSOR="CPU")
        table.row("classifypixels", models.NAMES[name], *told, _check_pixels(raster, output, definition, name))
    output = asked.scratch / "qgis_objects.gpkg"
    told = _run(
        asked.scratch, "detectobjects", INPUT=raster, MODEL=models.detector(folder), OUTPUT=output, PROCESSOR="CPU"
    )
    table.row("detectobjects", "mean of cells", *told, _check_objects(output, side))
    features, output = _features(asked.scratch / f"features_{side}.gpkg", side), asked.scratch / "qgis_classified.gpkg"
    told = _run(
        asked.scratch, "classifyobjects", INPUT=raster, FEATURES=features, MODEL=models.chip_classifier(folder),
        OUTPUT=output, PROCESSOR="CPU",
    )  # fmt: skip
    table.row("classifyobjects", "mean of chips", *told, _check_classified(raster, output, features))


def _run(scratch: Path, tool: str, **parameters: object) -> tuple[object, ...]:
    """Call a tool; return its exit code, seconds, CPU seconds and peak memory, as text for the table."""
    output = Path(str(parameters["OUTPUT"]))
    output.unlink(missing_ok=True)
    command = [_PROCESS, "run", f"deepraster:{tool}", "--", *(f"{name}={value}" for name, value in parameters.items())]
    log = scratch / f"qgis_{tool}.log"
    begun = time.monotonic()
    with log.open("w") as file:
        # An installed program, a list.
        process = subprocess.Popen(
            command, env=_environment(scratch), cwd=scratch, stdout=file, stderr=subprocess.STDOUT, text=True
        )
        with Tree(process.pid, memory=True) as tree:
            code = process.wait()
            wall, cpu = time.monotonic() - begun, tree.cpu
    progress(f"{tool}: exit code {code}, {wall:.0f} s, CPU {cpu:.0f} s, {tree.peak_mb:.0f} MB; log: {log}")
    return code, f"{wall:.0f}", f"{cpu:.0f}", f"{tree.peak_mb:.0f}"


def _environment(scratch: Path) -> dict[str, str]:
    """Return the variables of a QGIS with a fresh profile that has the checkout as its plugin."""
    folder = scratch / "qgis"
    plugins, profile = folder / "plugins", folder / "profile" / "profiles" / "default" / "QGIS"
    for one in (plugins, profile, folder / "runtime"):
        one.mkdir(parents=True, exist_ok=True)
    (folder / "runtime").chmod(0o700)
    link = plugins / "deep_raster"
    if not link.exists():
        link.symlink_to(checkout.ROOT, target_is_directory=True)
    (profile / "QGIS3.ini").write_text("[PythonPlugins]\ndeep_raster=true\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "QGIS_"))}
    return {
        **kept,
        "QT_QPA_PLATFORM": "offscreen",
        "QGIS_PLUGINPATH": str(plugins),
        "QGIS_CUSTOM_CONFIG_PATH": str(folder / "profile"),
        "XDG_RUNTIME_DIR": str(folder / "runtime"),
        "DEEP_RASTER_PYTHON": sys.executable,
        "DEEP_RASTER_HOME": str(folder / "home"),
        "DEEP_RASTER_CACHE": str(scratch / "cache"),
    }


def _check_pixels(raster: Path, output: Path, definition: Path, name: str) -> str:
    """Compare grid, and windows with the network run on them with a wide margin."""
    run = limits.onnx_runner(str(definition.with_suffix(".onnx")))
    random, unlike = np.random.default_rng(7), 0
    with rasterio.open(raster) as image, rasterio.open(output) as found:
        same = (image.shape, image.crs, image.transform) == (found.shape, found.crs, found.transform)
        for _ in range(_PROBES):
            row, column = (int(random.integers(_MARGIN, side - _PROBE - _MARGIN)) // 32 * 32 for side in image.shape)
            around = ((row - _MARGIN, row + _PROBE + _MARGIN), (column - _MARGIN, column + _PROBE + _MARGIN))
            scores = run(image.read(window=around).astype(np.float32)[np.newaxis] / 255)[0][0]
            wanted = scores.argmax(0)[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] + 1
            window = ((row, row + _PROBE), (column, column + _PROBE))
            unlike += int((found.read(1, window=window) != wanted).sum())
        nodata = int(found.read(1, out_shape=(1024, 1024)).min())
    grid = "size, CRS and place are the raster's" if same else "GRID DIFFERS"
    return f"{grid}; {unlike} of {_PROBES * _PROBE**2:,} pixels unlike the network alone; least class {nodata}"


def _check_objects(output: Path, side: int) -> str:
    """Compare the boxes with the white squares of the scene."""
    meta, _, shapes, _ = pyogrio.raw.read(str(output))
    corners = np.asarray(scenes.ORIGIN) + scenes.squares(side, side, _MARKS) * (scenes.CELL, -scenes.CELL)
    wanted = {tuple(one) for one in np.round(corners, 3).tolist()}
    bounds = shapely.bounds(shapely.from_wkb(shapes))
    found = [tuple(one) for one in np.round(bounds[:, [0, 3]], 3).tolist()]
    return f"{len(found):,} objects, {len(wanted & set(found)):,} of {len(wanted):,} squares found; {meta['crs']}"


def _features(path: Path, side: int) -> Path:
    """Write squares of 64 pixels at random places."""
    if not path.exists():
        corners = np.random.default_rng(9).integers(0, side - _FIELD, (_FEATURES, 2))
        left, top = scenes.ORIGIN[0] + corners[:, 0] * scenes.CELL, scenes.ORIGIN[1] - corners[:, 1] * scenes.CELL
        reach = _FIELD * scenes.CELL
        shapes = shapely.to_wkb(shapely.box(left, top - reach, left + reach, top))
        numbers = np.arange(len(shapes))
        pyogrio.raw.write(str(path), shapes, [numbers], ["number"], geometry_type="Polygon", crs="EPSG:32633")
    return path


def _check_classified(raster: Path, output: Path, features: Path) -> str:
    """Compare classes with the means of the pixels under some features."""
    meta, _, shapes, data = pyogrio.raw.read(str(output))
    labels = data[list(meta["fields"]).index("ClassLabel")]
    chosen = np.random.default_rng(11).choice(len(shapes), 200, replace=False)
    right = 0
    with rasterio.open(raster) as image:
        for number in chosen:
            bounds = shapely.bounds(shapely.from_wkb(shapes[number]))
            window = rasterio.windows.from_bounds(*bounds, image.transform).round()
            right += labels[number] == f"class {image.read(window=window).mean((1, 2)).argmax() + 1}"
    count = pyogrio.read_info(str(features))["features"]
    return f"{len(shapes):,} of {count:,} features; {right} of {len(chosen)} classes as computed by hand; {meta['crs']}"
