"""Run ``venv`` and ``pip`` as child processes: progress from their lines, cancel, log, and a readable diagnosis."""

from __future__ import annotations

import queue
import re
import subprocess  # nosec B404 - pip has no other interface
import threading
import time
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

from ..errors import EnvironmentFault, JobCancelled
from .child import hidden_start, kill_tree

OnLine = Callable[[str], None]
GUARD = Path(__file__).with_name("guarded.py")

_SIZES = {"kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "bytes": 1.0}
_DOWNLOADING = re.compile(r"^\s*(?:Downloading|Using cached)\s+(\S+?)(?:\s+\(([\d.]+)\s*(\w+)\))?\s*$")
_COLLECTING = re.compile(r"^(?:Collecting|Requirement already satisfied:|Processing)\s+(\S+)")
_INSTALLING = re.compile(r"^Installing collected packages:\s*(.+)$")

# What pip says -> what it means, what to do. The first that matches the end of its output counts.
_DIAGNOSES: Tuple[Tuple[str, str, str], ...] = (
    (
        r"No space left on device|Errno 28|WinError 112|Disk quota exceeded",
        "The disk is full.",
        "Free some space, or choose a location on another disk.",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLError|SSLCertVerificationError",
        "The certificate of the package server (or of a proxy in between) is not trusted.",
        "Give the certificates of your organisation in PIP_CERT, or install from a folder of wheels.",
    ),
    (
        r"ProxyError|407 Proxy Authentication|Cannot connect to proxy",
        "The network proxy refused the connection.",
        "Set HTTPS_PROXY for this machine, or install from a folder of wheels.",
    ),
    (
        r"Name or service not known|Temporary failure in name resolution|getaddrinfo failed|NewConnectionError|"
        r"Network is unreachable|ConnectTimeoutError|Connection refused|Failed to establish a new connection|"
        r"No route to host|Read timed out|ConnectionResetError|Connection aborted|IncompleteRead|MaxRetryError",
        "The package server cannot be reached or the connection broke off.",
        "Check the network and start again, which goes on with what is there; without a network, "
        "install from a folder of wheels.",
    ),
    (
        r"Permission denied|Errno 13|WinError 5|Access is denied|Read-only file system",
        "A file or folder cannot be written.",
        "Choose another location, or close the program (or antivirus check) that holds the file.",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES|hash mismatch|BadZipFile|Invalid wheel|has an invalid wheel",
        "A downloaded file is damaged or not the expected one.",
        "Start again; if it stays so, clear pip's cache or check the folder of wheels.",
    ),
    (r"ResolutionImpossible|conflicting dependencies", "The packages on offer contradict each other.", ""),
    (
        r"Failed building wheel|Failed to build|subprocess-exited-with-error|metadata-generation-failed|"
        r"Microsoft Visual C\+\+",
        "A package would have to be compiled and that failed.",
        "Use a Python version for which ready-made packages exist.",
    ),
)
_NO_WHEEL = re.compile(
    r"No matching distribution found for ([^\s;]+)|Could not find a version that satisfies the requirement (\S+)"
)


def run_guarded(
    arguments: Sequence[str],
    environment: Dict[str, str],
    log: Path,
    on_line: Optional[OnLine] = None,
    on_pause: Optional[Callable[[], None]] = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> Tuple[int, List[str]]:
    """Run ``[python, module, argument ...]`` to its end and return the exit code and the last lines it wrote.

    Every line goes to ``log`` and ``on_line``; ``on_pause`` is called about once a second while nothing is said.

    Raises:
        JobCancelled: ``is_cancelled`` answered yes; the process and its children are dead by then.
        EnvironmentFault: the interpreter cannot be started.
    """
    command = [arguments[0], "-I", "-u", str(GUARD), *arguments[1:]]
    try:
        process = subprocess.Popen(  # nosec B603 - a list without a shell
            command,
            env=environment,
            stdin=subprocess.PIPE,  # held open: its closing ends the child
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **hidden_start(),
        )
    except OSError as error:
        raise EnvironmentFault(f"“{arguments[0]}” cannot be started: {error}.") from error
    lines: queue.Queue[Optional[str]] = queue.Queue()
    threading.Thread(target=_drain, args=(process, lines), daemon=True).start()
    last: List[str] = []
    ended = False
    try:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"\n[{time.strftime('%Y-%m-%d %H:%M:%S')}] {' '.join(map(str, arguments))}\n")
            for line in _spoken(lines, on_pause, is_cancelled):
                stream.write(line + "\n")
                stream.flush()
                last = [*last[-199:], line]
                if on_line:
                    on_line(line)
        code = process.wait(timeout=60)
        ended = True
    finally:
        if not ended:
            kill_tree(process)
        if process.stdin:
            process.stdin.close()
    return code, last


def _drain(process: subprocess.Popen[bytes], lines: queue.Queue[Optional[str]]) -> None:
    if process.stdout is not None:
        with process.stdout as stream:
            for raw in stream:
                lines.put(raw.decode("utf-8", "replace").rstrip())
    lines.put(None)


def _spoken(
    lines: queue.Queue[Optional[str]], on_pause: Optional[Callable[[], None]], is_cancelled: Callable[[], bool]
) -> Iterator[str]:
    """Yield the lines as they come, looking for a cancel five times a second."""
    told = time.monotonic()
    while True:
        if is_cancelled():
            raise JobCancelled("The set-up was cancelled; starting it again goes on.")
        if on_pause and time.monotonic() - told > 1.0:
            on_pause()
            told = time.monotonic()
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            continue
        if line is None:
            return
        yield line


class PipProgress:
    """Turn what pip says (and what it leaves on disk while it is silent) into a fraction and a text.

    Args:
        site: the site-packages folder that is filled.
        scratch: pip's folder for temporary files, where a download in progress is seen.
        expected: about how many packages are to come.
        tell: called with a fraction in 0..1 that never falls, and a text.
    """

    def __init__(self, site: Path, scratch: Path, expected: int, tell: Callable[[float, str], None]) -> None:
        self._site = site
        self._scratch = scratch
        self._expected = max(1, expected)
        self._tell_on = tell
        self._collected = 0
        self._file = ""
        self._size = 0.0
        self._to_install = 0
        self._present = 0
        self._fraction = 0.0
        self.on_install: Callable[[], None] = lambda: None

    def line(self, text: str) -> None:
        """Take a line of pip's output."""
        collecting = _COLLECTING.match(text)
        downloading = _DOWNLOADING.match(text)
        installing = _INSTALLING.match(text)
        if collecting:
            self._collected += 1
            self._tell(
                0.7 * min(1.0, self._collected / self._expected),
                f"Looking for {collecting.group(1).rsplit('/', 1)[-1]}",
            )
        elif downloading and not downloading.group(1).endswith(".metadata"):
            self._file = downloading.group(1).rsplit("/", 1)[-1]
            self._size = float(downloading.group(2) or 0) * _SIZES.get(downloading.group(3) or "", 0.0)
            self._tell(self._fraction, f"Downloading {self._file}")
        elif installing:
            self._to_install = len(installing.group(1).split(","))
            self._present = self._count()
            self.on_install()
            self._tell(0.7, f"Installing {self._to_install} packages")

    def pause(self) -> None:
        """Look at the disk while pip is silent: a large download, or the long step of installing."""
        if self._to_install:
            done = max(0, self._count() - self._present)
            share = min(1.0, done / self._to_install)
            self._tell(0.7 + 0.3 * share, f"Installing packages: {done} of {self._to_install}")
        elif self._size > 2e7:
            there = next((one.stat().st_size for one in self._scratch.glob(f"*/{self._file}")), 0)
            if there:
                self._tell(self._fraction, f"Downloading {self._file}: {there / 1e6:.0f} of {self._size / 1e6:.0f} MB")

    def _count(self) -> int:
        return sum(1 for _one in self._site.glob("*.dist-info"))

    def _tell(self, fraction: float, text: str) -> None:
        self._fraction = max(self._fraction, fraction)
        self._tell_on(self._fraction, text)


def diagnose(lines: Sequence[str], offline: str = "", requirements: Sequence[Path] = ()) -> Tuple[str, str]:
    """Return what went wrong, as a sentence, and what to do next, from the last lines that pip wrote.

    Args:
        lines: the last lines of its output.
        offline: the folder of wheels it had to do with; empty: it could use the network.
        requirements: the files that say what it had to install.
    """
    text = "\n".join(lines)
    for pattern, sentence, hint in _DIAGNOSES:
        if re.search(pattern, text):
            return sentence, hint
    missing = _NO_WHEEL.search(text)
    if missing:
        package = next(one for one in missing.groups() if one)
        if offline:
            return f"The folder {offline} holds no fitting wheel of {package}.", (
                "Fill it on a machine with a network, of the same system and Python version, with: python3 -m pip "
                f"download -d FOLDER {' '.join(f'-r {one}' for one in requirements)}"
            )
        return f"There is no ready-made package of {package} for this Python and system.", (
            "Name another Python interpreter (3.10 to 3.13 have the widest choice)."
        )
    errors = [line for line in lines if line.startswith("ERROR")] or list(lines[-1:])
    return " ".join(errors[-1:]) or "pip ended without saying why.", ""
