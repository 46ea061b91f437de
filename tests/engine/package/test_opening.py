"""Opening packages: the cache, two jobs at a time, definitions with their folder, JSON text, and memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path

import pytest
from deep_raster.engine.errors import DefinitionError, PackageError
from deep_raster.engine.package.archive import Limits
from deep_raster.engine.package.dlpk import open_package
from deep_raster.engine.package.peek import peek_definition

from .corpus_base import CUSTOM, MODEL, WEIGHTS, emd, good
from .zips import Item, build

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def dlpk(tmp_path):
    path = tmp_path / "tree.dlpk"
    path.write_bytes(build(good(Item("ModelCharacteristics/loss_graph.png", b"\x89PNG"))))
    return path


def folder_package(folder: Path, **changes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.pth").write_bytes(WEIGHTS)
    (folder / "tree.emd").write_bytes(emd(**changes))
    return folder / "tree.emd"


def test_identity_is_the_sum_of_names_sizes_and_contents(dlpk, cache):
    package = open_package(dlpk, cache)
    files = {"tree.emd": emd(), "net.pth": WEIGHTS, "ModelCharacteristics/loss_graph.png": b"\x89PNG"}
    lines = [f"{name}\0{len(data)}\0{hashlib.sha256(data).hexdigest()}\n" for name, data in sorted(files.items())]
    assert package.digest == "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
    assert {one.name: one.size for one in package.files} == {name: len(data) for name, data in files.items()}
    assert package.folder.parent.name == package.digest[7:]


def test_identity_is_not_about_packing(tmp_path, cache):
    digests = set()
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / f"{method}.dlpk"
        with zipfile.ZipFile(path, "w", method) as archive:
            archive.writestr("net.pth" if method else "tree.emd", WEIGHTS if method else emd())
            archive.writestr("tree.emd" if method else "net.pth", emd() if method else WEIGHTS)
        digests.add(open_package(path, cache).digest)
    assert len(digests) == 1


def test_unpacked_once(dlpk, cache):
    first = open_package(dlpk, cache)
    stamp = (first.folder / "net.pth").stat().st_mtime_ns
    other = dlpk.with_name("copy.zip")
    shutil.copy(dlpk, other)
    again = open_package(other, cache)
    assert again.folder == first.folder
    assert (again.folder / "net.pth").stat().st_mtime_ns == stamp
    assert not list(cache.glob(".part*"))


def test_second_opening_does_not_read_the_archive(dlpk, cache, monkeypatch):
    old = time.time() - 60
    os.utime(dlpk, (old, old))
    monkeypatch.setattr("deep_raster.engine.package.store._SETTLED_NS", 0)
    first = open_package(dlpk, cache)
    monkeypatch.setattr("deep_raster.engine.package.opening.Archive", None)
    assert open_package(dlpk, cache) == first


def test_changed_archive_is_another_package(dlpk, cache):
    first = open_package(dlpk, cache)
    state = dlpk.stat()
    dlpk.write_bytes(build(good(Item("ModelCharacteristics/loss_graph.png", b"\x89PNH"))))
    os.utime(dlpk, ns=(state.st_atime_ns, state.st_mtime_ns))
    second = open_package(dlpk, cache)
    assert dlpk.stat().st_size == state.st_size
    assert second.digest != first.digest
    assert second.read("ModelCharacteristics/loss_graph.png") == b"\x89PNH"


@pytest.mark.parametrize("harm", ["removed", "cut", "index"])
def test_damaged_cache_is_filled_anew(dlpk, cache, harm):
    package = open_package(dlpk, cache)
    if harm == "removed":
        (package.folder / "net.pth").unlink()
    elif harm == "cut":
        os.truncate(package.folder / "net.pth", 3)
    else:
        (package.folder.parent / "index.json").write_text("{")
    again = open_package(dlpk, cache)
    assert again.read("net.pth") == WEIGHTS


def test_read_notices_a_change(dlpk, cache):
    package = open_package(dlpk, cache)
    (package.folder / "net.pth").write_bytes(b"!" * len(WEIGHTS))
    with pytest.raises(PackageError, match="changed"):
        package.read("net.pth")


def test_files_are_looked_up_never_joined(dlpk, cache):
    package = open_package(dlpk, cache)
    assert package.file(".\\NET.pth") == package.folder / "net.pth"
    assert package.file("ModelCharacteristics") == package.folder / "ModelCharacteristics"
    for name in ("../tree.dlpk", "/etc/passwd", "", ".", "index.json", "net.pth/..", "~/x", "no.pth"):
        with pytest.raises(PackageError):
            package.file(name)


def test_two_jobs_open_one_package_at_a_time(tmp_path, cache):
    path = tmp_path / "big.dlpk"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tree.emd", emd())
        archive.writestr("net.pth", os.urandom(1 << 20) * 24)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import conftest\n"
        "from pathlib import Path; import zlib\n"
        "from deep_raster.engine.package.dlpk import open_package\n"
        "package = open_package(sys.argv[2], Path(sys.argv[3]))\n"
        "print(package.digest, zlib.crc32(package.read('net.pth')))\n"
    )
    command = [sys.executable, "-c", program, str(TESTS), str(path), str(cache)]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {job.communicate(timeout=60)[0] for job in jobs}
    assert len(answers) == 1
    with zipfile.ZipFile(path) as archive:
        assert answers.pop().split()[1] == str(zlib.crc32(archive.read("net.pth")))
    assert len([one for one in cache.iterdir() if one.is_dir()]) == 1


def test_unpacked_size_is_compared_with_the_disk(dlpk, cache, monkeypatch):
    monkeypatch.setattr("deep_raster.engine.package.store.PackageStore.free_bytes", lambda self: 100)
    with pytest.raises(PackageError, match="disk of the cache"):
        open_package(dlpk, cache)


def test_limits_are_settings(dlpk, cache):
    with pytest.raises(PackageError, match="entries"):
        open_package(dlpk, cache, Limits(entries=2))
    with pytest.raises(PackageError, match="limit of 10"):
        open_package(dlpk, cache, Limits(total=10))


def test_missing_package_is_one_sentence(tmp_path, cache):
    for place in ("no.dlpk", "a\0b.dlpk", "x" * 5_000 + ".dlpk"):
        with pytest.raises(PackageError):
            open_package(place, cache)
    with pytest.raises(PackageError, match="exactly one model definition"):
        open_package(tmp_path, cache)


def test_peek_reads_the_definition_alone(dlpk, cache):
    assert peek_definition(dlpk) == open_package(dlpk, cache).definition == peek_definition(json.dumps(MODEL))


# --- definitions on disk -----------------------------------------------------------------------------------------


def test_definition_with_its_folder(tmp_path, cache):
    path = folder_package(tmp_path / "model")
    (path.parent / "ModelCharacteristics").mkdir()
    (path.parent / "ModelCharacteristics" / "loss_graph.png").write_bytes(b"\x89PNG")
    (path.parent / "old.dlpk").write_bytes(b"PK")
    (path.parent / "other.emd").write_bytes(b"{}")
    (path.parent / ".hidden").write_bytes(b"x")
    package = open_package(path, cache)
    assert [one.name for one in package.files] == ["ModelCharacteristics/loss_graph.png", "net.pth", "tree.emd"]
    assert package.folder == path.parent
    assert package.file("net.pth") == path.parent / "net.pth"
    assert not cache.exists()


def test_data_of_the_weights_belongs_to_them(tmp_path, cache):
    path = folder_package(tmp_path / "onnx", Framework="ONNX", ModelFile="net.onnx")
    for name in ("net.onnx", "net.onnx.data", "tensors.bin", "other.txt"):
        (path.parent / name).write_bytes(b"x")
    names = [one.name for one in open_package(path, cache).files]
    assert names == ["net.onnx", "net.onnx.data", "tensors.bin", "tree.emd"]
    saved = {"Framework": "TensorFlow", "ModelConfiguration": "ObjectDetectionAPI", "ModelFile": "saved/saved_model.pb"}
    path = folder_package(tmp_path / "saved", **saved)
    (path.parent / "saved" / "variables").mkdir(parents=True)
    (path.parent / "saved" / "saved_model.pb").write_bytes(b"x")
    (path.parent / "saved" / "variables" / "variables.index").write_bytes(b"x")
    names = [one.name for one in open_package(path, cache).files]
    assert names == ["saved/saved_model.pb", "saved/variables/variables.index", "tree.emd"]


def test_too_many_files_beside_code(tmp_path, cache, monkeypatch):
    monkeypatch.setattr("deep_raster.engine.package.opening.MAX_FOLDER_FILES", 3)
    (tmp_path / "a.emd").write_text(json.dumps(CUSTOM))
    for name in ("Finder.py", "b.txt", "c.txt", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(PackageError, match="folder of their own"):
        open_package(tmp_path / "a.emd", cache)


def test_folder_and_archive_are_the_same_package(tmp_path, cache, dlpk):
    path = folder_package(tmp_path / "model")
    (path.parent / "ModelCharacteristics").mkdir()
    (path.parent / "ModelCharacteristics" / "loss_graph.png").write_bytes(b"\x89PNG")
    assert open_package(path, cache).digest == open_package(dlpk, cache).digest
    (path.parent / "other.emd").write_bytes(b"{}")
    with pytest.raises(PackageError, match="exactly one"):
        open_package(path.parent, cache)


@pytest.mark.skipif(os.name != "posix", reason="links as POSIX has them")
def test_links_beside_a_definition_are_left_out(tmp_path, cache):
    path = folder_package(tmp_path / "model", ModelFile="net.pth")
    (tmp_path / "secret").write_text("s")
    (path.parent / "evil.pth").symlink_to(tmp_path / "secret")
    (path.parent / "up").symlink_to(tmp_path)
    os.mkfifo(path.parent / "pipe")
    package = open_package(path, cache)
    assert [one.name for one in package.files] == ["net.pth", "tree.emd"]
    assert sum("left out" in one for one in package.warnings) == 3
    (path.parent / "net.pth").unlink()
    (path.parent / "net.pth").symlink_to(tmp_path / "secret")
    with pytest.raises(PackageError, match="ModelFile"):
        open_package(path, cache)


def test_absolute_path_of_this_computer(tmp_path, cache):
    weights = tmp_path / "elsewhere" / "far.pth"
    weights.parent.mkdir()
    weights.write_bytes(b"far")
    path = folder_package(tmp_path / "model", ModelFile=str(weights))
    package = open_package(path, cache)
    assert package.file(package.definition.model_file) == weights
    assert package.read(package.definition.model_file) == b"far"
    weights.write_bytes(b"changed")
    assert open_package(path, cache).digest != package.digest


def test_json_text_with_absolute_weights(tmp_path, cache):
    weights = tmp_path / "net.pth"
    weights.write_bytes(WEIGHTS)
    package = open_package(json.dumps({**MODEL, "ModelFile": str(weights)}), cache)
    assert package.file(package.definition.model_file) == weights
    weights.write_bytes(b"x")
    assert open_package(json.dumps({**MODEL, "ModelFile": str(weights)}), cache).digest != package.digest


def test_json_text_without_a_place_is_refused(cache, tmp_path):
    with pytest.raises(PackageError, match="absolute path"):
        open_package(json.dumps(MODEL), cache)
    with pytest.raises(PackageError, match="absolute path"):
        open_package(json.dumps({**MODEL, "ModelFile": "//server/share/net.pth"}), cache)
    (tmp_path / "n.pth").write_bytes(b"x")
    with pytest.raises(PackageError, match="own Python code"):
        open_package(json.dumps({**CUSTOM, "ModelFile": str(tmp_path / "n.pth")}), cache)
    with pytest.raises(DefinitionError):
        open_package("{", cache)


# --- memory ------------------------------------------------------------------------------------------------------

MEASURE = """
import re, sys
sys.path.insert(0, sys.argv[1]); import conftest
from pathlib import Path
from deep_raster.engine.package.dlpk import open_package
def memory(key):
    return int(re.search(key + r":\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
idle = memory("VmRSS")
package = open_package(sys.argv[2], Path(sys.argv[3]))
print(memory("VmHWM") - idle, package.file("net.pth").stat().st_size)
"""


def zeros_package(path: Path, size: int):
    """Write a stored package with a sparse file of ``size`` zeros, without holding them."""
    crc = 0
    for _ in range(size >> 20):
        crc = zlib.crc32(bytes(1 << 20), crc)
    large = Item("net.pth", b"", local={"size": size, "compressed": size, "crc": crc})
    large.central = dict(large.local)
    definition = Item("tree.emd", emd())
    head = build([definition, Item("net.pth", b"", local=large.local, listed=False)], end={"count": 1, "here": 1})
    start = len(build([definition])) - len(build([definition])[build([definition]).index(b"PK\1\2") :])
    header = head[start : head.index(b"PK\1\2")]
    shifted = build([definition, large], shift=0)
    directory = shifted[shifted.index(b"PK\1\2") : shifted.index(b"PK\5\6")]
    offset = start + len(header) + size
    end = shifted[shifted.index(b"PK\5\6") :]
    end = end[:16] + offset.to_bytes(4, "little") + end[20:]
    with path.open("wb") as file:
        file.write(shifted[:start] + header)
        file.seek(offset)
        file.write(directory + end)


def growth(tmp_path: Path, size: int) -> tuple[int, int]:
    """Return kilobytes that opening a package of ``size`` bytes takes beyond an idle process, and what was unpacked."""
    path = tmp_path / "zeros.dlpk"
    zeros_package(path, size)
    command = [sys.executable, "-c", MEASURE, str(TESTS), str(path), str(tmp_path / "cache")]
    grown, unpacked = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    shutil.rmtree(tmp_path / "cache")
    return int(grown), int(unpacked)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")
def test_memory_does_not_depend_on_size(tmp_path):
    size = 200 << 20
    grown, unpacked = growth(tmp_path, size)
    assert unpacked == size
    assert grown < 30_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux tells it")
def test_memory_of_two_gigabytes(tmp_path):
    size = 2 << 30
    if shutil.disk_usage(tmp_path).free < 3 * size:
        pytest.skip("the disk has no room for an unpacked package of 2 GiB")
    grown, unpacked = growth(tmp_path, size)
    assert unpacked == size
    assert grown < 100_000
