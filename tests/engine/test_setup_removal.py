"""Environments of earlier versions are told apart from those in use, and removed when asked."""

from __future__ import annotations

import pytest
from deep_raster.engine.errors import EnvironmentFault, JobCancelled
from deep_raster.engine.setup import locations
from deep_raster.engine.setup.removal import outdated_environments, remove_outdated


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_HOME", str(tmp_path))
    return tmp_path


def environment(home, name: str, key: str = "", *, finished: bool = True):
    """Lay out what a set-up leaves behind, with 1,000 bytes of packages."""
    folder = home / "environments" / name
    interpreter = locations.interpreter_of(folder)
    interpreter.parent.mkdir(parents=True)
    interpreter.touch()
    (folder / "lib").mkdir()
    (folder / "lib" / "numpy.so").write_bytes(b"x" * 1000)
    if finished:
        key = key or locations.key_of(locations.requirement_files(()), "3.11", "x86_64")
        locations.write_marker(folder, {"frameworks": [], "python": "3.11", "machine": "x86_64", "key": key})
    return folder


def test_only_those_of_other_requirements_are_removed(home):
    current = environment(home, "base-py311-today")
    old = environment(home, "base-py311-yesterday", "0" * 64)
    in_progress = environment(home, "onnx-py311-half", finished=False)
    foreign = home / "environments" / "notes"
    foreign.mkdir()

    (found,) = outdated_environments()
    assert found.folder == old
    marker = (old / locations.MARKER).stat().st_size
    assert found.bytes == 1000 + marker
    assert remove_outdated() == found.bytes
    assert not old.exists()
    assert all(one.exists() for one in (current, in_progress, foreign))
    assert [folder for folder, _ in locations.finished_environments()] == [current]
    assert remove_outdated() == 0


def test_cancelled_before_the_first(home):
    old = environment(home, "base-py311-yesterday", "0" * 64)
    with pytest.raises(JobCancelled):
        remove_outdated(is_cancelled=lambda: True)
    assert old.exists()


def test_what_cannot_be_removed_is_named_and_no_environment_any_more(home, monkeypatch):
    old = environment(home, "base-py311-yesterday", "0" * 64)

    def busy(path):
        raise PermissionError(13, "The process cannot access the file", str(path))

    monkeypatch.setattr("shutil.rmtree", busy)
    with pytest.raises(EnvironmentFault, match=r"base-py311-yesterday cannot be removed.*cannot access"):
        remove_outdated()
    assert not (old / locations.MARKER).exists()
    assert outdated_environments() == []
