"""Workers that do not keep to the protocol (fault plan W10): they are ended, the task is done again, nothing else."""

from __future__ import annotations

import copy
import io
import json
import random
import struct
import sys
from pathlib import Path

import pytest
from deep_raster.engine import events
from deep_raster.engine.errors import WorkerError, from_dict
from deep_raster.engine.workers import frames, messages, pool
from deep_raster.engine.workers.devices import Slot
from processes import wait_until

FAULTY = Path(__file__).with_name("faulty_worker.py")
GOOD = [
    {"hello": {"protocol": 1, "version": "0.1.0", "pid": 1, "protection": ""}},
    {"id": 7, "event": "progress", "fraction": 0.5, "text": "half"},
    {"id": 7, "event": "log", "level": "info", "text": "said"},
    {"id": 7, "event": "metric", "name": "loss", "value": 0.1, "step": 2},
    {"id": 7, "receipt": {"group": 3, "file": "00000003.part", "sha256": "0" * 64, "bytes": 9}},
    {"id": 7, "error": {"kind": "RasterError", "message": "m", "stage": "", "file": "", "hint": ""}, "traceback": "t"},
    {"id": 7, "crash": "ValueError: x", "traceback": "t", "device_lost": False},
]
ODD = [None, True, -1, 2**70, 1e999, float("nan"), "", "x" * 30_000, "\ud800", [], {}, [[]], {"a": {}}, "../../etc"]


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def mutated(chance) -> bytes:
    """Return a frame of which something may be wrong: values, members, JSON, length."""
    message = json.loads(json.dumps(chance.choice(GOOD)))
    for _ in range(chance.randrange(3)):
        target = chance.choice([message, *[one for one in message.values() if isinstance(one, dict)]])
        name = chance.choice([*target, "id", "event", "receipt"])
        target[name] = copy.deepcopy(chance.choice(ODD))
        if chance.random() < 0.3:
            del target[name]
    body = bytearray(json.dumps(message).encode())
    for _ in range(chance.choice((0, 0, 1, 4))):
        if body:
            body[chance.randrange(len(body))] = chance.randrange(256)
    frame = bytearray(framed(bytes(body)))
    kind = chance.randrange(12)
    if kind == 0:
        frame = frame[: chance.randrange(len(frame))]
    elif kind == 1:
        frame[:4] = chance.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\0\0\0\1"))
    return bytes(frame)


def take(frame: bytes) -> str:
    """Take a frame as the engine does, up to the line that its client reads; return what became of it."""
    try:
        message = frames.read(io.BytesIO(frame))
        if message is None:
            return "end"
        message = messages.check(message)
    except frames.FrameError:
        return "refused"
    if "hello" in message or ("receipt" in message and "event" not in message):
        return "taken"
    if "event" in message:
        event = events.from_dict(message)
        json.loads(events.to_line(event, id=1).encode("utf-8", "backslashreplace"))
        if isinstance(event, events.Progress):
            max(0.0, min(1.0, event.fraction))
    elif "error" in message:
        str(from_dict(message["error"]))
    elif "crash" in message:
        message["crash"].encode()
    return "taken"


def test_mutated_frames_are_refused_or_harmless():
    chance = random.Random(10)
    counts = {"refused": 0, "taken": 0, "end": 0}
    for _ in range(10_000):
        counts[take(mutated(chance))] += 1
    assert counts["refused"] > 2000 and counts["taken"] > 2000


@pytest.mark.parametrize("message", GOOD)
def test_good_messages_are_taken(message):
    assert take(framed(json.dumps(message).encode())) == "taken"


def test_long_texts_are_cut():
    cut = messages.check({"id": 1, "event": "log", "level": "info", "text": "y" * 10**6})["text"]
    assert len(cut) < messages.MAX_TEXT + 50 and "1,000,000" in cut


def run(payloads, scratch, workers=2, told=None, on_receipt=None):
    made = pool.WorkerPool([sys.executable, "-B", "-u", str(FAULTY)])
    made.place([Slot("cpu")] * workers)
    receipts = {}
    keep = on_receipt or (lambda index, payload, receipt: receipts.update({index: receipt}))
    sink = (lambda event: None) if told is None else told.append
    try:
        lost = made.each("fault", payloads, scratch, keep, sink, lambda: None, 30.0)
    finally:
        made.close()
    return receipts, lost


JUNK = {
    "length": b"\xff\xff\xff\xff" + b"x" * 100,
    "no JSON": framed(b"{oops"),
    "deep": framed(b"[" * 200_000),
    "receipt": framed(b'{"id": 1, "receipt": 3}'),
}


@pytest.mark.parametrize("kind", JUNK)
def test_a_worker_that_sends_junk_is_replaced(tmp_path, kind):
    told = []
    receipts, lost = run([{"n": 1, "fault": "junk", "once": True, "bytes": JUNK[kind].hex()}], tmp_path, 1, told)
    assert lost == [] and list(receipts) == [0]
    assert any("no message of this protocol" in getattr(event, "text", "") for event in told)


def test_a_receipt_that_is_none_costs_the_worker(tmp_path):
    taken = []

    def on_receipt(index, payload, receipt):
        taken.append(receipt["pid"])
        if len(taken) == 1:
            raise frames.FrameError("this is another tile's")

    _, lost = run([{"n": 1}], tmp_path, 1, on_receipt=on_receipt)
    assert lost == [] and len(set(taken)) == 2


def test_another_version_is_named(tmp_path):
    body = json.dumps({"hello": {"protocol": 99, "version": "9.9.9"}}).encode()
    code = f"import sys, time; sys.stdout.buffer.write({framed(body)!r}); sys.stdout.flush(); time.sleep(60)"
    made = pool.WorkerPool([sys.executable, "-c", code])
    made.place([Slot("cpu")])
    with pytest.raises(WorkerError, match=r"9\.9\.9.*the engine 0\."):
        made.each("fault", [{"n": 1}], tmp_path, print, print, lambda: None)
    made.close()


def test_a_worker_that_grew_is_replaced_between_tasks(tmp_path):
    made = pool.WorkerPool([sys.executable, "-B", "-u", str(FAULTY)])
    made.memory_limit = 150 * 2**20
    made.place([Slot("cpu")])
    receipts, told = {}, []
    payloads = [{"n": n, "fault": "grow" if n == 2 else "", "size": 2 * 10**8} for n in range(6)]
    lost = made.each(
        "fault",
        payloads,
        tmp_path,
        lambda i, _, receipt: receipts.update({i: receipt["pid"]}),
        told.append,
        lambda: None,
    )
    made.close()
    assert lost == [] and len(receipts) == 6
    assert len(set(receipts.values())) == 2 and receipts[2] == receipts[1] != receipts[3]
    assert not any("was replaced." in event.text for event in told if getattr(event, "level", "") == "warning")


def test_a_lost_gpu_costs_the_worker_and_in_the_end_the_job(tmp_path):
    receipts, lost = run([{"n": n, "fault": "lose the device", "once": True} for n in range(2)], tmp_path)
    assert lost == [] and len(receipts) == 2
    with pytest.raises(WorkerError, match=r"GPU fails again and again: CUDA error: unspecified.*PROCESSOR to CPU"):
        run([{"n": n, "fault": "lose the device"} for n in range(9)], tmp_path)


def test_a_worker_at_rest_lets_go(tmp_path):
    made = pool.WorkerPool([sys.executable, "-B", "-u", str(FAULTY)])
    made.place([Slot("cpu")])
    made.each("keep", [{}], tmp_path, lambda *_: None, print, lambda: None)
    kept = tmp_path / "kept"
    assert wait_until(lambda: kept.exists() and kept.read_text() == "rests, gone", 10)
    made.each("square", [{"n": 3}], tmp_path, lambda *_: None, print, lambda: None)
    made.close()
