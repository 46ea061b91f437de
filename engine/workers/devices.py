"""Which processors this machine has, and where the workers of a job are placed. Standard library alone."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from typing import Dict, List, Optional, Tuple

from ..caches import cache_root
from ..errors import JobError
from ..session import Placement

# Name of the variable that tells a worker to confine itself, and to what.
CONFINE = "DEEP_RASTER_CONFINE"


@dataclass(frozen=True)
class Gpu:
    """A CUDA device as the driver lists it; ``uuid`` stays the same when the order of devices changes."""

    index: int
    uuid: str
    name: str


@dataclass(frozen=True)
class Confinement:
    """What a confined worker may reach beside its libraries; ``owner`` is the package whose code it runs."""

    owner: str
    readable: Tuple[str, ...] = ()
    writable: Tuple[str, ...] = ()
    tcp_ports: Tuple[int, ...] = ()

    def to_json(self) -> str:
        """Return it as text for the worker's environment."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Confinement:
        """Return the confinement of such a text."""
        members = json.loads(text)
        return cls(members["owner"], *(tuple(members[name]) for name in ("readable", "writable", "tcp_ports")))


@dataclass(frozen=True)
class Slot:
    """One place for a worker.

    Attributes:
        device: as the worker sees it ("cpu", "cuda:0", "mps").
        uuid: of its GPU, if any.
        threads: native threads.
        family: see :class:`~.session.Placement`.
        confinement: what it may reach, if it runs a package's own code.
    """

    device: str
    uuid: str = ""
    threads: int = 1
    family: str = ""
    confinement: Optional[Confinement] = None

    def environment(self) -> Dict[str, str]:
        """Return the variables a worker in this slot is started with.

        Several threads on small tensors cost 10 to 40 times their work in busy waiting on a shared machine, so the
        count is set before any library can read its own idea of it, and waiting threads sleep.
        """
        threads = str(self.threads)
        members = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
        members.update(NUMEXPR_NUM_THREADS=threads, OMP_WAIT_POLICY="PASSIVE", KMP_BLOCKTIME="0")
        # An empty list hides every GPU from a worker that is meant for the CPU.
        members["CUDA_VISIBLE_DEVICES"] = self.uuid
        members["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
        if self.confinement:
            members[CONFINE] = self.confinement.to_json()
            members["DEEP_RASTER_CACHE"] = str(cache_root())
            # Libraries that want a home or a temporary folder get the one place where they may write.
            members.update(dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP"), self.confinement.writable[0]))
        return members


def core_count() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return max(1, os.cpu_count() or 1)


def cuda_gpus() -> List[Gpu]:
    """Return the CUDA devices that the NVIDIA driver lists; none if there is no driver or it does not answer."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return []
    command = [tool, "--query-gpu=index,uuid,name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # nosec B603
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in answer.stdout.splitlines():
        parts = [part.strip() for part in line.split(",", 2)]
        if len(parts) == 3 and parts[0].isdigit():
            gpus.append(Gpu(int(parts[0]), parts[1], parts[2]))
    return gpus


def slots(placement: Placement) -> List[Slot]:
    """Return one slot per worker of a job.

    CPU workers get one thread each whatever their number, because the same job must give the same bytes for any
    number of workers, and one single-threaded worker a core is the fastest division of a CPU. A job of one task (a
    training) asks for more threads itself.

    Raises:
        JobError: a GPU is asked for and there is none, or not the one asked for.
    """
    cores = core_count()
    if placement.processor != "CPU":
        if placement.processor == "GPU" or not placement.cluster:
            gpus = _chosen_gpus(placement)
            if gpus:
                count = placement.workers or len(gpus)
                threads = placement.threads or max(1, min(4, cores // count))
                return [Slot("cuda:0", gpus[i % len(gpus)].uuid, threads) for i in range(count)]
            if _has_metal():
                return [Slot("mps", "", placement.threads or 1)]
        if placement.processor == "GPU":
            raise JobError(
                "A GPU is asked for, but this machine shows none.",
                stage="choosing the processor",
                hint="Check that the NVIDIA driver is installed (nvidia-smi lists the GPU), or set PROCESSOR to CPU.",
            )
    count = placement.workers or (1 if placement.threads else cores)
    return [Slot("cpu", "", placement.threads or 1) for _ in range(count)]


def _chosen_gpus(placement: Placement) -> List[Gpu]:
    gpus = cuda_gpus()
    if not placement.gpu_id:
        return gpus
    known = {one.index: one for one in gpus}
    missing = [str(one) for one in placement.gpu_id if one not in known]
    if missing:
        names = ", ".join(f"{one.index} ({one.name})" for one in gpus) or "none"
        raise JobError(
            f"GPU_ID asks for GPU {', '.join(missing)}, which this machine does not have; it has {names}.",
            stage="choosing the processor",
        )
    return [known[one] for one in placement.gpu_id]


def _has_metal() -> bool:
    return platform.system() == "Darwin" and platform.machine() == "arm64"
