"""Measures inference: speed against the machine's limit, exactness, memory, start, cancel, the parts, and qgis_process.

    python benchmarks/inference.py limit [--networks small,pointwise,resnet18,own] [--sizes 10240,4096] [--rounds 5]
    python benchmarks/inference.py exact | decode | memory | start | cancel | nms | polygons | qgis | training

Run it with the engine's Python. Rasters and networks are made on the fly and kept in ``--scratch`` for the next time.
Figures are CPU seconds (user and system) of whole process trees, as ratios within a round of one run; a table shows
the median of the rounds with the lowest and the highest; the first round warms up and is not counted. Every command
prints the machine and a markdown table; README.md beside this file holds what was measured.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Callable

import handling
import measure
import parts
import qgis
import speed
import training

_SCRATCH = Path(__file__).resolve().parent.parent / "build" / "benchmarks"
# command -> (function, network names or "", side of the raster)
_COMMANDS: dict[str, tuple[Callable[[argparse.Namespace], None], str, int]] = {
    "limit": (speed.against_limit, "small,pointwise,resnet18,own", 0),
    "exact": (speed.exactness, "pointwise,small", 2048),
    "decode": (speed.decode_once, "pointwise,small", 10240),
    "memory": (handling.memory, "pointwise", 0),
    "start": (handling.start, "small", 2048),
    "cancel": (handling.cancel, "small", 4096),
    "nms": (parts.suppression, "", 0),
    "polygons": (parts.polygons, "", 4096),
    "qgis": (qgis.tools, "small", 10240),
    "training": (training.loop, "", 256),
}


def main() -> None:
    """Run one command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=_COMMANDS)
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count")
    parser.add_argument("--networks", default="", help="comma list of pointwise, small, resnet18, own")
    parser.add_argument("--sizes", default="10240,4096", help="sides of the rasters of limit")
    parser.add_argument("--side", type=int, default=0, help="side of the raster of the other commands")
    parser.add_argument("--shapes", default="", help="columns x rows of the rasters of memory, such as 4096x4096,...")
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU seconds of one look at the network alone")
    parser.add_argument("--scratch", type=Path, default=_SCRATCH, help="folder for all files")
    asked = parser.parse_args()
    function, networks, side = _COMMANDS[asked.command]
    asked.networks, asked.side = asked.networks or networks, asked.side or side
    asked.scratch = asked.scratch.resolve()
    asked.scratch.mkdir(parents=True, exist_ok=True)
    print(f"Machine: {measure.machine()}\nCommand: `inference.py {' '.join(sys.argv[1:])}`", flush=True)
    function(asked)


if __name__ == "__main__":
    main()
