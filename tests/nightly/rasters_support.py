"""Networks that answer by the pixel alone; jobs run task by task.

So the right answer of each pixel, object and chip can be computed beside them, from the raster's own pixels and its
transform. Nobody sees tiles without data, and what is no number never gets a class.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio.raw
import pytest
import rasterio
import shapely
from affine import Affine
from deep_raster.engine import jobs
from deep_raster.engine.errors import DeepRasterError
from deep_raster.engine.inference import loading
from deep_raster.engine.models.base import Detections, TilePlan
from deep_raster.engine.session import RUNNERS
from deep_raster.engine.workers.task import TASKS, TaskContext
from rasterio.crs import CRS
from rasterio.warp import transform as warp_points
from scipy import ndimage

TILE = 64
CLASSES = 5
UTM = "EPSG:32633"
networks: list = []
current: list = []
NORTH_UP = Affine(0.5, 0, 500000, 0, -0.5, 5000000)
# The same for virtual rasters.
PLACE = f"<SRS>{UTM}</SRS><GeoTransform>500000,0.5,0,5000000,0,-0.5</GeoTransform>"


class Session:
    """Runs the tasks of a job in this process, with everything through JSON as between processes."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.events, self.texts = scratch, [], []
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._context = TaskContext(scratch, "cpu", 1, self._tell)

    def _tell(self, event: Any) -> None:
        self.texts.append(str(getattr(event, "text", "")))

    def emit(self, event: Any) -> None:
        self._tell(event)

    def progress(self, fraction: float, text: str = "") -> None:
        pass

    def log(self, text: str, level: str = "info") -> None:
        self.texts.append(text)

    def check_cancelled(self) -> None:
        pass

    def call(self, task: str, payload: dict, placement: Any = None, span: Any = None, beside: Any = None) -> dict:
        module, _, name = TASKS[task].partition(":")
        function = getattr(importlib.import_module(f"deep_raster.engine.{module}"), name)
        current.append(task)
        return json.loads(json.dumps(function(json.loads(json.dumps(payload)), self._context), allow_nan=False))

    def each(self, task: str, payloads: Any, on_receipt: Any, placement: Any = None) -> list:
        for index, payload in enumerate(payloads):
            on_receipt(index, payload, self.call(task, payload))
        return []


def run(job: Any, folder: Path, kind: Any = Session) -> tuple[dict, Session]:
    """Have a job done in a session of that kind; return its outputs and the session."""
    module, _, name = RUNNERS[type(job).__name__].partition(":")
    session = kind(folder)
    return getattr(importlib.import_module(f"deep_raster.engine.{module}"), name)(job, session), session


class Network:
    """All three kinds of network in one; it keeps what it was shown.

    A pixel's class is 1 + floor(first band) mod 5; objects are groups of pixels of more than 100 in the first band; the
    class of an image is that of its middle pixel.
    """

    values = tuple(range(1, CLASSES + 1))
    blacken, fixed_crop = False, True

    def __init__(self, tile: int = TILE, halo: int = 8) -> None:
        self.plan = TilePlan(tile, tile, halo)
        self.calls, self.empty = 0, 0

    def _see(self, valid) -> None:
        if current[-1:] not in (["predict_tiles"], ["classify_chips"]):
            return  # planning measures the network with pixels of its own
        self.calls += len(valid)
        self.empty += sum(not one.any() for one in valid)

    def scores(self, pixels, valid):
        self._see(valid)
        classes = pixel_class(pixels[:, 0])
        return np.stack([classes == one for one in self.values], 1).astype(np.float32)

    def detect(self, pixels, valid):
        self._see(valid)
        answers = []
        for image, data in zip(pixels, valid):
            with np.errstate(invalid="ignore"):
                labels, _ = ndimage.label((image[0] > 100) & data)
            boxes = [(c.start, r.start, c.stop, r.stop) for r, c in ndimage.find_objects(labels)]
            count = len(boxes)
            answers.append(
                Detections(
                    np.array(boxes, np.float32).reshape(-1, 4),
                    np.full(count, 0.9, np.float32),
                    np.zeros(count, np.int64),
                )
            )
        return answers

    def probabilities(self, pixels, valid):
        self._see(valid)
        middle = pixel_class(pixels[:, 0, pixels.shape[2] // 2, pixels.shape[3] // 2])
        return np.stack([middle == one for one in self.values], 1).astype(np.float32)


def pixel_class(values):
    """Return the class that :class:`Network` gives to values of the first band; of no number, 1."""
    whole = np.nan_to_num(np.floor(values.astype(np.float64)), nan=0, posinf=0, neginf=0)
    return 1 + np.mod(whole, CLASSES).astype(np.int64)


def write_definition(folder: Path, kind: str, **members: Any) -> str:
    """Write a definition whose network is replaced by :class:`Network`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.pth").write_bytes(b"0")
    classes = [{"Value": one, "Name": f"k{one}", "Color": [one, 9, 9]} for one in Network.values]
    definition = {"Framework": "PyTorch", "ModelConfiguration": {"Name": "DeepRaster", "Task": "detection"}}
    definition |= {"ModelType": kind, "ModelFile": "weights.pth", "ImageWidth": TILE, "ImageHeight": TILE}
    definition |= {"ExtractBands": [0], "Classes": classes, **members}
    path = folder / f"{kind}.emd"
    path.write_text(json.dumps({name: value for name, value in definition.items() if value is not None}))
    return str(path)


def use(network: Network, monkeypatch) -> Network:
    """Let every package load as ``network``."""
    monkeypatch.setattr(loading, "_load", lambda *_: network)
    networks.append(network)
    return network


def scene(height: int, width: int, dtype: Any = "uint8", bands: int = 1) -> tuple[np.ndarray, list]:
    """Return pixels of 2..98 with squares of 110..114, and the squares as (left, top, right, bottom)."""
    chance = np.random.default_rng(height * 10007 + width)
    pixels = chance.integers(2, 99, (bands, height, width))
    squares = []
    for top in range(5, height - 12, 37):
        for left in range(7, width - 12, 41):
            side = 5 + len(squares) % 4
            pixels[:, top : top + side, left : left + side] = 110 + len(squares) % CLASSES
            squares.append((left, top, left + side, top + side))
    return pixels.astype(dtype), squares


def write(path: Path, pixels, transform=NORTH_UP, crs=UTM, **options) -> jobs.RasterInput:
    """Write a raster."""
    profile = {"driver": "GTiff", "count": len(pixels), "height": pixels.shape[1], "width": pixels.shape[2]}
    profile |= {"dtype": pixels.dtype, "crs": crs, "transform": transform, **options}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **profile) as out:
        out.write(pixels)
    return jobs.RasterInput(str(path))


@dataclass
class Case:
    """Rasters and what is known of them: the pixels of the first band and where they are data, on one grid.

    ``space`` is MAP or PIXEL: whether results lie on a north-up grid of their own, or on that of the raster.
    """

    inputs: tuple
    pixels: np.ndarray
    valid: np.ndarray
    squares: list
    transform: Affine = NORTH_UP
    crs: Any = UTM
    extent: jobs.Extent | None = None
    mask: jobs.VectorInput | None = None
    features: Any = None
    definition: dict = field(default_factory=dict)

    @property
    def options(self) -> jobs.RunOptions:
        return jobs.RunOptions(extent=self.extent, mask=self.mask, workers=1)


def plain(folder, height=150, width=170, dtype="uint8", bands=1, transform=NORTH_UP, crs=UTM, **options) -> Case:
    """Return a raster of squares in which every pixel is data."""
    pixels, squares = scene(height, width, dtype, bands)
    raster = write(folder / "raster.tif", pixels, transform, crs, **options)
    return Case((raster,), pixels[0], np.ones(pixels.shape[1:], bool), squares, transform, crs)


def under(case: Case, transform: Affine, crs: Any, shape: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (values, valid, safe) of the case under the pixel centres of another grid.

    ``safe`` is False where a centre lies so near to the edge between two pixels that rounding decides.
    """
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] + 0.5
    x, y = transform * (columns.ravel(), rows.ravel())
    if crs and case.crs and CRS.from_user_input(crs) != CRS.from_user_input(case.crs):
        x, y = (np.array(one) for one in warp_points(crs, case.crs, x, y))
    column, row = ~case.transform * (np.asarray(x), np.asarray(y))
    safe = (np.abs(column - np.round(column)) > 1e-5) & (np.abs(row - np.round(row)) > 1e-5)
    column, row = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    height, width = case.pixels.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clip(0, width - 1), row.clip(0, height - 1)
    values, valid = case.pixels[row, column], case.valid[row, column] & inside
    return values.reshape(shape), valid.reshape(shape), safe.reshape(shape)


def check_pixels(case: Case, folder: Path, monkeypatch) -> Network:
    """Classify the pixels: each has the class of the raster's pixel beneath it, and only data has one."""
    network = use(Network(), monkeypatch)
    output = folder / "classes.tif"
    model = write_definition(folder / "model", "ImageClassification", **case.definition)
    run(jobs.ClassifyPixels(case.inputs, model, str(output), case.options), folder / "scratch")
    with rasterio.open(output) as found:
        classes = np.where(found.read_masks(1) > 0, found.read(1), 0)
        values, valid, safe = under(case, found.transform, found.crs, classes.shape)
        covered = _covered(case, found)
    expected = np.where(valid, pixel_class(values), 0)
    wrong = (classes != expected) & safe
    assert not wrong.any(), f"{wrong.sum()} of {wrong.size} pixels differ, first at {np.argwhere(wrong)[:3].tolist()}"
    assert safe.mean() > 0.9 or safe.size < 100
    if case.extent is None and case.mask is None:
        assert covered.all(), "parts of the raster are not covered by the result"
    assert network.empty == 0, "a tile without any data went through the network"
    return network


def _covered(case: Case, found: Any) -> np.ndarray:
    """Return which corners and centres of the raster lie inside the result."""
    height, width = case.pixels.shape
    columns, rows = np.array([0.5, width / 2, width - 0.5] * 3), np.repeat([0.5, height / 2, height - 0.5], 3)
    x, y = case.transform * (columns, rows)
    column, row = ~found.transform * (x, y)
    return (column >= 0) & (column <= found.width) & (row >= 0) & (row <= found.height)


def on_map(case: Case, square: tuple) -> shapely.Polygon:
    """Return a square as polygon in map coordinates."""
    left, top, right, bottom = square
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return shapely.Polygon([case.transform * one for one in corners])


def layer_of(path: Path, squares: list, transform: Affine = NORTH_UP, crs: Any = UTM) -> jobs.VectorInput:
    """Write squares as polygons, numbered."""
    shapes = [
        shapely.transform(shapely.box(*one), lambda p: np.column_stack(transform * (p[:, 0], p[:, 1])))
        for one in squares
    ]
    wkb = shapely.to_wkb(np.array(shapes or [shapely.Polygon()], dtype=object))
    text = CRS.from_user_input(crs).to_wkt() if crs else None
    pyogrio.raw.write(path, wkb, [np.arange(len(wkb))], ["number"], geometry_type="Polygon", crs=text)
    return jobs.VectorInput(str(path))


def seen(case: Case) -> list:
    """Return the squares of which every pixel is data, within the extent."""
    found = []
    for left, top, right, bottom in case.squares:
        if not case.valid[top:bottom, left:right].all():
            continue
        found.append((left, top, right, bottom))
    return found


def check_detect(case: Case, folder: Path, monkeypatch) -> Network:
    """Detect: each square is found once, where it is."""
    network = use(Network(), monkeypatch)
    output = folder / "objects.gpkg"
    model = write_definition(folder / "model", "ObjectDetection", **case.definition)
    run(jobs.DetectObjects(case.inputs, model, str(output), case.options), folder / "scratch")
    meta, _, wkb, _ = pyogrio.raw.read(output)
    found = shapely.from_wkb(wkb) if wkb is not None else np.array([], dtype=object)
    squares = [on_map(case, one) for one in seen(case)]
    if case.crs:
        assert meta["crs"] and CRS.from_user_input(meta["crs"]) == CRS.from_user_input(case.crs)
    tree = shapely.STRtree(found)
    upright = case.transform.b == 0 and case.transform.d == 0
    size = (abs(case.transform.a) + abs(case.transform.b) + abs(case.transform.d) + abs(case.transform.e)) / 2
    for square in squares:
        hits = tree.query(square.centroid, predicate="intersects")
        assert len(hits) == 1, f"a square was found {len(hits)} times"
        distance = shapely.hausdorff_distance(found[hits[0]], square)
        assert distance <= (1e-6 if upright else 4) * size, f"{distance / size} pixels beside its place"
    assert len(found) == len(squares), f"{len(found)} objects for {len(squares)} squares"
    assert network.empty == 0
    return network


def check_objects(case: Case, folder: Path, monkeypatch) -> Network:
    """Classify objects: each square has the class of its middle pixel."""
    network = use(Network(), monkeypatch)
    output, layer = folder / "classified.gpkg", folder / "features.gpkg"
    model = write_definition(folder / "model", "ObjectClassification", **case.definition)
    squares = case.squares
    features = layer_of(layer, squares, case.transform, case.crs)
    job = jobs.ClassifyObjects(case.inputs, model, str(output), features, "Label", case.options)
    run(job, folder / "scratch")
    meta, _, _, data = pyogrio.raw.read(output, columns=["number", "Label"], read_geometry=False)
    fields = dict(zip(meta["fields"], data))
    labels = dict(zip(fields["number"].tolist(), fields["Label"].tolist()))
    assert len(labels) == max(1, len(squares))
    for number, (left, top, right, bottom) in enumerate(squares):
        middle = (top + bottom) // 2, (left + right) // 2
        part = case.valid[top:bottom, left:right]
        if part.all():
            assert labels[number] == f"k{pixel_class(case.pixels[middle])}", number
    for number, (left, top, right, bottom) in enumerate(squares):
        half = TILE // 2
        near = case.valid[max(0, top - half) : bottom + half, max(0, left - half) : right + half]
        if not near.any():
            assert labels[number] is None, "no data never gives a class"
    assert network.empty == 0
    return network


def check_export(case: Case, folder: Path) -> None:
    """Export all tiles: each pixel of a chip is the raster's, and each pixel of the raster is on exactly one chip."""
    output = folder / "chips"
    space = "MAP_SPACE" if case.crs or case.transform.b else "PIXEL_SPACE"
    job = jobs.ExportTrainingData(
        case.inputs, str(output), "Export_Tiles", tile_size_x=TILE, tile_size_y=TILE, all_tiles=True,
        extent=case.extent, mask=case.mask, reference_system=space, split=(1.0, 0, 0),
    )  # fmt: skip
    run(job, folder / "scratch")
    chips = sorted((output / "images").glob("*.tif"))
    assert chips
    boxes = []
    for chip in chips:
        with rasterio.open(chip) as found:
            pixels, transform = found.read(1), found.transform
            if transform == Affine.identity():
                return  # pixel space has no place; the formats' own tests look at it
            values, valid, safe = under(case, transform, found.crs, pixels.shape)
            boxes.append(shapely.box(*found.bounds))
        wrong = valid & safe & (pixels != values) & ~((pixels != pixels) & (values != values))
        assert not wrong.any(), f"{chip.name}: {wrong.sum()} pixels differ, first at {np.argwhere(wrong)[:3].tolist()}"
    together = shapely.union_all(boxes)
    assert abs(sum(one.area for one in boxes) - together.area) <= 1e-6 * together.area, "chips overlap"
    if case.extent is None and case.mask is None:
        height, width = case.pixels.shape
        shape = on_map(case, (0, 0, width, height))
        assert together.buffer(1e-6 * shape.length).covers(shape), "parts of the raster are on no chip"


def check_all(case: Case, folder: Path, monkeypatch, chips: bool = True) -> None:
    """Put a case through export, classify pixels, detect and classify objects."""
    check_pixels(case, folder / "pixels", monkeypatch)
    check_detect(case, folder / "detect", monkeypatch)
    check_objects(case, folder / "objects", monkeypatch)
    if chips:
        check_export(case, folder / "export")


def refused(case: Case, folder: Path, monkeypatch, words: str, kinds: str = "pdoe") -> None:
    """Refuse in a sentence that says why, before any network sees anything (p, d, o, e: the four kinds of job)."""
    checks = {"p": check_pixels, "d": check_detect, "o": check_objects}
    for kind in kinds:
        networks.clear()
        with pytest.raises(DeepRasterError, match=words):
            check_export(case, folder / "e") if kind == "e" else checks[kind](case, folder / kind, monkeypatch)
        assert all(one.calls == 0 for one in networks)


def blank(pixels: np.ndarray, squares: list, *areas: tuple) -> list:
    """Take away the squares that meet one of the areas (left, top, right, bottom); return the others."""
    kept = []
    for one in squares:
        if any(one[0] < a[2] and a[0] < one[2] and one[1] < a[3] and a[1] < one[3] for a in areas):
            pixels[:, one[1] : one[3], one[0] : one[2]] = 50
        else:
            kept.append(one)
    return kept
