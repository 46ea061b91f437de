"""What the runners of tiled jobs share: plan, hand out groups of tiles, keep the journal, assemble."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

from .. import jobs
from ..errors import DeepRasterError, JobCancelled, JobError, WorkerError
from ..events import DEBUG, WARNING
from ..session import Placement, Quarantined, Session
from .journal import Journal, WorkFolder
from .walk import Walk

# Shares of the progress bar: the plan with the loading of the network, then the tiles, then the assembly.
_PLANNED, _PREDICTED = 0.03, 0.92


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
    payload = {"work": str(work.path)}
    with work.locked():
        try:
            values = _run(job, session, (plan, predict, assemble), work, payload)
        except JobCancelled:
            if not job.options.resume:
                work.clear()
            raise
        except DeepRasterError:
            if not work.receipts():
                work.remove()
            raise
    work.remove()
    return values


def _run(
    job: Any, session: Session, tasks: Tuple[str, str, str], work: WorkFolder, payload: Dict[str, Any]
) -> Dict[str, Any]:
    planning, predict, assemble = tasks
    session.progress(0.0, "Opening the model and the rasters")
    job, placement = prepare_model(job, session, work.path)
    plan = session.call(planning, {"job": jobs.to_dict(job), **payload}, placement, span=(0.0, _PLANNED))
    failed = hand_out(predict, session, work, plan, placement)
    if failed:
        _give_up_or_go_on(job, session, failed, plan["groups"])
    session.progress(_PREDICTED, "Writing the result")
    return session.call(assemble, payload, Placement(processor=jobs.CPU), span=(_PREDICTED, 1.0))


def hand_out(
    task: str, session: Session, work: WorkFolder, plan: Dict[str, Any], placement: Placement
) -> List[Quarantined]:
    """Have all unfinished groups done and their receipts written to the journal; return those that failed for good."""
    done: Set[int] = set(plan["done"])
    total, finished = int(plan["groups"]), len(done)
    skipped: Dict[str, int] = {"nodata": 0, "outside": 0, "constant": 0}
    seconds: Dict[str, float] = {"seconds": 0.0, "network_seconds": 0.0}

    # Parts without a place of their own (chips of features) come one after the other.
    walk = Walk(plan.get("ways") or [(0, total, 1)], done)

    def payloads() -> Iterator[Dict[str, Any]]:
        for group in walk:
            yield {"work": str(work.path), "group": group}

    with Journal(work) as journal:

        def on_receipt(_index: int, _payload: Dict[str, Any], receipt: Dict[str, Any]) -> None:
            nonlocal finished
            journal.add(receipt)
            walk.finished(int(receipt["group"]))
            finished += 1
            counts = receipt.get("counts", {})
            for name in skipped:
                skipped[name] += int(counts.get(name, 0))
            for name in seconds:
                seconds[name] += float(counts.get(name, 0.0))
            share = _PLANNED + (_PREDICTED - _PLANNED) * finished / max(1, total)
            session.progress(share, f"Predicting: part {finished:,} of {total:,}")

        failed = session.each(task, payloads(), on_receipt, placement)
    if seconds["seconds"]:
        text = f"Predicting took {seconds['seconds']:.1f} s of processor time, {seconds['network_seconds']:.1f} s of it"
        session.log(f"{text} in the network.", DEBUG)
    if any(skipped.values()):
        session.log(
            f"Tiles left out: {skipped['nodata']:,} without data, {skipped['outside']:,} outside the mask, "
            f"{skipped['constant']:,} of one colour."
        )
    return failed


def _give_up_or_go_on(job: Any, session: Session, failed: List[Quarantined], total: int) -> None:
    """End the job when tiles failed for good, or say that they stay empty, as the argument failed_tiles asks."""
    reasons = "; ".join(sorted({one.reason for one in failed}))
    numbers = ", ".join(str(one.payload.get("group")) for one in failed[:20])
    if job.options.arguments.get("failed_tiles", "stop").strip().lower() == "nodata":
        session.log(f"{len(failed)} of {total} parts could not be done and stay empty ({numbers}): {reasons}", WARNING)
        return
    raise WorkerError(
        f"{len(failed)} of {total} parts could not be done ({numbers}): {reasons}",
        stage="predicting",
        hint="What is finished is kept; start the same job again to go on. With the model argument "
        "failed_tiles=nodata the result is written without these parts.",
    )


def prepare_model(job: Any, session: Session, work: Path) -> Tuple[Any, Placement]:
    """Unpack and check the package of a job; return the job to hand to workers, and where they run.

    Workers that run a package's own code are confined: they cannot read the remembered consents, so the decision is
    taken here, and they may write ``work`` beside their scratch folder.

    Raises:
        TrustError: the package needs code of its own and nobody has allowed it.
    """
    opened = session.call("open_model", {"job": jobs.to_dict(job)})
    if opened["weights"]:
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
    outputs = [
        getattr(job, name, "")
        for name in ("output", "confidence_output", "probabilities_output", "polygons_output")
        if getattr(job, name, "")
    ]
    if not job.output:
        raise JobError("No output is given.")
    inputs = [*getattr(job, "inputs", ())]
    inputs += [one for one in (getattr(job, "from_raster", None), getattr(job, "to_raster", None)) if one]
    taken = {_key(one.path) for one in inputs} | ({_key(job.model)} if getattr(job, "model", "") else set())
    features = getattr(job, "features", None)
    if features is not None:
        taken.add(_key(features.path))
    for one in outputs:
        if _key(one) in taken:
            raise JobError(f"The output “{one}” is an input of the same job.", hint="Choose another output.")
        taken.add(_key(one))


def _key(path: str) -> str:
    return os.path.normcase(os.path.realpath(path)) if os.path.exists(path) else os.path.normcase(path)
