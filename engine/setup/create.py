"""Make the engine's environment: a venv of its own, filled by pip, that goes on where it stopped."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

from ..errors import EnvironmentFault, JobCancelled
from . import locations
from .check import Environment, check_environment, normalise_frameworks
from .child import pip_environment
from .interpreters import Interpreter, find_base
from .pip import PipProgress, diagnose, run_guarded

OnProgress = Callable[[float, str], None]
IsCancelled = Callable[[], bool]
STAGE = "setting up the environment"

# framework -> GB on disk when installed (downloads in progress included), about how many packages come with it
_SIZES: Dict[str, Tuple[float, int]] = {
    "base": (0.5, 15),
    "onnx": (0.4, 10),
    "pytorch": (7.0, 50),
    "tensorflow": (2.6, 35),
    "cluster": (0.1, 15),
}
_UNFINISHED = "installing"  # exists while pip moves packages in; what it leaves behind then cannot be trusted


def create_environment(
    frameworks: Sequence[str] = ("pytorch",),
    *,
    python: str = "",
    location: str = "",
    wheels: str = "",
    on_progress: OnProgress = lambda fraction, text: None,
    is_cancelled: IsCancelled = lambda: False,
) -> Environment:
    """Make the environment with the frameworks, or return it at once when it is there already.

    Args:
        frameworks: of "onnx", "pytorch", "tensorflow", "cluster", "all".
        python: the interpreter to build on; empty: the best one found.
        location: the folder that holds environments; empty: DEEP_RASTER_HOME or the platform's folder of user data.
        wheels: a folder of wheels to install from, without any network.
        on_progress: called with a fraction in 0..1, never falling, and a text.
        is_cancelled: asked five times a second; yes ends all child processes.

    Raises:
        EnvironmentFault: what failed, why, and what to do next; the log file is named.
        JobCancelled: it was cancelled; starting it again goes on.
    """
    wanted = normalise_frameworks(frameworks)
    base = find_base(python)
    files = locations.requirement_files(wanted)
    name = "-".join(wanted) or "base"
    if wheels and not Path(wheels).is_dir():
        raise EnvironmentFault(f"The folder of wheels {wheels} does not exist.", stage=STAGE)
    sizes = [_SIZES[one] for one in ("base", *wanted)]
    plan = VenvPlan(
        name=name,
        base=base,
        files=tuple(files),
        root=locations.home(location),
        wheels=wheels,
        gigabytes=sum(one[0] for one in sizes),
        packages=sum(one[1] for one in sizes),
        members={"frameworks": list(wanted)},
        verify=lambda interpreter: check_environment(str(interpreter), wanted, imports=True),
    )
    interpreter = plan.make(on_progress, is_cancelled)
    return check_environment(str(interpreter), wanted)


class VenvPlan:
    """A venv to be made from requirement files; :meth:`make` makes it, goes on with it, or finds it finished.

    Args:
        name: begins the folder's name.
        base: the interpreter to build on.
        files: the requirement files.
        root: the folder of our data; environments and logs are kept in it.
        wheels: a folder of wheels to install from without a network; empty: pip's configured indexes.
        gigabytes: room needed on the disk.
        packages: about how many packages come, for the progress.
        members: what the success marker shall say beside key, Python version and machine.
        verify: called with the new interpreter before the marker is written; raises what is wrong.
        prepare: called with the site-packages folder before pip runs.
        kind: the folder below ``root``.
        system: let the venv see the packages of ``base``.
        binary_only: take ready-made packages only, so that nothing of a package runs while it is installed.
        salt: goes into the key beside the requirements, for what else the venv depends on.
    """

    def __init__(
        self,
        *,
        name: str,
        base: Interpreter,
        files: Sequence[Path],
        root: Path,
        wheels: str = "",
        gigabytes: float = 0.5,
        packages: int = 10,
        members: Optional[Dict[str, object]] = None,
        verify: Optional[Callable[[Path], object]] = None,
        prepare: Optional[Callable[[Path], None]] = None,
        kind: str = "environments",
        system: bool = False,
        binary_only: bool = True,
        salt: str = "",
    ) -> None:
        self.base = base
        self.files = tuple(files)
        self.wheels = wheels
        self.gigabytes = gigabytes
        self.packages = packages
        self.members = dict(members or {})
        self.verify = verify
        self.prepare = prepare
        self.system = system
        self.binary_only = binary_only
        self.key = locations.key_of(self.files, base.short, base.machine + salt)
        stem = f"{name}-py{base.version[0]}{base.version[1]}-{self.key[:12]}"
        self.folder = root / kind / stem
        self.log = root / "logs" / f"{stem}.log"
        self.lock = root / kind / f".{stem}.lock"
        self.scratch = root / kind / f".{stem}.tmp"

    def make(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> Path:
        """Return the interpreter of the finished venv."""
        if self._is_finished():
            on_progress(1.0, "The environment is there already")
            return locations.interpreter_of(self.folder)
        with locations.only_one(self.lock, lambda text: on_progress(0.0, text), is_cancelled):
            if not self._is_finished():
                try:
                    self._make(on_progress, is_cancelled)
                except OSError as error:
                    raise self._fault(*diagnose([str(error)])) from error
                finally:
                    shutil.rmtree(self.scratch, ignore_errors=True)
        on_progress(1.0, "The environment is ready")
        return locations.interpreter_of(self.folder)

    def _is_finished(self) -> bool:
        members = locations.read_marker(self.folder)
        return bool(members) and locations.interpreter_of(self.folder).exists()

    def _make(self, on_progress: OnProgress, is_cancelled: IsCancelled) -> None:
        self._check_room()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.scratch.mkdir(parents=True, exist_ok=True)
        interpreter = locations.interpreter_of(self.folder)
        unfinished = self.folder / _UNFINISHED
        if unfinished.exists() or not self._works(interpreter):
            on_progress(0.0, f"Making an environment on Python {self.base.short}")
            self._venv(is_cancelled)
        site = self._site(interpreter)
        if self.prepare:
            self.prepare(site)
        progress = PipProgress(
            site, self.scratch, self.packages, lambda share, text: on_progress(0.03 + 0.9 * share, text)
        )
        progress.on_install = unfinished.touch
        self._pip(interpreter, progress, is_cancelled)
        on_progress(0.93, "Checking that all parts work")
        if self.verify:
            self.verify(interpreter)
        if is_cancelled():
            raise JobCancelled("The set-up was cancelled; starting it again goes on.", stage=STAGE)
        unfinished.unlink(missing_ok=True)
        members = {"key": self.key, "python": self.base.short, "machine": self.base.machine, "base": self.base.path}
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        locations.write_marker(self.folder, {**self.members, **members, "made": made})

    def _check_room(self) -> None:
        there = next(one for one in (self.folder, *self.folder.parents) if one.exists())
        free = shutil.disk_usage(there).free / 1e9
        if free < self.gigabytes:
            raise EnvironmentFault(
                f"The environment needs about {self.gigabytes:.1f} GB, but {there} has {free:.1f} GB free.",
                stage=STAGE,
                hint="Free some space, choose fewer frameworks, or choose a location on another disk.",
            )

    def _works(self, interpreter: Path) -> bool:
        """Tell whether an earlier, unfinished set-up got as far as a venv with pip."""
        return interpreter.exists() and bool(list(self._site(interpreter).glob("pip-*.dist-info")))

    def _site(self, interpreter: Path) -> Path:
        if interpreter.parent.name == "Scripts":
            return self.folder / "Lib" / "site-packages"
        return self.folder / "lib" / f"python{self.base.short}" / "site-packages"

    def _venv(self, is_cancelled: IsCancelled) -> None:
        options = ["--clear", *(["--system-site-packages"] if self.system else [])]
        code, lines = run_guarded(
            [self.base.path, "venv", *options, str(self.folder)],
            self._variables(),
            self.log,
            is_cancelled=is_cancelled,
        )
        if code != 0:
            if any("ensurepip" in line for line in lines):
                raise self._fault(
                    f"{self.base.path} cannot make environments: ensurepip is missing.",
                    f"Install it with: sudo apt install python3-venv (or python{self.base.short}-venv).",
                )
            raise self._fault(*diagnose(lines))

    def _pip(self, interpreter: Path, progress: PipProgress, is_cancelled: IsCancelled) -> None:
        command = [str(interpreter), "pip", "install", "--no-input", "--progress-bar", "off"]
        if self.binary_only:
            command += ["--only-binary", ":all:"]
        if self.wheels:
            command += ["--no-index", "--find-links", str(Path(self.wheels).absolute())]
        for one in self.files:
            command += ["-r", str(one)]
        code, lines = run_guarded(
            command, self._variables(), self.log, progress.line, progress.pause, is_cancelled=is_cancelled
        )
        if code != 0:
            raise self._fault(*diagnose(lines, self.wheels, self.files))

    def _variables(self) -> Dict[str, str]:
        # Wheels of gigabytes do not fit a small /tmp; and here a download in progress can be watched.
        return {**pip_environment(), **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(self.scratch))}

    def _fault(self, sentence: str, hint: str) -> EnvironmentFault:
        told: List[str] = [hint, f"The log is {self.log}."]
        return EnvironmentFault(
            f"The environment could not be made. {sentence}", stage=STAGE, hint=" ".join(one for one in told if one)
        )
