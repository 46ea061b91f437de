"""The tolerant JSON parser: equal to the standard one on strict JSON, forgiving on known slips, bounded on the rest."""

from __future__ import annotations

import json

import pytest
from deep_raster.engine.errors import DefinitionError
from deep_raster.engine.package import lenient
from hypothesis import given, settings
from hypothesis import strategies as st

from .definitions import read_or_refuse


def write_and_parse(value):
    return json.loads(json.dumps(value))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(VALUES, st.booleans(), st.sampled_from([None, 2, "\t"]))
def test_strict_json_is_read_as_by_the_standard_parser(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    parsed = lenient.parse(text)
    assert parsed.value == json.loads(text) == value
    assert parsed.mended == ()


@settings(max_examples=150, deadline=None)
@given(st.text() | st.text(alphabet="{}[]\":,\\ntfu0123456789.-eE /*#'aN", max_size=60))
def test_any_text_is_read_or_refused(text):
    parsed = read_or_refuse(lenient.parse, text)
    assert parsed is None or write_and_parse(parsed.value) == parsed.value


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_decode(data):
    text, notes = lenient.decode(data)
    assert isinstance(text, str)
    assert isinstance(notes, tuple)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1 "b": 2}', {"a": 1, "b": 2}),
        ('{"a": [1 2, 3] "b": {"c": 1}}', {"a": [1, 2, 3], "b": {"c": 1}}),
        ("[1, 2,]", [1, 2]),
        ('{"a": 1,}', {"a": 1}),
        ("[1,, 2]", [1, 2]),
        ('[{"a": 1} {"a": 2}]', [{"a": 1}, {"a": 2}]),
        (r'{"p": ".\model.pb"}', {"p": r".\model.pb"}),
        (r'{"p": "C:\models\new\tree.pb"}', {"p": r"C:\models\new\tree.pb"}),
        (r'{"p": "C:\users\x"}', {"p": r"C:\users\x"}),
        (r'{"p": "C:\\models\\new"}', {"p": r"C:\models\new"}),
        ('{"a": NaN, "b": -Infinity, "c": 1e999}', {"a": None, "b": None, "c": None}),
        ('{"a": True, "b": None}', {"a": True, "b": None}),
        ('{"a": 1} // end', {"a": 1}),
        ('{/* one */ "a": 1 # two\n}', {"a": 1}),
        ('"\\ud83d\\ude00 \\ud800"', "😀 \ufffd"),
        ('"line\nbreak\ttab"', "line\nbreak\ttab"),
        ("[+1, .5, 5., 1E3]", [1, 0.5, 5.0, 1000.0]),
    ],
)
def test_slips_are_mended(text, value):
    assert lenient.parse(text).value == value


def test_mended_places_are_named():
    parsed = lenient.parse('{"a": 1,\n"b": 2\n"c": [3,]}')
    assert [one.split(":")[0] for one in parsed.mended] == ["Line 3", "Line 3"]
    assert "missing comma" in parsed.mended[0]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"a"', '{"a":', '{"a": 1', "[1", '"abc', "{a: 1}", "{'a': 1}", "nul", "[1}", '{"a": 1]', "1 2", "\\"],
)
def test_guesswork_is_refused(text):
    with pytest.raises(DefinitionError):
        lenient.parse(text)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_unicode_encodings(encoding):
    text, _ = lenient.decode('{"Name": "Bäume 木"}'.encode(encoding))
    assert lenient.parse(text).value == {"Name": "Bäume 木"}


def test_windows_encoding_is_told():
    text, notes = lenient.decode('{"Name": "Bäume"}'.encode("cp1252"))
    assert lenient.parse(text).value == {"Name": "Bäume"}
    assert "Windows-1252" in notes[0]


def test_clip_makes_one_harmless_line():
    assert lenient.clip("a\nb\x1b[2J\u202ec" + "x" * 100, 20) == "a b [2J cxxxxxxxxxx…"
