"""The plan of an export: what is read, on which grid, in which blocks; made once by one worker, read by all."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Sequence

import numpy as np

from .. import events
from ..errors import DeepRasterError, JobError, OutputError
from ..jobs import ExportTrainingData, from_dict
from ..raster.gdal import shown
from ..raster.remote import without_credentials
from ..raster.secrets import fill, hide
from ..raster.versions import source_state
from ..workers.task import TaskContext
from . import folder, rules, space
from .classes import LabelClass
from .images import check_holds
from .items import Bands, Item, bands_of, blocks_of, items_of, roots_of
from .label_store import LabelCounts, block_file
from .planned_labels import PlannedLabels
from .staging import Staging, rasters_of, read_json, secret_members, write_json


def read_plan(staging: Staging, logins: Sequence[str]) -> Dict[str, Any]:
    """Return the plan of an export, with its logins in place and ``sources`` by the names of the rasters."""
    plan: Dict[str, Any] = read_json(staging.plan_file)
    filled = fill({name: plan[name] for name in ("job", "names", "items")}, logins)
    return {**plan, **filled, "sources": dict(zip(filled["names"], plan["sources"]))}


@contextlib.contextmanager
def _written(output: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an :class:`OutputError`; the engine's own errors pass."""
    try:
        yield
    except OSError as error:
        if isinstance(error, DeepRasterError):
            raise
        raise OutputError(
            f"The plan cannot be written to “{output}”: {error.strerror or error}{space.no_room(output)}.",
            stage="preparing the output",
            file=str(output),
            hint="Make room or choose another folder.",
        ) from error


def plan_export(payload: Dict[str, Any], context: TaskContext) -> Dict[str, Any]:
    """Task: open everything, find the classes, store the labels by block, and write the plan.

    Args:
        payload: ``job`` as JSON members.
        context: of the worker.

    Returns:
        number of blocks, classes, root folders, and notes for the log.

    Raises:
        JobError: parameters do not fit the rasters or labels, or nothing can be exported.
        RasterError, VectorError: an input cannot be read.
    """
    job = from_dict(payload["job"])
    if not isinstance(job, ExportTrainingData):
        raise JobError("The planning task got another job.")
    traits = rules.check_job(job)
    staging = Staging(Path(job.output))
    items = items_of(job)
    bands = {root: bands_of([one for one in items if one.root == root], False) for root in roots_of(items)}
    second = bands_of(items, True) if items[0].second else None
    for one in (*bands.values(), *([second] if second else [])):
        check_holds(job.chip_format, one.count, one.dtype)
    _check_folder(job, staging.output, bands)
    context.emit(events.Progress(0.3, "Reading the labels"))
    blocks = blocks_of(items, bands, traits)
    labels = PlannedLabels(job, traits, _known_classes(staging.output))
    with _written(staging.output):
        labels.store(items, blocks, staging.folder)
    if labels.from_features and not job.all_tiles:
        blocks = [one for one in blocks if block_file(staging.folder / "labels", one["id"]).is_file()]
        if not blocks:
            raise _nothing(job, labels.counts)
    hidden, _ = hide({**secret_members(job), "items": [one.to_dict() for one in items]})
    plan = {
        **hidden,
        "blocks": blocks,
        "classes": [one.to_dict() for one in labels.classes],
        "instance_classes": [one.to_dict() for one in labels.instance_classes],
        "label_type": labels.label_type(items),
        "bands": {root: one.to_dict() for root, one in bands.items()},
        "bands2": second.to_dict() if second else None,
        "sources": _versions(job),
    }
    with _written(staging.output):
        write_json(staging.plan_file, plan, 0o600)
    return {
        "blocks": len(blocks),
        "classes": plan["classes"],
        "roots": list(bands),
        "notes": [*labels.notes(), *_space(job, items, bands, traits)],
    }


def _versions(job: ExportTrainingData) -> List[List[Any]]:
    """Return the versions of each raster's files. Parts of a mosaic that need a login of their own are left out."""
    rasters = rasters_of(job)
    found = source_state(rasters)
    versions = [found.get(without_credentials(one.path), []) for one in rasters]
    return [[entry for entry in files if entry[0] == without_credentials(entry[0])] for files in versions]


def _space(
    job: ExportTrainingData, items: Sequence[Item], bands: Mapping[str, Bands], traits: rules.Traits
) -> List[str]:
    """Return a warning if all windows become chips and will hardly fit on the disk."""
    if job.mask is not None or not (job.all_tiles or traits.labels == rules.NONE):
        return []
    size = 0
    for one in items:
        columns, rows = one.layout.shape
        per_pixel = bands[one.root].count * np.dtype(bands[one.root].dtype).itemsize
        size += columns * rows * len(one.layout.angles) * one.layout.tile[0] * one.layout.tile[1] * per_pixel
    found = space.warning(Path(job.output), size)
    return [found] if found else []


def _check_folder(job: ExportTrainingData, output: Path, bands: Mapping[str, Bands]) -> None:
    """Refuse to append chips with other bands to a folder."""
    if job.existing == rules.REPLACE:
        return
    for root, one in bands.items():
        there = folder.read_json(output / root / folder.STATISTICS).get("NumBands")
        if there is not None and int(there) != one.count:
            raise JobError(
                f"The chips in the output folder have {there} bands, but the raster has {one.count}.",
                stage="planning the chips",
                file=str(output),
                hint="Choose another folder, or replace what is there.",
            )


def _known_classes(output: Path) -> List[LabelClass]:
    members = folder.read_json(output / folder.DEFINITION).get("Classes") or []
    return [LabelClass(int(one["Value"]), str(one["Name"])) for one in members if one.get("Value") is not None]


def _nothing(job: ExportTrainingData, counts: LabelCounts) -> JobError:
    path = shown(job.labels.path) if job.labels is not None else ""
    if counts.without_class and counts.without_class == counts.read:
        return JobError(
            f"No feature of “{path}” has a class.", stage="reading the labels", hint="Fill the class field."
        )
    return JobError(
        f"No feature of “{path}” lies on the raster within the processing extent.",
        stage="reading the labels",
        file=path,
        hint="Check that the layer is not empty, its subset filter, its CRS and the extent; or export all tiles.",
    )
