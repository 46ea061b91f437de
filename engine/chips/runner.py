"""The runner of ``exporttrainingdata``: plan, cut the blocks on all workers, name, finish, move into place."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

from .. import events
from ..errors import JobCancelled, JobError, WorkerError
from ..jobs import ExportTrainingData, to_dict
from ..session import Placement, Session
from . import opening, rules, staging
from .numbering import Chip, number_chips
from .space import Room
from .staging import Staging


def run(job: ExportTrainingData, session: Session) -> Dict[str, Any]:
    """Export training data and return the named outputs.

    Returns:
        OUTPUT: the folder; CHIPS: chips written by this job; OBJECTS: labelled objects on them (an object counts once
        on every chip; of class rasters, each class of a chip counts once).

    Raises:
        JobError: parameters do not go together, or nothing can be exported.
        DeepRasterError: an input cannot be read or the output not be written.
    """
    rules.check_job(job)
    finished = staging.finished(job) if job.existing == rules.CONTINUE else None
    if finished is not None:
        session.log("This export is already complete.")
        Staging(Path(job.output)).discard(session.check_cancelled)  # what its end had not yet removed
        return {"OUTPUT": job.output, "CHIPS": finished["chips"], "OBJECTS": finished["objects"]}
    with opening.opened(job, session.check_cancelled) as (place, note):
        if note:
            session.log(note)
        try:
            return _Export(job, session, place).run()
        except JobCancelled:
            if place.publish_file.exists():
                session.log(
                    "The export was cancelled while chips were moved into place; “continue” completes it, any other "
                    "export into this folder first moves them back.",
                    events.WARNING,
                )
            raise


class _Export:
    """One export in the engine process, which only hands out work and keeps count."""

    def __init__(self, job: ExportTrainingData, session: Session, place: Staging) -> None:
        self._job = job
        self._session = session
        self._place = place
        self._placement = Placement(processor="CPU", workers=job.workers)
        self._digest = staging.digest(job)
        self._secrets = staging.logins(job)

    def run(self) -> Dict[str, Any]:
        plan = self._plan()
        blocks = [int(one["id"]) for one in plan["blocks"]]
        done = self._cut(blocks)
        kept = {block: [_chip(one) for one in done[block]["kept"]] for block in done}
        left_out, objects = _totals(done)
        chips = sum(len(one) for one in kept.values())
        if not chips:
            self._place.discard()
            raise _nothing(left_out)
        if not self._place.publish_file.exists():
            self._name(plan, number_chips(self._place, list(plan["bands"]), kept, self._session.check_cancelled), done)
            self._finish({"digest": self._digest, "chips": chips, "objects": objects})
        self._session.progress(0.99, "Moving chips into place")
        self._session.call("publish_export", {"output": self._job.output})
        _tell(self._session, left_out)
        return {"OUTPUT": self._job.output, "CHIPS": chips, "OBJECTS": objects}

    def _plan(self) -> Dict[str, Any]:
        if not self._place.plan_file.exists():
            self._session.progress(0.0, "Opening rasters and labels")
            planned = self._session.call("plan_export", {"job": to_dict(self._job)}, span=(0.0, 0.05))
            for line in planned["notes"]:
                self._session.log(line, events.WARNING)
        plan: Dict[str, Any] = staging.read_json(self._place.plan_file)
        return plan

    def _cut(self, blocks: List[int]) -> Dict[int, Dict[str, Any]]:
        """Cut what is not yet cut; return the summaries of all blocks."""
        done: Dict[int, Dict[str, Any]] = {}
        open_blocks: List[int] = []
        chips = 0
        room = Room(self._place.output, len(blocks))
        for block in blocks:
            self._session.check_cancelled()
            receipt = staging.read_json(self._place.block_file(block))
            if receipt is None:
                open_blocks.append(block)
            else:
                done[block] = staging.summary(receipt)
                chips += len(receipt["chips"])
                room.add(int(receipt["bytes"]))

        def on_receipt(_index: int, payload: Dict[str, Any], receipt: Dict[str, Any]) -> None:
            nonlocal chips
            done[int(payload["block"])] = receipt
            chips += len(receipt["kept"])
            self._session.progress(0.05 + 0.85 * len(done) / len(blocks), f"{chips} chips")
            room.add(int(receipt["bytes"]))

        lost = self._session.each("export_chips", self._payloads(open_blocks), on_receipt, self._placement)
        if lost:
            raise WorkerError(
                f"{len(lost)} blocks of chips could not be written: {lost[0].reason}",
                stage="writing chips",
                hint="Use smaller tiles or fewer workers, then run the export again with “continue”.",
            )
        return done

    def _payloads(self, blocks: List[int]) -> Iterator[Dict[str, Any]]:
        for block in blocks:
            yield {"output": self._job.output, "digest": self._digest, "block": block, "secrets": self._secrets}

    def _name(self, plan: Dict[str, Any], numbers: Dict[str, List[int]], done: Dict[int, Dict[str, Any]]) -> None:
        """Give all chips their final names, still in the working folder."""
        positions = None
        if self._job.format in ("YOLO", "YOLO_segmentation"):
            met = {value for one in done.values() for value in one["values"]}
            positions = class_positions(self._place, met | {int(one["value"]) for one in plan["classes"]})
        payloads = [
            {"output": self._job.output, "block": int(block), "numbers": found, "positions": positions}
            for block, found in numbers.items()
            if found
        ]
        count = 0

        def on_receipt(_index: int, _payload: Dict[str, Any], _receipt: Dict[str, Any]) -> None:
            nonlocal count
            count += 1
            self._session.progress(0.9 + 0.05 * count / len(payloads), "Naming chips")

        lost = self._session.each("name_chips", payloads, on_receipt, self._placement)
        if lost:
            raise WorkerError(
                f"Chips could not be given their names: {lost[0].reason}",
                stage="writing chips",
                hint="Run the export again with “continue”.",
            )

    def _finish(self, export: Dict[str, Any]) -> None:
        """Write what describes the data set as a whole, still in the working folder."""
        self._session.progress(0.96, "Writing statistics")
        payload = {"output": self._job.output, "export": export, "secrets": self._secrets}
        told = self._session.call("finish_export", payload, span=(0.96, 0.99))
        for line in told["warnings"]:
            self._session.log(line, events.WARNING)


def class_positions(place: Staging, values: set[int]) -> Dict[str, int]:
    """Return the position of each class value: those of earlier exports first, then new ones by value."""
    before = staging.read_json(place.kept / "esri_model_definition.emd") or {}
    known = [int(one["Value"]) for one in before.get("Classes") or () if one.get("Value") is not None]
    ordered = known + sorted(values - set(known))
    return {str(value): position for position, value in enumerate(ordered)}


def _chip(one: List[Any]) -> Chip:
    return str(one[0]), int(one[1]), int(one[2])


def _totals(done: Dict[int, Dict[str, Any]]) -> Tuple[Dict[str, int], int]:
    left_out: Dict[str, int] = {}
    objects = 0
    for one in done.values():
        objects += int(one["objects"])
        for reason, number in one["left_out"].items():
            left_out[reason] = left_out.get(reason, 0) + int(number)
    return left_out, objects


_REASONS = {
    "outside mask": "not completely inside a mask polygon",
    "mostly empty": "less than half image",
    "without labels": "without labels",
}


def _nothing(left_out: Dict[str, int]) -> JobError:
    reasons = [f"{number} {_REASONS[reason]}" for reason, number in left_out.items() if number]
    return JobError(
        f"No chip was exported: of all windows, {', '.join(reasons) or 'none holds a pixel'}.",
        stage="writing chips",
        hint="Check the labels, the mask and the minimum overlap, use smaller tiles, or export all tiles.",
    )


def _tell(session: Session, left_out: Dict[str, int]) -> None:
    for reason, number in left_out.items():
        if number:
            session.log(f"{number} windows were left out: {_REASONS[reason]}.")
