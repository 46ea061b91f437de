"""The tasks of ``classifyobjects``: plan the chips, classify a group of them, join the answers to the features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine

from .. import __version__, jobs
from ..errors import JobError, RasterError
from ..events import WARNING, Log
from ..package.dlpk import open_package
from ..package.emd import ModelDefinition
from ..package.opening import ModelPackage
from ..package.trust import open_for_run
from ..raster.grid import Grid, plan_grid
from ..raster.output import check_ending, require_room
from ..raster.remote import is_remote
from ..raster.secrets import fill, hide
from ..raster.source import RasterSource, source_grids
from ..raster.vector import Features, layer_facts, read_features
from ..raster.versions import check_unchanged, source_state
from ..raster.window import Window
from ..workers.task import TaskContext
from .assemble_objects import to_map
from .augment import augmented_probabilities
from .chip_sets import Chips, piece_of, recall, store
from .chips import blackened, chip_window, resized
from .copies import write_copies
from .journal import PLAN, WorkFolder, fingerprint
from .loading import Loaded, check_tool, load, prepare
from .parts import read_part, write_part
from .plan import item_names, resolve_bands
from .planning import describe, mask_area
from .provenance import provenance
from .reading import Reader, read_ahead
from .settings import split_arguments
from .telling import tell_resumed

Array = npt.NDArray[Any]
# Chips larger than this many times the network's image are read at a coarser cell size.
_COARSE = 4
# Rows of a raster whose features are done one after the other, from the left to the right.
_BAND = 512


def plan_objects(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Plan a :class:`~.jobs.ClassifyObjects` job, or take up an unfinished one; see ``plan_inference``."""
    job: Any = jobs.from_dict(payload["job"])
    if payload.get("prepare"):
        return prepare(job, context)
    work = WorkFolder(Path(payload["work"]))
    package = open_for_run(job.model, trust=job.options.trust, digest=context.code_of)
    _look_at(job, package)
    if payload.get("check"):
        return {}
    sources = source_state([*job.inputs, *([jobs.RasterInput(job.features.path)] if job.features else [])])
    chips, count, dropped = _chips(job)
    loaded = load("classifyobjects", job.model, job.options, context, package)
    if dropped:
        context.emit(Log(WARNING, f"{dropped} features without geometry get no class."))
    if job.features and not count:
        context.emit(Log(WARNING, "The layer holds no features to classify."))
    bands = _bands(loaded, job.inputs)
    plan = {
        "identity": fingerprint([__version__, describe(payload["job"]), loaded.package.digest, sources]),
        "job": payload["job"],
        "bands": bands,
        "sources": sources,
    }
    old = work.read_plan()
    groups = sum(one.groups for one in chips)
    if job.options.resume and old is not None and old.get("identity") == plan["identity"]:
        done = [int(one["group"]) for one in work.checked_receipts()]
        tell_resumed(done, groups, context)
        return {"groups": groups, "done": done, "secrets": hide(plan)[1]}
    work.clear()
    hidden, secrets = hide({**plan, "items": [store(one, work) for one in chips]})
    work.write_plan(hidden)
    return {"groups": groups, "done": [], "secrets": secrets}


def _look_at(job: jobs.ClassifyObjects, package: ModelPackage) -> None:
    """Refuse whatever can be refused before the features are read and the network is loaded."""
    check_tool("classifyobjects", package)
    split_arguments(job.options.arguments, package)
    if not job.inputs:
        raise JobError("There is no input raster.")
    crs = layer_facts(job.features).crs if job.features else source_grids(job.inputs[:1])[0].crs
    check_ending(Path(job.output), crs)
    require_room({Path(job.output): 1_000_000})


def _bands(loaded: Loaded, inputs: Sequence[jobs.RasterInput]) -> Optional[Tuple[int, ...]]:
    with RasterSource.open(inputs[:1]) as source:
        return resolve_bands(loaded.bands, source.descriptions)


def _chips(job: jobs.ClassifyObjects) -> Tuple[List[Chips], int, int]:
    """Return the rasters with their features, and how many features there are and have no geometry."""
    separate = job.options.processing_mode == jobs.ITEMS_SEPARATELY or job.features is None
    sets = (
        [(name, (one,)) for name, one in zip(item_names(job.inputs), job.inputs)]
        if separate
        else [("", tuple(job.inputs))]
    )
    chips: List[Chips] = []
    first, count, dropped = 0, 0, 0
    for name, inputs in sets:
        grid = plan_grid(source_grids(inputs), job.options.extent, job.options.cell_size, pixel_space=True)
        one = Chips(name, inputs, grid, first)
        if job.features is not None:
            features = read_features(job.features, crs=grid.crs, columns=())
            count, dropped = max(count, len(features)), features.dropped
            shapes = shapely.transform(
                features.geometries,
                lambda points, grid=grid: np.column_stack(grid.to_pixel(points[:, 0], points[:, 1])),
            )
            keep = _by_place(shapes, np.flatnonzero(_wanted(job, features, shapes, grid)))
            one = Chips(name, inputs, grid, first, len(keep), 0, features.fids[keep], shapes[keep])
        chips.append(one)
        first += one.groups
    return chips, count, dropped


def _wanted(job: jobs.ClassifyObjects, features: Features, shapes: Array, grid: Grid) -> Array:
    """Return which features lie on the grid, and in the mask if there is one."""
    bounds = shapely.bounds(shapes)
    keep = (bounds[:, 0] <= grid.width) & (bounds[:, 2] >= 0) & (bounds[:, 1] <= grid.height) & (bounds[:, 3] >= 0)
    mask = mask_area(job, grid)
    if mask is not None:
        for i in np.flatnonzero(keep):
            point = shapely.point_on_surface(features.geometries[i])
            keep[i] = mask.intersects((point.x, point.y, point.x, point.y))
    return np.asarray(keep)


def _by_place(shapes: Array, chosen: Array) -> Array:
    """Return the chosen positions so that neighbours follow one another: their chips share decoded blocks."""
    left, top = shapely.bounds(shapes[chosen])[:, :2].T
    order: Array = chosen[np.lexsort((left, top // _BAND))]
    return order


def classify_chips(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Classify one group of features, or one whole raster; the payload is that of ``predict_tiles``."""
    folder, group = Path(payload["work"]), int(payload["group"])
    plan, item = _cached(payload, context)
    job: Any = jobs.from_dict(plan["job"])
    loaded = load("classifyobjects", job.model, job.options, context)
    check_unchanged((one for one in item.inputs if not is_remote(one.path)), plan["sources"])
    reader = Reader.of(context)
    bands = None if plan["bands"] is None else tuple(plan["bands"])
    reader.use(
        (str(folder), plan["identity"], item.first, item.inputs),
        lambda: RasterSource.open(item.inputs, item.grid, bands, running=True),
    )
    fids, labels, scores, texts = [], [], [], []
    try:
        for numbers, pixels, valid in _chip_batches(item, group - item.first, loaded, reader, bands):
            probabilities = _probabilities(loaded, pixels, valid)
            fids += numbers
            labels += probabilities.argmax(1).tolist()
            scores += probabilities.max(1).tolist()
            texts += _several(loaded, probabilities)
    finally:
        check_unchanged(reader.used, plan["sources"])
    arrays: Dict[str, Array] = {
        "fids": np.array(fids, np.int64),
        "labels": np.array(labels, np.int64),
        "scores": np.array(scores, np.float32),
    }
    receipt: Dict[str, Any] = {"group": group, "counts": {"predicted": len(fids)}}
    members = {"texts": texts} if any(texts) else {}
    receipt.update(write_part(WorkFolder(folder).parts / f"{group:08d}.part", arrays, members))
    return receipt


def _several(loaded: Loaded, probabilities: Array) -> List[Optional[Tuple[str, str]]]:
    """Return label and confidence texts of images that may have several labels; None for those with one class."""
    labels = getattr(loaded.model, "labels", None)
    found = labels(probabilities, [one.name for one in loaded.classes]) if labels else None
    return found or [None] * len(probabilities)


def _cached(payload: Dict[str, Any], context: TaskContext) -> Tuple[Dict[str, Any], Chips]:
    folder, group, secrets = Path(payload["work"]), int(payload["group"]), payload.get("secrets", [])
    key = (str(folder), (folder / PLAN).stat().st_mtime_ns, secrets)
    kept = context.state.get("inference.chips")
    if kept is None or kept[0] != key:
        plan = fill(WorkFolder(folder).read_plan() or {}, secrets)
        kept = context.state["inference.chips"] = (key, plan, {})
    plan = kept[1]
    items: Dict[Tuple[int, int], Chips] = kept[2]
    members = max((one for one in plan["items"] if one["first"] <= group), key=lambda one: int(one["first"]))
    place = (int(members["first"]), piece_of(members, group))
    if place not in items:
        items.clear()
        items[place] = recall(members, folder, place[1])
    return plan, items[place]


def _probabilities(loaded: Loaded, pixels: Array, valid: Array) -> Array:
    model, settings = loaded.model, loaded.settings
    if settings.test_time_augmentation:
        return augmented_probabilities(model.probabilities, pixels, valid, settings.merge_policy)
    answer: Array = model.probabilities(pixels, valid)
    return answer[: len(pixels)]


def _chip_batches(
    item: Chips, number: int, loaded: Loaded, reader: Reader, bands: Optional[Tuple[int, ...]]
) -> Iterator[Tuple[List[int], Array, Array]]:
    """Yield (feature ids, pixels (N, bands, rows, columns), valid) of the chips of a group that hold data."""
    waiting: List[Tuple[int, Array, Array]] = []
    for fid, pixels, valid in _cut(item, number, loaded, reader, bands):
        if not valid.any():
            continue
        waiting.append((fid, pixels, valid))
        if len(waiting) >= max(1, loaded.model.plan.batch):
            yield [one[0] for one in waiting], np.stack([one[1] for one in waiting]), np.stack([o[2] for o in waiting])
            waiting = []
    if waiting:
        yield [one[0] for one in waiting], np.stack([one[1] for one in waiting]), np.stack([o[2] for o in waiting])


def _cut(
    item: Chips, number: int, loaded: Loaded, reader: Reader, bands: Optional[Tuple[int, ...]]
) -> Iterator[Tuple[int, Array, Array]]:
    model, plan = loaded.model, loaded.model.plan
    features = item.group(number)
    if features is None:
        pixels, valid = _whole(item, item.grid.window, plan.width, plan.height, bands, reader)
        yield 0, *resized(pixels, valid, plan.width, plan.height)
        return
    fids, shapes = features
    windows = [chip_window(one, plan.width, plan.height, model.fixed_crop) for one in shapely.bounds(shapes)]
    large = [one.width > _COARSE * plan.width or one.height > _COARSE * plan.height for one in windows]
    ahead = read_ahead(reader, [None if big else window for window, big in zip(windows, large)])
    for fid, shape, window, found in zip(fids.tolist(), shapes, windows, ahead):
        if isinstance(found, RasterError):
            raise found
        if found is not None:
            pixels, valid = found
            pixels = blackened(pixels, shape, window) if model.blacken else pixels
        else:
            pixels, valid = _whole(item, window, plan.width, plan.height, bands, reader)
            if model.blacken:
                scale = np.array([pixels.shape[2] / window.width, pixels.shape[1] / window.height])
                origin = np.array([window.col, window.row], dtype=float)
                local = shapely.transform(shape, lambda points, origin=origin, scale=scale: (points - origin) * scale)
                pixels = blackened(pixels, local, Window(0, 0, pixels.shape[2], pixels.shape[1]))
        yield fid, *resized(pixels, valid, plan.width, plan.height)


def _whole(
    item: Chips, window: Window, width: int, height: int, bands: Optional[Tuple[int, ...]], reader: Reader
) -> Tuple[Array, Array]:
    """Return a large window at a cell size that suits the network's image."""
    step = max(1, min(window.width // (2 * width), window.height // (2 * height)))
    if step == 1 and window.width * window.height <= (_COARSE * max(width, height)) ** 2:
        return reader.read(window).result()
    columns, rows = -(-window.width // step), -(-window.height // step)
    transform = item.grid.window_transform(window) * Affine.scale(window.width / columns, window.height / rows)
    coarse = Grid(item.grid.crs, transform, columns, rows)
    with RasterSource.open(item.inputs, coarse, bands, "bilinear", running=True) as source:
        found = source.read(coarse.window)
        reader.used.update(source.used)
        return found


def assemble_classified(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Write copies of the features (or the outlines of the rasters) with their classes."""
    work = WorkFolder(Path(payload["work"]))
    plan = fill(work.read_plan() or {}, payload.get("secrets", []))
    job: Any = jobs.from_dict(plan["job"])
    package = open_package(job.model)
    receipts = {int(one["group"]): one for one in work.receipts()}
    items = [recall(one, work.path) for one in plan["items"]]
    answers = [_answers(one, receipts, work) for one in items]
    features, found, names = _joined(job, items, answers)
    texts = [one.name(package.definition) for one in found]
    # Where an image may have several labels, the confidences of all classes stand in one text, as ArcGIS writes them.
    several = any(one.texts is not None for one in found)
    confidences = np.array([one.confidence(several) for one in found] or [], dtype=object if several else np.float64)
    extra: Dict[str, Tuple[str, Array]] = {
        job.label_field: ("text", np.array(texts or [], dtype=object)),
        "Confidence": ("text" if several else "real", confidences),
    }
    if any(names):
        extra["Item"] = ("text", np.array(names, dtype=object))
    count = write_copies(Path(job.output), features, extra, provenance(plan["job"], package.digest))
    context.emit(Log("info", f"{sum(bool(one) for one in texts):,} of {count:,} objects got a class."))
    return {"OUTPUT": job.output, "COUNT": count}


class Answer(NamedTuple):
    """What the network says of one image: its best class, or the texts of all its labels and their confidences."""

    label: Optional[int] = None
    score: float = float("nan")
    texts: Optional[Tuple[str, str]] = None

    def name(self, definition: ModelDefinition) -> Optional[str]:
        """Return the label as it is written, None without one."""
        if self.texts is not None:
            return self.texts[0]
        if self.label is None:
            return None
        return definition.classes[self.label].name if self.label < len(definition.classes) else str(self.label)

    def confidence(self, as_text: bool) -> Union[str, float, None]:
        """Return the confidence as a number, or as text for a layer in which some images have several."""
        if not as_text:
            return self.score
        if self.texts is not None:
            return self.texts[1]
        return None if self.label is None else f"{self.score:.6g}"


def _answers(item: Chips, receipts: Dict[int, Dict[str, Any]], work: WorkFolder) -> Dict[int, Answer]:
    found: Dict[int, Answer] = {}
    for group in range(item.first, item.first + item.groups):
        receipt = receipts.get(group)
        if receipt is None or not receipt.get("file"):
            continue
        arrays, members = read_part(work.parts / str(receipt["file"]), str(receipt["sha256"]))
        texts = members.get("texts") or [None] * len(arrays["fids"])
        for fid, label, score, several in zip(arrays["fids"], arrays["labels"], arrays["scores"], texts):
            told = None if several is None else (str(several[0]), str(several[1]))
            found[int(fid)] = Answer(int(label), float(score), told)
    return found


def _joined(
    job: jobs.ClassifyObjects, items: Sequence[Chips], answers: Sequence[Dict[int, Answer]]
) -> Tuple[Features, List[Answer], List[str]]:
    """Return the features to write, the answer for each, and the raster's name where there are several."""
    nothing = Answer()
    if job.features is None:
        crs = items[0].grid.crs
        outlines = [
            to_map(np.array([shapely.box(0, 0, one.grid.width, one.grid.height)], object), one.grid, crs, False)[0]
            for one in items
        ]
        features = Features(np.array(outlines, dtype=object), {}, crs)
        return features, [one.get(0, nothing) for one in answers], [one.name for one in items]
    features = read_features(job.features, keep_empty=True)
    if not items[0].name:
        return features, [answers[0].get(int(fid), nothing) for fid in features.fids], [""] * len(features)
    positions: List[int] = []
    found: List[Answer] = []
    names: List[str] = []
    for item, answer in zip(items, answers):
        for position, fid in enumerate(features.fids.tolist()):
            if fid in answer:
                positions.append(position)
                found.append(answer[fid])
                names.append(item.name)
    return features.take(np.array(positions, dtype=np.int64)), found, names
