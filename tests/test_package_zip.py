"""The zip that is published: what goes in, what must not, and that the checks see each offence."""

from __future__ import annotations

import hashlib
import importlib
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
METADATA = """[general]
name=Deep Raster
description=one line
about=more lines
version=0.1.0
author=Someone
email=someone@example.org
qgisMinimumVersion=3.22
repository=https://example.org
tracker=https://example.org
homepage=https://example.org
hasProcessingProvider=yes
icon=icon.png
"""


@pytest.fixture(scope="module")
def packaging():
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        yield importlib.import_module("packaging_zip")
    finally:
        sys.path.remove(str(ROOT / "tools"))


@pytest.fixture
def write_zip(tmp_path):
    """Write a zip of a complete plugin, with members added (text) or taken away (None)."""

    def write(changes: dict[str, str | None] | None = None) -> Path:
        members: dict[str, str | None] = {
            "deep_raster/metadata.txt": METADATA,
            "deep_raster/__init__.py": "",
            "deep_raster/LICENSE": "GPL",
            "deep_raster/icon.png": "",
        }
        members.update(changes or {})
        path = tmp_path / "deep_raster-0.1.0.zip"
        with zipfile.ZipFile(path, "w") as stream:
            for name, text in members.items():
                if text is not None:
                    stream.writestr(name, text)
        return path

    return write


@pytest.fixture(scope="module")
def built(packaging, tmp_path_factory):
    problems: list[str] = []
    packaging.BUILD = tmp_path_factory.mktemp("build")
    archive = packaging.build(problems)
    assert problems == []
    return archive


def test_the_checkout_gives_a_fit_zip(packaging, built):
    assert packaging.check_archive(built) == []
    assert built.stat().st_size < 25 * 1024 * 1024


def test_all_that_is_needed_and_nothing_else_is_shipped(built):
    with zipfile.ZipFile(built) as stream:
        names = set(stream.namelist())
    assert {name.split("/")[0] for name in names} == {"deep_raster"}
    for needed in ("metadata.txt", "LICENSE", "README.md", "CHANGELOG.md", "engine/launch.py", "engine/__main__.py"):
        assert f"deep_raster/{needed}" in names
    for one in (ROOT / "engine" / "requirements").glob("*.txt"):
        assert f"deep_raster/engine/requirements/{one.name}" in names
    assert any(name.startswith("deep_raster/processing_provider/icons/") for name in names)
    tops = {name.split("/")[1] for name in names if name.count("/") > 1}
    assert tops <= {"plugin", "processing_provider", "engine", "i18n"}


def test_every_translation_is_shipped_compiled(built):
    sources = sorted(one.stem for one in (ROOT / "i18n").glob("*.ts"))
    with zipfile.ZipFile(built) as stream:
        compiled = sorted(Path(one).stem for one in stream.namelist() if one.endswith(".qm"))
        for name in stream.namelist():
            if name.endswith(".qm"):
                assert stream.read(name).startswith(bytes.fromhex("3cb86418caef9c95"))  # the format's magic number
    assert compiled == sources


def test_the_same_sources_give_the_same_bytes(packaging, built):
    first = hashlib.sha256(built.read_bytes()).hexdigest()
    again = packaging.build([])
    assert hashlib.sha256(again.read_bytes()).hexdigest() == first


def test_a_complete_zip_is_fit(packaging, write_zip):
    assert packaging.check_archive(write_zip()) == []


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"deep_raster/LICENSE": None}, "LICENSE is missing"),
        ({"deep_raster/metadata.txt": None}, "metadata.txt is missing"),
        ({"other/x.py": ""}, "2 top folders"),
        ({"deep_raster/engine/__pycache__/x.pyc": ""}, "must not be shipped"),
        ({"deep_raster/.git/config": ""}, "must not be shipped"),
        ({"deep_raster/tests/test_x.py": ""}, "must not be shipped"),
        ({"deep_raster/tools/x.sh": ""}, "must not be shipped"),
        ({"deep_raster/engine/fast.so": ""}, "must not be shipped"),
        ({"deep_raster/resources_rc.py": ""}, "must not be shipped"),
        ({"deep_raster/ui_dialog.py": ""}, "must not be shipped"),
        ({"deep_raster/../x.py": ""}, "not a name the site accepts"),
        ({"deep_raster/icon.png": None}, "icon icon.png is not in the zip"),
        ({"deep_raster/metadata.txt": METADATA.replace("about=more lines\n", "")}, "lacks about"),
        ({"deep_raster/metadata.txt": METADATA.replace("more lines", "<b>more</b>")}, "holds HTML"),
        ({"deep_raster/metadata.txt": METADATA.replace("Deep Raster", "Deep Raster Plugin")}, "the word plugin"),
        ({"deep_raster/metadata.txt": METADATA.replace("=Someone", "=A/B")}, "slash"),
        ({"deep_raster/metadata.txt": METADATA + "supportsQt6=True\n"}, "supportsQt6"),
        ({"deep_raster/metadata.txt": METADATA.replace("Provider=yes", "Provider=no")}, "must be yes"),
        ({"deep_raster/metadata.txt": METADATA.replace("version=0.1.0", "version=9.9.9")}, "says version"),
    ],
)
def test_offences_are_found(packaging, write_zip, members, told):
    problems = packaging.check_archive(write_zip(members))
    assert any(told in one for one in problems), problems


def test_a_large_zip_is_refused(packaging, write_zip, monkeypatch):
    monkeypatch.setattr(packaging, "LIMIT", 100)
    assert any("larger than 25 MB" in one for one in packaging.check_archive(write_zip()))


def test_the_real_metadata_is_for_qgis_3_and_4(packaging):
    metadata = packaging.read_metadata(ROOT / "metadata.txt")
    assert metadata["qgisMinimumVersion"] == "3.22"
    assert metadata["qgisMaximumVersion"] == "4.99"
    assert metadata["hasProcessingProvider"] == "yes"
