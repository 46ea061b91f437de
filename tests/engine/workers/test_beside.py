"""A call whose placement has more workers: they are made ready meanwhile, and only the call's own receipt counts."""

from __future__ import annotations

import pytest
from deep_raster.engine.errors import WorkerError
from deep_raster.engine.job_session import JobSession
from deep_raster.engine.session import Placement, Quarantined


class Pool:
    """Answers payloads from the last to the first; those in ``lost`` never come back."""

    def __init__(self, lost=()):
        self.lost, self.placed, self.payloads, self.only = lost, [], [], None

    def place(self, slots):
        self.placed = list(slots)

    def place_at_least(self, slot):
        self.placed = [slot]

    def each(self, task, payloads, scratch, on_receipt, on_event, check, lease=None, only=None):
        self.payloads, self.only = list(payloads), only
        for index in reversed(range(len(self.payloads))):
            if index not in self.lost:
                on_receipt(index, self.payloads[index], {"answer": self.payloads[index]})
        return [Quarantined(index, self.payloads[index], "ended by signal SIGKILL") for index in self.lost]


def call(pool, **options):
    session = JobSession(lambda _event: None, lambda: False, pool)
    try:
        return session.call("task", {"a": 1}, Placement(processor="CPU", workers=3), **options)
    finally:
        session.close()


def test_the_others_get_their_payload_and_the_first_its_receipt_back():
    pool = Pool()
    assert call(pool, beside={"b": 2}) == {"answer": {"a": 1}}
    assert len(pool.placed) == 3
    assert pool.payloads == [{"a": 1}, {"b": 2}, {"b": 2}]


def test_without_such_a_payload_one_worker_is_enough():
    pool = Pool()
    assert call(pool) == {"answer": {"a": 1}}
    assert len(pool.placed) == 1
    assert pool.payloads == [{"a": 1}]
    assert pool.only == pool.placed[0]


def test_losing_one_of_the_others_is_no_matter_but_losing_the_first_is():
    assert call(Pool(lost=(1,)), beside={"b": 2}) == {"answer": {"a": 1}}
    with pytest.raises(WorkerError, match="SIGKILL"):
        call(Pool(lost=(0, 2)), beside={"b": 2})
