"""The runner of ``exporttrainingdata``: plan, cut the blocks on all workers, number, move into place, finish."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

from .. import events
from ..errors import JobError, WorkerError
from ..jobs import ExportTrainingData, to_dict
from ..session import Placement, Session
from . import rules, staging
from .space import Room
from .staging import Staging

_Kept = List[Tuple[str, int, int]]


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
        return {"OUTPUT": job.output, "CHIPS": finished["chips"], "OBJECTS": finished["objects"]}
    with staging.opened(job) as (place, note):
        if note:
            session.log(note)
        return _Export(job, session, place).run()


class _Export:
    """One export in the engine process, which only hands out work and keeps count."""

    def __init__(self, job: ExportTrainingData, session: Session, place: Staging) -> None:
        self._job = job
        self._session = session
        self._place = place
        self._placement = Placement(processor="CPU", workers=job.workers)
        self._digest = staging.digest(job)

    def run(self) -> Dict[str, Any]:
        plan = self._plan()
        blocks = [int(one["id"]) for one in plan["blocks"]]
        done = self._cut(blocks)
        kept, left_out, objects = _totals(done)
        if not kept:
            self._place.discard()
            raise _nothing(left_out)
        numbers = self._numbers(plan, done, kept)
        self._publish(plan, numbers, done)
        self._session.progress(0.97, "Writing statistics")
        export = {"digest": self._digest, "chips": len(kept), "objects": objects}
        told = self._session.call("finish_export", {"output": self._job.output, "export": export})
        for line in told["warnings"]:
            self._session.log(line, events.WARNING)
        _tell(self._session, left_out)
        return {"OUTPUT": self._job.output, "CHIPS": len(kept), "OBJECTS": objects}

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
        room = Room(self._place.output, len(blocks))
        for block in blocks:
            receipt = staging.read_json(self._place.block_file(block))
            if receipt is None:
                open_blocks.append(block)
            else:
                done[block] = staging.summary(receipt)
                room.add(int(receipt["bytes"]))

        def on_receipt(_index: int, payload: Dict[str, Any], receipt: Dict[str, Any]) -> None:
            done[int(payload["block"])] = receipt
            chips = sum(len(one["kept"]) for one in done.values())
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
            yield {"output": self._job.output, "digest": self._digest, "block": block}

    def _numbers(self, plan: Dict[str, Any], done: Dict[int, Dict[str, Any]], kept: _Kept) -> Dict[str, List[int]]:
        """Return the numbers of each block's chips: in the order of the plan, whoever cut them and when."""
        starts = staging.begin_publishing(self._place, list(plan["bands"]))
        order: Dict[Tuple[str, int, int], int] = {}
        following = dict(starts)
        for one in sorted(kept):
            order[one] = following[one[0]]
            following[one[0]] += 1
        numbers = {str(block): [order[_key(one)] for one in done[block]["kept"]] for block in sorted(done)}
        staging.write_json(self._place.numbers_file, numbers)
        return numbers

    def _publish(self, plan: Dict[str, Any], numbers: Dict[str, List[int]], done: Dict[int, Dict[str, Any]]) -> None:
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
            self._session.progress(0.9 + 0.07 * count / len(payloads), "Moving chips into place")

        lost = self._session.each("publish_chips", payloads, on_receipt, self._placement)
        if lost:
            raise WorkerError(
                f"Chips could not be moved into place: {lost[0].reason}",
                stage="writing chips",
                hint="Run the export again with “continue”.",
            )


def class_positions(place: Staging, values: set[int]) -> Dict[str, int]:
    """Return the position of each class value: those of earlier exports first, then new ones by value."""
    before = staging.read_json(place.before / "esri_model_definition.emd") or {}
    known = [int(one["Value"]) for one in before.get("Classes") or () if one.get("Value") is not None]
    ordered = known + sorted(values - set(known))
    return {str(value): position for position, value in enumerate(ordered)}


def _key(one: List[Any]) -> Tuple[str, int, int]:
    return str(one[0]), int(one[1]), int(one[2])


def _totals(done: Dict[int, Dict[str, Any]]) -> Tuple[_Kept, Dict[str, int], int]:
    kept: _Kept = []
    left_out: Dict[str, int] = {}
    objects = 0
    for one in done.values():
        kept.extend(_key(chip) for chip in one["kept"])
        objects += int(one["objects"])
        for reason, number in one["left_out"].items():
            left_out[reason] = left_out.get(reason, 0) + int(number)
    return kept, left_out, objects


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
