"""Jobs survive JSON unchanged; whatever is wrong with one is named."""

from __future__ import annotations

import dataclasses
import json
import typing

import pytest
from deep_raster.engine import errors, events, jobs
from hypothesis import given
from hypothesis import strategies as st

TEXT = st.text(max_size=8)


def values_of(hint):
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        return st.none() | values_of(next(one for one in inner if one is not type(None)))
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values_of(inner[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, inner))
    if origin is dict:
        return st.dictionaries(TEXT, values_of(inner[1]), max_size=2)
    if dataclasses.is_dataclass(hint):
        return jobs_of(hint)
    return {str: TEXT, int: st.integers(), bool: st.booleans(), float: st.floats(allow_nan=False)}[hint]


def jobs_of(kind):
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{name: values_of(hint) for name, hint in hints.items()})


@given(st.sampled_from(sorted(jobs.JOBS)).flatmap(lambda name: jobs_of(jobs.JOBS[name])))
def test_every_job_survives_json(job):
    assert jobs.from_dict(json.loads(json.dumps(jobs.to_dict(job)))) == job


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | TEXT, lambda one: st.lists(one) | st.dictionaries(TEXT, one))
)
def test_no_input_raises_anything_but_our_error(members):
    for name in jobs.JOBS:
        with pytest.raises(errors.JobError):
            jobs.from_dict({"job": name, "inputs": members})


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"job": "fly"}, "knows no job called “fly”"),
        ({"job": "packageinfo"}, "parameter model is missing"),
        ({"job": "packageinfo", "model": "a", "modell": "b"}, "unknown parameter modell"),
        ({"job": "packageinfo", "model": 3}, r"packageinfo\.model: str is expected"),
        ({"job": "detectobjects", "inputs": [{"path": 1}], "model": "m", "output": "o"}, r"inputs\[0\]\.path"),
        ({"job": "trainmodel", "inputs": [], "output": "", "model_type": "", "epochs": True}, "epochs: int"),
    ],
)
def test_what_is_wrong_is_named(members, says):
    with pytest.raises(errors.JobError, match=says):
        jobs.from_dict(members)


@given(st.sampled_from([errors.RasterError, errors.TrustError, errors.JobCancelled]), TEXT, TEXT, TEXT, TEXT)
def test_errors_survive_the_pipe(kind, message, stage, file, hint):
    error = kind(message, stage=stage, file=file, hint=hint)
    again = errors.from_dict(json.loads(json.dumps(error.to_dict())))
    assert type(again) is kind
    assert again.to_dict() == error.to_dict()


@pytest.mark.parametrize(
    "event",
    [
        events.Hello(1, "0.1", "3.11", 5, {"numpy": "2"}),
        events.Progress(0.5, "Zeile\n\u2028zwei"),
        events.Log("info", "x"),
        events.Metric("loss", 0.1, 3),
        events.Result({"COUNT": 3}),
        events.Failure("RasterError", "m"),
        events.Cancelled(True),
    ],
)
def test_events_are_one_line_each_and_come_back_equal(event):
    line = events.to_line(event, id=4)
    assert "\n" not in line
    members = json.loads(line)
    assert members.pop("id") == 4
    assert events.from_dict(members) == event


def test_an_event_of_a_later_version_is_passed_over():
    assert events.from_dict({"event": "hologram"}) is None
