"""Environments are found, checked and made; what goes wrong is told so that a person can act on it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from deep_raster.engine import environment
from deep_raster.engine.environment import check_environment, create_environment, find_environment
from deep_raster.engine.errors import EnvironmentFault, JobCancelled
from deep_raster.engine.setup import check, child, create, locations
from processes import processes_with, wait_until

ROOT = Path(__file__).resolve().parent.parent.parent
FAKES = {
    "numpy": "2.1.0",
    "rasterio": "1.4.3",
    "pyogrio": "0.10.0",
    "shapely": "2.0.6",
    "defusedxml": "0.7.1",
    "pillow": "11.3.0",
    "safetensors": "0.5.0",
    "isal": "1.7.0",
}
MODULES = {"pillow": "PIL"}


def wheel(folder: Path, name: str, version: str, body: str = "", requires: str = "") -> None:
    """Write a wheel of one module, by the format's specification (PEP 427)."""
    module = MODULES.get(name, name.replace("-", "_"))
    info = f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + (
        f"Requires-Dist: {requires}\n" if requires else ""
    )
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-{version}-py3-none-any.whl", "w") as stream:
        stream.writestr(f"{module}/__init__.py", body)
        stream.writestr(f"{info}/METADATA", metadata)
        stream.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        stream.writestr(
            f"{info}/RECORD", f"{module}/__init__.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name, version in FAKES.items():
        wheel(folder, name, version)
    return folder


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEP_RASTER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DEEP_RASTER_PYTHON", raising=False)
    return tmp_path / "home"


@pytest.fixture(scope="module")
def fake_environments(tmp_path_factory):
    """Build environments with fake packages of chosen versions, one folder of metadata each."""

    def build(versions: dict[str, str], bodies: dict[str, str] | None = None) -> str:
        folder = tmp_path_factory.mktemp("venv")
        subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)], check=True)
        python = locations.interpreter_of(folder)
        site = next(folder.glob("lib/python3.*/site-packages"))
        for name, version in versions.items():
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            module = site / MODULES.get(name, name.replace("-", "_"))
            module.mkdir()
            (module / "__init__.py").write_text((bodies or {}).get(name, ""))
        return str(python)

    return build


class TestCheck:
    def test_complete_environment_tells_its_frameworks_and_versions(self, fake_environments):
        python = fake_environments({**FAKES, "onnx": "1.21.0", "onnxruntime": "1.22.0"})
        found = check_environment(python, ["onnx"])
        assert found.frameworks == ("onnx",)
        assert found.versions["numpy"] == "2.1.0"
        assert found.versions["python"] == "{}.{}.{}".format(*sys.version_info)
        assert found.python == python
        assert found.root == Path(python).parent.parent

    def test_missing_parts_are_named(self, fake_environments):
        versions = {name: version for name, version in FAKES.items() if name not in ("rasterio", "pillow")}
        with pytest.raises(EnvironmentFault, match=r"lacks parts of the engine: rasterio, pillow\..*setupenvironment"):
            check_environment(fake_environments(versions))

    def test_a_framework_that_is_asked_for_is_missing(self, fake_environments):
        with pytest.raises(EnvironmentFault, match="lacks the parts for pytorch: torch, torchvision"):
            check_environment(fake_environments(FAKES), ["pytorch"])

    @pytest.mark.parametrize(
        ("package", "old", "good", "told"),
        [
            ("torch", "2.9.1", "2.10.0+cpu", "CVE-2026-24747"),
            ("torch", "2.5.1+cu121", "2.10", "CVE-2025-32434"),
            ("keras", "3.13.1", "3.13.2", "CVE-2026-1669"),
            ("onnx", "1.20.1", "1.21.0rc1", "CVE-2026-34446"),
            ("distributed", "2021.9.1", "2021.10.0", "CVE-2021-42343"),
        ],
    )
    def test_below_a_floor_is_refused_with_the_hole_named(self, fake_environments, package, old, good, told):
        with pytest.raises(EnvironmentFault, match=f"{package} .*{told}") as raised:
            check_environment(fake_environments({**FAKES, package: old}))
        assert old in str(raised.value)
        assert raised.value.hint
        assert check_environment(fake_environments({**FAKES, package: good})).versions[package] == good

    def test_floors_are_those_of_the_requirement_files(self):
        """What pip may install is never below what the check accepts."""
        for floor in check.FLOORS:
            lines = [
                line
                for one in locations.REQUIREMENTS.glob("*.txt")
                for line in locations.requirement_lines([one])
                if line.startswith(f"{floor.package}>")
            ]
            assert lines, floor.package
            lowest = lines[0].split(">=")[1].split(",")[0]
            assert check._numbers(lowest) >= check._numbers(floor.version), lines

    def test_every_part_is_in_the_requirement_file_of_its_framework(self):
        for framework, parts in check.PARTS.items():
            lines = locations.requirement_lines([locations.REQUIREMENTS / f"{framework or 'base'}.txt"])
            for name, _module in parts:
                assert any(line.startswith(f"{name}>=") for line in lines), name

    def test_a_package_that_does_not_import_is_told_with_its_reason(self, fake_environments):
        body = "raise RuntimeError('operator torchvision::nms does not exist')"
        python = fake_environments(FAKES, {"rasterio": body})
        assert check_environment(python).versions["rasterio"] == "1.4.3"
        with pytest.raises(
            EnvironmentFault, match=r"do not import: rasterio \(RuntimeError: operator torchvision::nms"
        ):
            check_environment(python, imports=True)

    def test_another_name_of_a_framework_counts(self, fake_environments):
        versions = {**FAKES, "tensorflow-cpu": "2.21.0", "keras": "3.15.1", "tf_keras": "2.21.0", "h5py": "3.14.0"}
        assert check_environment(fake_environments(versions), ["tensorflow"]).versions["tensorflow"] == "2.21.0"

    def test_an_interpreter_that_is_missing_is_told(self, tmp_path):
        with pytest.raises(EnvironmentFault, match="does not start"):
            check_environment(str(tmp_path / "python3"))

    def test_something_else_than_an_interpreter(self):
        with pytest.raises(EnvironmentFault, match="did not answer as a Python interpreter"):
            check_environment("/bin/echo")

    def test_an_unknown_framework(self):
        with pytest.raises(EnvironmentFault, match=r"“caffe”.*onnx"):
            check_environment(sys.executable, ["caffe"])

    @pytest.mark.parametrize(
        ("text", "numbers"),
        [
            ("2.13.0+cpu", (2, 13)),
            ("2.10rc1", (2, 10)),
            ("2021.10.0", (2021, 10)),
            ("1.4.3.post1", (1, 4, 3)),
            ("", ()),
        ],
    )
    def test_numbers_of_versions(self, text, numbers):
        assert check._numbers(text) == numbers


def test_a_poisoned_parent_does_not_reach_the_child(fake_environments, monkeypatch, tmp_path):
    """PYTHONEXECUTABLE takes a venv's Python out of its venv, even with -I."""
    python = fake_environments(FAKES)
    monkeypatch.setenv("PYTHONEXECUTABLE", "/usr/bin/python3")
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert check_environment(python).root == Path(python).parent.parent


class TestFind:
    def test_without_any_environment_the_next_step_is_told(self):
        with pytest.raises(EnvironmentFault, match=r"no Python environment with onnx yet.*setupenvironment"):
            find_environment(["onnx"])

    def test_order_variable_then_setting(self, fake_environments, monkeypatch):
        one, other = fake_environments(FAKES), fake_environments({**FAKES, "numpy": "2.2.0"})
        assert find_environment(setting=one).python == one
        monkeypatch.setenv("DEEP_RASTER_PYTHON", other)
        assert find_environment(setting=one).versions["numpy"] == "2.2.0"

    def test_a_named_interpreter_is_never_passed_over(self, fake_environments, monkeypatch):
        monkeypatch.setenv("DEEP_RASTER_PYTHON", "/nowhere/python3")
        with pytest.raises(EnvironmentFault, match="/nowhere/python3"):
            find_environment(setting=fake_environments(FAKES))


class TestCreate:
    def test_from_a_folder_of_wheels_then_found_and_reused(self, wheels, own_home):
        told: list[tuple[float, str]] = []
        made = create_environment(
            (), python=sys.executable, wheels=str(wheels), on_progress=lambda *one: told.append(one)
        )
        assert made.versions["numpy"] == "2.1.0"
        assert own_home in Path(made.python).parents
        fractions = [fraction for fraction, _text in told]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert any("numpy" in text for _fraction, text in told)
        assert list((own_home / "logs").glob("*.log"))
        assert not list((own_home / "environments").glob(".*.tmp"))

        assert find_environment().python == made.python
        assert create_environment((), python=sys.executable).python == made.python  # without wheels: nothing to do

        # Other requirements make another environment; that of yesterday is no longer found.
        marker = Path(made.python).parent.parent / locations.MARKER
        members = json.loads(marker.read_text())
        marker.write_text(json.dumps({**members, "key": "0" * 64}))
        with pytest.raises(EnvironmentFault, match="no Python environment"):
            find_environment()

    def test_the_new_environment_is_isolated(self, wheels):
        made = create_environment((), python=sys.executable, wheels=str(wheels))
        code = "import sys, json; print(json.dumps([sys.prefix, sys.path]))"
        prefix, path = json.loads(child.run_python(made.python, code).stdout)
        assert Path(prefix) == made.root
        assert [one for one in path if "-packages" in one] == [str(next(made.root.glob("lib/python3.*/site-packages")))]

    def test_a_stopped_set_up_goes_on(self, wheels, own_home):
        (wheels / "shapely-2.0.6-py3-none-any.whl").rename(wheels.parent / "away.whl")
        with pytest.raises(EnvironmentFault, match=r"no fitting wheel of shapely.*download.*-r /.*base\.txt.*log is"):
            create_environment((), python=sys.executable, wheels=str(wheels))
        folder = next((own_home / "environments").glob("base-*"))
        assert not (folder / locations.MARKER).exists()
        with pytest.raises(EnvironmentFault, match="no Python environment"):
            find_environment()
        trace = folder / "from the first try"
        trace.touch()
        (wheels.parent / "away.whl").rename(wheels / "shapely-2.0.6-py3-none-any.whl")
        create_environment((), python=sys.executable, wheels=str(wheels))
        assert trace.exists()  # the venv was gone on with, not made again

    def test_packages_half_moved_in_are_not_trusted(self, wheels, own_home):
        (wheels / "shapely-2.0.6-py3-none-any.whl").rename(wheels.parent / "away.whl")
        with pytest.raises(EnvironmentFault):
            create_environment((), python=sys.executable, wheels=str(wheels))
        folder = next((own_home / "environments").glob("base-*"))
        (folder / "installing").touch()
        site = next(folder.glob("lib/python3.*/site-packages"))
        half = site / "numpy-2.1.0.dist-info"
        half.mkdir()
        (half / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.1.0\n")
        (wheels.parent / "away.whl").rename(wheels / "shapely-2.0.6-py3-none-any.whl")
        made = create_environment((), python=sys.executable, wheels=str(wheels))
        assert (site / "numpy" / "__init__.py").exists()
        assert not (made.root / "installing").exists()

    def test_a_broken_part_leaves_no_marker(self, wheels, own_home):
        wheel(wheels, "rasterio", "1.4.9", "raise ImportError('libgdal is missing')")
        with pytest.raises(EnvironmentFault, match=r"rasterio .*libgdal is missing"):
            create_environment((), python=sys.executable, wheels=str(wheels))
        assert not list((own_home / "environments").glob(f"*/{locations.MARKER}"))

    def test_no_room(self, monkeypatch, wheels):
        usage = type("Usage", (), {"free": 10**8})
        monkeypatch.setattr(create.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(EnvironmentFault, match=r"needs about .* GB, but .* has 0\.1 GB free"):
            create_environment((), python=sys.executable, wheels=str(wheels))

    def test_a_folder_of_wheels_that_is_not_there(self, tmp_path):
        with pytest.raises(EnvironmentFault, match="does not exist"):
            create_environment((), python=sys.executable, wheels=str(tmp_path / "none"))

    def test_a_place_that_cannot_be_written(self, tmp_path, wheels):
        file = tmp_path / "file"
        file.touch()
        with pytest.raises(EnvironmentFault, match="cannot be written"):
            create_environment((), python=sys.executable, location=str(file), wheels=str(wheels))

    def test_cancel_ends_the_children(self, wheels, own_home):
        begin = time.monotonic()
        with pytest.raises(JobCancelled):
            create_environment(
                (), python=sys.executable, wheels=str(wheels), is_cancelled=lambda: time.monotonic() - begin > 0.7
            )
        assert time.monotonic() - begin < 5
        assert wait_until(lambda: not processes_with(str(own_home)), 3)
        assert not list((own_home / "environments").glob(f"*/{locations.MARKER}"))

    def test_a_second_set_up_waits_and_gets_the_same(self, wheels, own_home):
        path = own_home / "environments" / ".lock"
        with locations.only_one(path, lambda text: None, lambda: False):
            waited = []
            code = (
                "import runpy, sys; from pathlib import Path\n"
                f"runpy.run_path({str(ROOT / 'engine' / 'launch.py')!r}, run_name='l')['register']()\n"
                "from deep_raster.engine.setup import locations\n"
                f"path = Path({str(path)!r})\n"
                "with locations.only_one(path, lambda text: print(text, flush=True), lambda: False): pass\n"
            )
            other = subprocess.Popen([sys.executable, "-I", "-B", "-c", code], stdout=subprocess.PIPE, text=True)
            waited.append(other.stdout.readline())
            assert "Waiting" in waited[0]
            assert other.poll() is None
        assert other.wait(timeout=10) == 0
        other.stdout.close()

    def test_waiting_can_be_cancelled(self, own_home):
        path = own_home / "environments" / ".lock"
        cancelled = []
        with (
            locations.only_one(path, lambda text: None, lambda: False),
            pytest.raises(JobCancelled),
            locations.only_one(path, cancelled.append, lambda: bool(cancelled)),
        ):
            pytest.fail("the lock was held twice")

    def test_a_killed_set_up_leaves_no_process_and_no_lock(self, wheels, own_home):
        script = [sys.executable, "-I", "-B", str(ROOT / "engine" / "environment.py"), "create", "--frameworks", ""]
        script += ["--python", sys.executable, "--wheels", str(wheels)]
        process = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert wait_until(lambda: processes_with("guarded.py", str(own_home)), 20)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert wait_until(lambda: not processes_with("guarded.py", str(own_home)), 3)
        made = subprocess.run(script, capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
        assert Path(made.stdout.strip()).exists()


class TestKey:
    def test_comments_do_not_matter_versions_do(self, tmp_path):
        file = tmp_path / "base.txt"
        file.write_text("# one\nnumpy>=2\n")
        first = locations.key_of([file], "3.11", "x86_64")
        file.write_text("numpy>=2  # another\n\n")
        assert locations.key_of([file], "3.11", "x86_64") == first
        assert locations.key_of([file], "3.12", "x86_64") != first
        file.write_text("numpy>=2.1\n")
        assert locations.key_of([file], "3.11", "x86_64") != first

    def test_home_is_outside_the_checkout(self, monkeypatch):
        monkeypatch.delenv("DEEP_RASTER_HOME")
        assert ROOT not in [locations.home(), *locations.home().parents]

    def test_names_of_frameworks_are_put_in_order(self):
        assert environment.normalise_frameworks(["all"]) == ("onnx", "pytorch", "tensorflow")
        assert environment.normalise_frameworks(["cluster", "PyTorch", ""]) == ("pytorch", "cluster")


class TestCommandLine:
    def test_errors_are_one_sentence_and_a_code(self, own_home):
        script = [sys.executable, "-I", "-B", str(ROOT / "engine" / "environment.py")]
        answer = subprocess.run([*script, "find"], capture_output=True, text=True)
        assert answer.returncode == 1
        assert answer.stdout == ""
        assert answer.stderr.startswith("Error: The engine has no Python environment yet.")
        assert "Traceback" not in answer.stderr
