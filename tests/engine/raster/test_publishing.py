"""Final names: all outputs or none, whatever stands in the way and whenever the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from deep_raster.engine.errors import OutputError
from deep_raster.engine.raster import publishing

ROOT = Path(__file__).resolve().parents[3]


def parts(folder, names):
    """Write a complete part file for each name; return the pairs."""
    pairs = [(publishing.part_path(folder / name), folder / name) for name in names]
    for part, target in pairs:
        part.write_text(f"new {target.name}")
    return pairs


def content(folder):
    """Return name -> content of all files, "folder" for folders."""
    return {one.name: "folder" if one.is_dir() else one.read_text() for one in folder.iterdir()}


NAMES = ("a.tif", "b.tif", "c.gpkg")


@pytest.mark.parametrize("old", [(), ("a.tif",), NAMES])
def test_all_get_their_names(tmp_path, old):
    for name in (*old, "c.gpkg-wal"):
        (tmp_path / name).write_text("old")
    note = tmp_path / "note"
    with publishing.Publication(note) as outputs:
        outputs.add(parts(tmp_path, NAMES), [tmp_path / "c.gpkg-wal", tmp_path / "nothing.ovr"])
        assert outputs.place_of(tmp_path / "b.tif").read_text() == "new b.tif"
        outputs.publish()
        assert outputs.place_of(tmp_path / "b.tif") == tmp_path / "b.tif"
    assert content(tmp_path) == {name: f"new {name}" for name in NAMES}


@pytest.mark.parametrize("last", [0, 1, 2])
@pytest.mark.parametrize("old", [(), NAMES])
def test_what_stands_in_the_way_of_one_leaves_all_as_they_were(tmp_path, last, old):
    """A folder in the place of an output is a real refusal that no rights can overcome."""
    for name in (*old, "a.tif.ovr"):
        (tmp_path / name).write_text("old")
    hurdle = tmp_path / NAMES[last]
    hurdle.unlink(missing_ok=True)
    hurdle.mkdir()
    (hurdle / "mine").touch()
    before = content(tmp_path)
    with publishing.Publication(tmp_path / "note") as outputs:
        outputs.add(parts(tmp_path, NAMES), [tmp_path / "a.tif.ovr"])
        with pytest.raises(OutputError, match="All outputs are as they were before") as caught:
            outputs.publish()
        assert caught.value.file == str(hurdle)
    assert content(tmp_path) == before and (hurdle / "mine").exists()


def test_without_publishing_nothing_stays(tmp_path):
    with publishing.Publication() as outputs:
        outputs.add(parts(tmp_path, NAMES))
    assert content(tmp_path) == {}


def publish_and_die(folder, step, disk):
    """Publish in a child that is killed before its ``step``-th rename; return whether it came to the end."""
    child = os.fork()
    if child == 0:
        try:
            real, calls = os.replace, []

            def replace(*names):
                calls.append(names)
                if len(calls) > step:
                    os.kill(os.getpid(), signal.SIGKILL)
                real(*names)

            def refuse(*names, **_):
                raise PermissionError(1, "no second names here")

            os.replace = replace
            if disk == "bare":
                os.link = refuse
            with publishing.Publication(folder / "note") as outputs:
                files = [(publishing.part_path(folder / name), folder / name) for name in NAMES]
                outputs.add(files, [folder / "a.tif.ovr"])
                outputs.publish()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0


@pytest.mark.parametrize("disk", ["links", "bare"])
@pytest.mark.parametrize("old", [(), ("a.tif", "a.tif.ovr"), NAMES])
def test_a_kill_between_two_renames_can_be_taken_back(tmp_path, old, disk):
    """At whichever step: afterwards the outputs are as before, or all are new; taking back twice does no harm."""
    whole = 0
    for step in range(9):
        folder = tmp_path / str(step)
        folder.mkdir()
        for name in old:
            (folder / name).write_text("old")
        before = content(folder)
        pairs = parts(folder, NAMES)
        done = publish_and_die(folder, step, disk)
        assert publishing.take_back_noted(folder / "note") == []
        assert publishing.take_back_noted(folder / "note") == []
        left = publishing.part_files(folder / name for name in NAMES)
        assert set(left) <= {part for part, _ in pairs}
        publishing.discard(*left)
        after = content(folder)
        assert after == ({name: f"new {name}" for name in NAMES} if done else before)
        whole += done
    assert 0 < whole < 9


def test_part_files_of_others_are_not_taken(tmp_path):
    mine = [".a.part.tif", ".a.flat.tif", ".a.part.tif.aux.xml", ".a.tif.aux.part.xml", ".a.part.gpkg-journal"]
    others = [
        ".aa.part.tif",
        ".a.part.tiff",
        ".a.b.part.tif",
        "a.part.tif",
        ".b.part.gpkg",
        ".a.old.tif",
        ".a.parts.tif",
    ]
    for name in (*mine, *others):
        (tmp_path / name).touch()
    (tmp_path / ".a.part.shp").mkdir()
    found = publishing.part_files([tmp_path / "a.tif"])
    assert sorted(one.name for one in found) == sorted(mine)


# Publishes the files argv[3:] of the folder argv[2] and prints what it is told.
PUBLISH = """
import sys
sys.path.insert(0, sys.argv[1] + "/tests")
import conftest
from pathlib import Path
from deep_raster.engine.raster import publishing
folder = Path(sys.argv[2])
with publishing.Publication() as outputs:
    outputs.add([(publishing.part_path(folder / name), folder / name) for name in sys.argv[3:]])
    try:
        outputs.publish()
    except publishing.OutputError as error:
        print(error)
"""


def test_another_users_file_in_a_folder_that_protects_it_is_refused_at_once():
    """The system's own refusal, without the patience that is for virus scanners, and without blaming a program."""
    if os.geteuid() != 0:
        pytest.skip("needs two users")
    if not all(one.stat().st_mode & 0o001 for one in (ROOT, *ROOT.parents)):
        pytest.skip("the checkout is closed to other users")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chmod(folder, 0o1777)
        (folder / "b.tif").write_text("old")
        for part, _ in parts(folder, ("a.tif", "b.tif")):
            os.chown(part, 65534, 65534)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-B", "-c", PUBLISH,
             str(ROOT), name, "a.tif", "b.tif"], capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert "not permitted" in done.stdout and "as they were before" in done.stdout, done.stdout + done.stderr
        assert content(folder) == {"b.tif": "old"}
