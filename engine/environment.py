"""Find, check and make the Python environment of the engine, from QGIS's Python or from the command line.

``python -I engine/environment.py create --frameworks pytorch`` makes one and prints its interpreter;
``find`` prints the one that is there, ``check PYTHON`` tells what an existing interpreter lacks.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import List, Optional, Sequence

if not __package__:  # started by its path: become a module of the package
    import runpy

    sys.path[:] = [one for one in sys.path if Path(one or ".").resolve() != Path(__file__).resolve().parent]
    runpy.run_path(str(Path(__file__).resolve().with_name("launch.py")), run_name="launch")["register"]()
    __package__ = "deep_raster.engine"

from .errors import DeepRasterError, EnvironmentFault
from .setup.check import ALL, FRAMEWORKS, HINT, Environment, check_environment, normalise_frameworks
from .setup.child import engine_environment
from .setup.create import create_environment
from .setup.locations import finished_environments, home, interpreter_of

VARIABLE = "DEEP_RASTER_PYTHON"

__all__ = [
    "ALL",
    "FRAMEWORKS",
    "Environment",
    "check_environment",
    "create_environment",
    "engine_environment",
    "find_environment",
    "home",
    "normalise_frameworks",
]


def find_environment(frameworks: Sequence[str] = (), *, setting: str = "", location: str = "") -> Environment:
    """Return the environment to run the engine in.

    The interpreter named by the variable DEEP_RASTER_PYTHON comes first, then the one of the user's ``setting``, then
    environments that we made from today's requirements below ``location`` (see :func:`home`), the one with the most
    frameworks first. An interpreter that is named is never passed over for another.

    Raises:
        EnvironmentFault: none is there, or the one named will not do; the sentence says how to make one.
    """
    wanted = normalise_frameworks(frameworks)
    named = os.environ.get(VARIABLE, "") or setting
    if named:
        return check_environment(named, wanted)
    fitting = [(folder, those) for folder, those in finished_environments(location) if set(wanted) <= set(those)]
    if not fitting:
        what = f" with {', '.join(wanted)}" if wanted else ""
        raise EnvironmentFault(
            f"The engine has no Python environment{what} yet.", hint=HINT.format(",".join(wanted) or "pytorch")
        )
    folder = max(fitting, key=lambda one: len(one[1]))[0]
    return check_environment(str(interpreter_of(folder)), wanted)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run the command line; return the exit code."""
    asked = _parser().parse_args(arguments)
    frameworks = tuple(getattr(asked, "frameworks", "").split(","))
    try:
        if asked.command == "check":
            found = check_environment(asked.python, frameworks, imports=True)
        elif asked.command == "find":
            found = find_environment(frameworks, location=asked.location)
        else:
            found = _find_or_create(asked, frameworks)
    except DeepRasterError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; the same command goes on.", file=sys.stderr)
        return 130
    print(", ".join(f"{name} {version}" for name, version in sorted(found.versions.items())), file=sys.stderr)
    print(found.python)
    return 0


def _find_or_create(asked: argparse.Namespace, frameworks: Sequence[str]) -> Environment:
    """Return a fitting environment that is there (unless a new one is asked for by its Python), or make one."""
    if not asked.python:
        try:
            return find_environment(frameworks, location=asked.location)
        except EnvironmentFault:
            if os.environ.get(VARIABLE):
                raise
    told: List[str] = [""]

    def tell(fraction: float, text: str) -> None:
        line = f"[{fraction:4.0%}] {text}"
        if line != told[0]:
            told[0] = line
            print(line, file=sys.stderr, flush=True)

    return create_environment(
        frameworks, python=asked.python, location=asked.location, wheels=asked.wheels, on_progress=tell
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="environment.py", description="The Python environment of Deep Raster.")
    commands = parser.add_subparsers(dest="command", required=True)
    frameworks = f"comma list of {', '.join(FRAMEWORKS)}, all"
    for name, text in (("create", "find a fitting environment or make one"), ("find", "find one")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--frameworks", default="pytorch" if name == "create" else "", help=frameworks)
        command.add_argument("--location", default="", help="folder of environments")
        if name == "create":
            command.add_argument("--python", default="", help="interpreter to build on")
            command.add_argument("--wheels", default="", help="folder of wheels to install from, without a network")
    check = commands.add_parser("check", help="check an existing interpreter")
    check.add_argument("python")
    check.add_argument("--frameworks", default="", help=frameworks)
    return parser


if __name__ == "__main__":
    sys.exit(main())
