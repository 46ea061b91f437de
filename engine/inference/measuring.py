"""What is measured of a network before its job is planned: how far it looks, and how much memory it takes.

Both take several passes over small images, so they are noted under the package's hash and done once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt

from .. import __version__, jobs
from ..caches import measured_cache
from ..errors import ModelError
from ..events import Progress
from ..models.base import TilePlan
from ..package.host_arguments import host_parameters
from ..raster.source import RasterSource
from ..workers.memory import release_memory, resident_memory
from ..workers.task import TaskContext
from .journal import fingerprint
from .loading import Loaded
from .receptive import receptive_field_halo
from .tiles import ceil_to

Array = npt.NDArray[Any]
# Halos above this, in pixels, would need tiles so large that being exact does not pay.
_MOST_HALO = 96
# To be raised when another way of measuring gives other answers, so that old notes are not believed.
_METHOD = 1
# Side of the smaller of the two images by which memory is measured; the other one has twice the side.
_TRIAL_SIDE = 128


@dataclass(frozen=True)
class Need:
    """Bytes that a worker holds with its network at rest, and bytes that each pixel of a call takes; 0 if unknown."""

    rest: int = 0
    pixel: float = 0.0

    def call(self, pixels: int) -> int:
        """Return the bytes of a worker while it predicts so many pixels at once."""
        return int(self.rest + self.pixel * pixels)


@dataclass(frozen=True)
class Pixels:
    """Bands and type of what the network is given."""

    bands: int
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls,
        inputs: Sequence[jobs.RasterInput],
        second: Sequence[jobs.RasterInput],
        bands: Optional[Tuple[int, ...]],
    ) -> Pixels:
        """Return those of the first raster (and of the second date's)."""
        with RasterSource.open(inputs[:1], cache_mb=1) as source:
            count, dtype = source.count, source.dtype
        if second:
            with RasterSource.open(second[:1], cache_mb=1) as source:
                count, dtype = count + source.count, np.result_type(dtype, source.dtype)
        return cls(len(bands) if bands is not None else count, dtype)

    def noise(self, number: int, rows: int, columns: int) -> Array:
        """Return images of noise."""
        high = self.highest if self.dtype.kind in "iu" else 1.0
        made = np.random.default_rng(0).uniform(0, high, (number, self.bands, rows, columns))
        return made.astype(self.dtype)

    @property
    def highest(self) -> float:
        """The largest value that pixels of such a type usually have."""
        return 255.0 if self.dtype.kind not in "iu" else float(min(np.iinfo(self.dtype).max, 10_000))


def measure(
    name: str, loaded: Loaded, pixels: Pixels, options: jobs.RunOptions, context: TaskContext
) -> Tuple[TilePlan, Need]:
    """Return the network's plan, with a halo of our own where nobody has stated a padding, and the memory it needs.

    Networks of free size are measured; detectors without any context get an eighth of a tile, so that what a tile cuts
    is whole in the next one. Functions of a package are not run for this: only they know what one more call does.

    Args:
        name: of the job.
        loaded: the network.
        pixels: what it will be given.
        options: of the job.
        context: of the task; memory is measured on the CPU alone.
    """
    plan: TilePlan = loaded.model.plan
    hosts = {one.name for one in host_parameters()}
    arguments = sorted(one for one in options.arguments.items() if loaded.package.has_code or one[0] not in hosts)
    is_open = _is_open(name, loaded, options)
    members = [
        __version__,
        _METHOD,
        is_open,
        name,
        loaded.package.digest,
        arguments,
        context.device,
        context.threads,
        dataclasses.asdict(plan),
    ]
    note = measured_cache() / f"{fingerprint([*members, pixels.bands, pixels.dtype.str])[:32]}.json"
    known = _read(note)
    answer: Dict[str, Any] = dict(known)
    if not {"need", "halo"} <= set(known) and (is_open or not loaded.package.has_code):
        context.emit(Progress(0.5, "Measuring how far the network looks and what memory it takes"))
    if "need" not in answer:
        asked = context.device == "cpu" and not loaded.package.has_code
        need = _need(_question(name, loaded), pixels, plan) if asked else Need()
        answer["need"] = [need.rest, need.pixel]
    if "halo" not in answer:
        answer.update(_found(loaded, pixels) if is_open else {"halo": None})
    if answer != known:
        _write(note, answer)
    halo = answer["halo"]
    plan = dataclasses.replace(
        plan, multiple=math.lcm(plan.multiple, int(answer.get("multiple", 1))), blend=bool(answer.get("everywhere"))
    )
    if halo is not None:
        plan = dataclasses.replace(plan, halo=int(halo), exact=True)
    elif name == "detectobjects" and not (plan.halo or plan.outer or _is_stated(name, loaded, options)):
        plan = dataclasses.replace(plan, halo=min(plan.width, plan.height) // 8)
    return plan, Need(int(answer["need"][0]), float(answer["need"][1]))


def _is_stated(name: str, loaded: Loaded, options: jobs.RunOptions) -> bool:
    definition = loaded.package.definition
    by_members = name == "detectobjects" and "Padding" in definition.members
    return "padding" in options.arguments or definition.model_padding is not None or by_members


def _is_open(name: str, loaded: Loaded, options: jobs.RunOptions) -> bool:
    """Return whether the padding is ours to find."""
    plan = loaded.model.plan
    if name not in ("classifypixels", "detectchange") or plan.exact or plan.outer:
        return False
    if plan.fixed and not hasattr(loaded.model, "reach"):
        return False
    return not (_is_stated(name, loaded, options) or plan.scale != 1 or loaded.settings.blend)


def _found(loaded: Loaded, pixels: Pixels) -> Dict[str, Any]:
    """Return ``halo`` (None if none pays), and where the network tells, ``multiple`` and if it sees ``everywhere``."""
    plan: TilePlan = loaded.model.plan
    if not hasattr(loaded.model, "reach"):
        return {"halo": _halo(loaded, pixels)}
    # A tile of fixed size that is mostly halo would be paid for several times.
    most = min(plan.width, plan.height) // 4 if plan.fixed else max(_MOST_HALO, min(plan.width, plan.height) // 4)
    reach = loaded.model.reach(pixels.bands, most)
    if reach is None:
        return {"halo": None}
    halo = reach.halo if reach.halo is not None and reach.halo <= most else None
    return {"halo": halo, "multiple": reach.multiple, "everywhere": reach.halo is None}


def _halo(loaded: Loaded, pixels: Pixels) -> Optional[int]:
    plan = loaded.model.plan
    return receptive_field_halo(
        loaded.model.scores, pixels.bands, pixels.dtype, plan.multiple, _MOST_HALO, pixels.highest
    )


def _question(name: str, loaded: Loaded) -> Callable[[Array, Array], Any]:
    question: Callable[[Array, Array], Any] = loaded.model.detect if name == "detectobjects" else loaded.model.scores
    return question


def _need(question: Callable[[Array, Array], Any], pixels: Pixels, plan: TilePlan) -> Need:
    """Return what two calls of different size show; one call, where the network takes one size alone."""
    side = ceil_to(_TRIAL_SIDE, plan.multiple)
    shapes = [(plan.height, plan.width)] if plan.fixed else [(side, side), (2 * side, 2 * side)]
    release_memory()
    before = resident_memory(os.getpid())
    found = []
    try:
        for rows, columns in shapes:
            forget_peak()
            question(pixels.noise(1, rows, columns), np.ones((1, rows, columns), bool))
            found.append((rows * columns, peak_memory()))
    except ModelError:
        return Need(before)
    if len(found) == 1:
        return Need(before, max(0, found[0][1] - before) / found[0][0])
    (few, low), (many, high) = found
    pixel = max(0.0, (high - low) / (many - few))
    return Need(max(0, int(low - pixel * few)), pixel)


def forget_peak() -> None:
    """Begin anew with :func:`peak_memory`, where the system can (Linux).

    What a warm worker has left over from other networks would otherwise be used first, and hide what this one takes.
    """
    release_memory()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Return the most bytes that this process has held in memory; 0 if the system does not tell."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    with contextlib.suppress(ImportError):
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024
    return 0


def _read(note: Path) -> Dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(note.read_text("utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def _write(note: Path, answer: Dict[str, Any]) -> None:
    """Keep the answer; a confined worker may not, and measures again next time."""
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = note.with_name(f"{note.name}.{os.getpid()}")
        part.write_text(json.dumps(answer), "utf-8")
        os.replace(part, note)
