"""What the runners of tiled jobs share: plan, hand out groups of tiles, keep the journal, assemble."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from .. import jobs
from ..errors import DeepRasterError, JobCancelled, JobError, OutputError, WorkerError
from ..events import DEBUG, WARNING
from ..raster.publishing import discard, part_files, take_back_noted
from ..session import Placement, Quarantined, Session
from .journal import Journal, WorkFolder, item_target
from .lost import MOST_ROUNDS, describe, read_crumb, without_blame
from .walk import Walk

# Shares of the progress bar: the plan with the loading of the network, then the tiles, then the assembly.
_PLANNED, _PREDICTED = 0.03, 0.92
# The members of jobs that name outputs, with the ending of their files where there is one for each raster.
_OUTPUTS = {
    "output": ".tif", "confidence_output": ".tif", "probabilities_output": ".tif", "polygons_output": ".gpkg",
}  # fmt: skip
# Why tiles are left out, by the count of a receipt.
_REASONS = {"nodata": "without data", "outside": "outside the mask", "constant": "of one colour"}


def run_tiled(job: Any, session: Session, assemble: str) -> Dict[str, Any]:
    """Run a job over tiles and return its named outputs; see :func:`run_in_parts`."""
    return run_in_parts(job, session, "plan_inference", "predict_tiles", assemble)


def run_in_parts(job: Any, session: Session, plan: str, predict: str, assemble: str) -> Dict[str, Any]:
    """Run a job as plan, parts and assembly, each a task, and return its named outputs.

    Finished groups stay in the work folder beside the output until the output is complete, so that a job that was
    cancelled, or died, goes on from there.

    Args:
        job: an inference job.
        session: of the engine.
        plan: name of the task that plans the job.
        predict: name of the task that does one part.
        assemble: name of the task that makes the output.
    """
    check_outputs(job)
    work = WorkFolder.for_output(job.output)
    with work.locked():
        _tidy_outputs(job, work)
        try:
            values = _run(job, session, (plan, predict, assemble), work)
        except JobCancelled:
            _tidy_outputs(job, work)
            if not job.options.resume:
                work.clear()
            raise
        except DeepRasterError:
            _tidy_outputs(job, work)
            if not work.receipts():
                work.remove()
            raise
    work.remove()
    return values


def _tidy_outputs(job: Any, work: WorkFolder) -> None:
    """Undo what a worker that was killed while it made the outputs has left beside them.

    Raises:
        OutputError: some outputs have got their names, others have not, and nothing can be done about it now.
    """
    left = take_back_noted(work.steps)
    if left:
        raise OutputError(
            f"{', '.join(f'“{one}”' for one in left)} cannot be renamed back.",
            stage="preparing the output",
            file=left[0],
            hint="What was there lies beside it, with “.old” in its name. Make room for it, then start the job again.",
        )
    items = (work.read_plan() or {}).get("items", [])
    for name, suffix in _OUTPUTS.items():
        target = getattr(job, name, "")
        if target and os.path.isdir(target):
            discard(*part_files(item_target(target, str(one.get("name")), suffix) for one in items))
        elif target:
            discard(*part_files([Path(target)]))


def _run(job: Any, session: Session, tasks: Tuple[str, str, str], work: WorkFolder) -> Dict[str, Any]:
    planning, predict, assemble = tasks
    session.progress(0.0, "Opening the model and the rasters")
    job, placement = prepare_model(job, session, work.path, planning)
    members = {"job": jobs.to_dict(job), "work": str(work.path)}
    plan = session.call(planning, members, placement, (0.0, _PLANNED), beside={**members, "prepare": True})
    if plan.get("workers") and not placement.cluster:
        placement = dataclasses.replace(placement, workers=int(plan["workers"]))
    failed = hand_out(predict, session, work, plan, placement)
    if failed and _goes_on(job):
        failed = _without_tiles_to_blame(predict, session, work, plan, placement, failed)
    if failed:
        _give_up_or_go_on(job, session, work, failed, plan["groups"])
    session.progress(_PREDICTED, "Writing the result")
    return session.call(assemble, _of_every_task(work, plan), Placement(processor=jobs.CPU), span=(_PREDICTED, 1.0))


def _of_every_task(work: WorkFolder, plan: Dict[str, Any]) -> Dict[str, Any]:
    """Return the payload's members from which a worker has the plan: its folder, and what must not lie there."""
    return {"work": str(work.path), **({"secrets": plan["secrets"]} if plan.get("secrets") else {})}


def hand_out(
    task: str,
    session: Session,
    work: WorkFolder,
    plan: Dict[str, Any],
    placement: Placement,
    more: Optional[Mapping[int, Dict[str, Any]]] = None,
) -> List[Quarantined]:
    """Have all unfinished groups done and their receipts written to the journal; return those that failed for good.

    Args:
        task: that does one group.
        session: of the engine.
        work: the work folder.
        plan: ``groups`` (how many), ``done`` (numbers of the finished ones), ``secrets`` and, for tiles, ``ways``.
        placement: of the task.
        more: further members of the payload of some groups.
    """
    done: Set[int] = set(plan["done"])
    total, finished = int(plan["groups"]), len(done)
    skipped = dict.fromkeys(_REASONS, 0)
    seconds = dict.fromkeys(("seconds", "read_seconds", "network_seconds", "write_seconds", "wait_seconds"), 0.0)
    pixels = {"input_pixels": 0, "raster_pixels": int(plan.get("pixels", 0))}

    # Parts without a place of their own (chips of features) come one after the other.
    walk = Walk(plan.get("ways") or [(0, total, 1)], done)

    members = _of_every_task(work, plan)

    def payloads() -> Iterator[Dict[str, Any]]:
        for group in walk:
            yield {**members, "group": group, **((more or {}).get(group) or {})}

    with Journal(work) as journal:

        def on_receipt(_index: int, payload: Dict[str, Any], receipt: Dict[str, Any]) -> None:
            nonlocal finished
            journal.add(receipt, payload["group"])
            walk.finished(int(payload["group"]))
            finished += 1
            counts = receipt.get("counts", {})
            for name in skipped:
                skipped[name] += int(counts.get(name, 0))
            for name in seconds:
                seconds[name] += float(counts.get(name, 0.0))
            pixels["input_pixels"] += int(counts.get("input_pixels", 0))
            share = _PLANNED + (_PREDICTED - _PLANNED) * finished / max(1, total)
            session.progress(share, f"Predicting: part {finished:,} of {total:,}")

        failed = session.each(task, payloads(), on_receipt, placement)
    if seconds["seconds"]:
        figures = {name: round(value, 3) for name, value in (*seconds.items(), *pixels.items())}
        session.log(f"Statistics of predicting: {json.dumps(figures)}", DEBUG)
    told = [f"{count:,} {_REASONS[name]}" for name, count in skipped.items() if count]
    if told:
        session.log(f"Tiles left out: {', '.join(told)}.")
    return failed


def _goes_on(job: Any) -> bool:
    """Return whether the result is to be written without tiles that cannot be done."""
    return bool(job.options.arguments.get("failed_tiles", "stop").strip().lower() == "nodata")


def _without_tiles_to_blame(
    task: str,
    session: Session,
    work: WorkFolder,
    plan: Dict[str, Any],
    placement: Placement,
    failed: List[Quarantined],
) -> List[Quarantined]:
    """Do lost groups again without the tiles at which their workers died; return those that still fail."""
    for _ in range(MOST_ROUNDS):
        known = [(without_blame(work, one.payload), one) for one in failed]
        again = {int(payload["group"]): payload for (payload, boxes), _ in known if boxes}
        if not again:
            break
        for (_, boxes), one in known:
            if boxes:
                session.log(f"Left empty is the tile at {describe(boxes)}: {one.reason}", WARNING)
        rest = [number for number in range(int(plan["groups"])) if number not in again]
        lost = hand_out(task, session, work, {**plan, "done": rest}, placement, again)
        failed = [one for (_, boxes), one in known if not boxes] + lost
    return failed


def _give_up_or_go_on(job: Any, session: Session, work: WorkFolder, failed: List[Quarantined], total: int) -> None:
    """End the job when tiles failed for good, or say that they stay empty, as the argument failed_tiles asks."""
    reasons = "; ".join(sorted({one.reason for one in failed}))
    numbers = ", ".join(str(one.payload.get("group")) for one in failed[:20])
    if _goes_on(job):
        session.log(f"{len(failed)} of {total} parts could not be done and stay empty ({numbers}): {reasons}", WARNING)
        return
    boxes = [box for one in failed for box in read_crumb(work, int(one.payload["group"]))[1]]
    place = f" It happened at the tile at {describe(boxes)}." if boxes else ""
    raise WorkerError(
        f"{len(failed)} of {total} parts could not be done ({numbers}): {reasons}.{place}",
        stage="predicting",
        hint="What is finished is kept; start the same job again to go on. With the model argument "
        "failed_tiles=nodata the result is written without these tiles.",
    )


def prepare_model(job: Any, session: Session, work: Path, planning: str) -> Tuple[Any, Placement]:
    """Unpack and check the package of a job; return the job to hand to workers, and where they run.

    A job that ``planning`` must refuse is refused before weights are imported, which may take long.

    Workers that run a package's own code are confined: they cannot read the remembered consents, so the decision is
    taken here, and they may write ``work`` beside their scratch folder.

    Raises:
        TrustError: the package needs code of its own and nobody has allowed it.
    """
    opened = session.call("open_model", {"job": jobs.to_dict(job)})
    if opened["weights"]:
        session.call(planning, {"job": jobs.to_dict(job), "work": str(work), "check": True})
        caged = Placement(processor=jobs.CPU, code_of=opened["digest"])
        payload = {"model": job.model, "weights": opened["weights"], "trust": job.options.trust}
        session.call("import_weights", payload, caged)
    options = job.options
    if opened["code_of"]:
        options = dataclasses.replace(options, trust=(*options.trust, opened["code_of"]))
    placement = Placement(
        processor=options.processor,
        gpu_id=options.gpu_id,
        workers=options.workers,
        cluster=options.cluster,
        code_of=opened["code_of"],
        family=opened["family"],
        writable=(str(work),),
    )
    return dataclasses.replace(job, options=options), placement


def check_outputs(job: Any) -> None:
    """Refuse a job that would write over its own input, or write two outputs to one place.

    Raises:
        JobError: so it is.
    """
    outputs = [getattr(job, name) for name in _OUTPUTS if getattr(job, name, "")]
    if not job.output:
        raise JobError("No output is given.")
    inputs = [*getattr(job, "inputs", ())]
    inputs += [one for one in (getattr(job, "from_raster", None), getattr(job, "to_raster", None)) if one]
    taken = {_key(one.path) for one in inputs} | ({_key(job.model)} if getattr(job, "model", "") else set())
    features = getattr(job, "features", None)
    if features is not None:
        taken.add(_key(features.path))
    in_folders = hasattr(job, "confidence_output") and job.options.processing_mode == jobs.ITEMS_SEPARATELY
    for one in outputs:
        if os.path.isdir(one) and not in_folders:
            raise JobError(f"The output “{one}” is a folder.", hint="Choose a file as output.")
        if _key(one) in taken:
            raise JobError(f"The output “{one}” is an input of the same job.", hint="Choose another output.")
        taken.add(_key(one))


def _key(path: str) -> str:
    return os.path.normcase(os.path.realpath(path)) if os.path.exists(path) else os.path.normcase(path)
