"""Every package of the corpus gets its verdict; nothing is written outside the cache, and no payload runs."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from deep_raster.engine.errors import DeepRasterError
from deep_raster.engine.package.card import build_card, card_html, card_json
from deep_raster.engine.package.dlpk import open_package

from .corpus import CASES, DEFINITION, OK, REFUSED, Case

FORBIDDEN_TAGS = {"script", "img", "iframe", "object", "embed", "link", "a", "form", "svg", "base", "input"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attributes)


def _outside(folder: Path) -> dict[str, int]:
    """Return every path below ``folder`` but the cache, with its size."""
    found = {}
    for place, folders, files in os.walk(folder):
        if Path(place) == folder:
            folders.remove("cache")
        found.update(
            {os.path.join(place, name): os.lstat(os.path.join(place, name)).st_size for name in files + folders}
        )
    return found


def test_corpus_is_large_enough():
    counted = Counter(one.verdict == OK for one in CASES)
    assert len({one.name for one in CASES}) == len(CASES) >= 150
    assert counted[False] >= 120
    assert counted[True] >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_package_gets_its_verdict_and_harms_nothing(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("home", "cwd", "temp", "in", "cache"):
        (tmp_path / name).mkdir()
    canary = tmp_path / "canary"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    monkeypatch.setenv("CANARY", str(canary))
    monkeypatch.chdir(tmp_path / "cwd")
    path = tmp_path / "in" / f"package{case.suffix}"
    path.write_bytes(case.make())
    before, modules = _outside(tmp_path), set(sys.modules)
    start = time.process_time()
    try:
        package = open_package(path, tmp_path / "cache")
        verdict, message = OK, " ".join(package.warnings)
        page = card_html(build_card(package))
        card_json(build_card(package))
    except DeepRasterError as error:
        verdict, message, page = type(error).__name__, str(error), ""
    assert (verdict, case.says in message) == (case.verdict, True), message
    assert time.process_time() - start < 20, "work without end"
    assert _outside(tmp_path) == before
    assert not canary.exists()
    assert not {name for name in set(sys.modules) - modules if not name.startswith(("deep_raster", "encodings"))} & {
        "torch", "tensorflow", "Finder", "setup", "sitecustomize"}  # fmt: skip
    if verdict == OK:
        assert package.has_code == case.code
        _check_store(package, tmp_path / "cache")
        tags = _Tags()
        tags.feed(page)
        assert not tags.tags & FORBIDDEN_TAGS
        assert not tags.attributes & {"src", "href", "onmouseover", "onload", "action"}
    else:
        assert verdict in (REFUSED, DEFINITION)
        assert not [one for one in (tmp_path / "cache").rglob("*") if one.is_file() and one.suffix != ".seen"]
        assert "Traceback" not in message


def _check_store(package, cache: Path):
    for path in package.folder.rglob("*"):
        assert cache in path.parents
        assert not path.is_symlink()
        if path.is_file() and os.name == "posix":
            assert path.stat().st_mode & 0o7777 == 0o600
    for one in package.files:
        assert (package.folder / one.name).stat().st_size == one.size
