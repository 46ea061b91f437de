"""What the Makefile calls: ``make.py env|test|lint|package|translations|clean``; needs the system's Python alone."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from common import BUILD, ROOT, fail, say
from deep_raster.engine.errors import DeepRasterError


def main() -> int:
    """Run one command; return the exit code."""
    parser = argparse.ArgumentParser(description="Tools of the Deep Raster checkout.")
    parser.add_argument("command", choices=("env", "test", "lint", "package", "translations", "clean"))
    parser.add_argument("tiers", nargs="*", help="test tiers: lint, engine, qgis, process, desktop, nightly")
    parser.add_argument("--frameworks", default="all,cluster", help="frameworks of the engine's environment")
    asked = parser.parse_args()
    frameworks = tuple(asked.frameworks.split(","))
    try:
        if asked.command == "env":
            import venvs

            say(venvs.engine_python(frameworks))
        elif asked.command == "package":
            import packaging_zip

            return packaging_zip.main()
        elif asked.command == "translations":
            import translations

            return translations.main()
        elif asked.command == "clean":
            _clean()
        else:
            import tiers

            return tiers.run(asked.tiers or (["lint"] if asked.command == "lint" else []), frameworks)
    except DeepRasterError as error:
        fail(str(error))
    return 0


def _clean() -> None:
    for name in ("build", "dist", "demo/output", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"):
        shutil.rmtree(ROOT / name, ignore_errors=True)
    for found in ROOT.rglob("__pycache__"):
        shutil.rmtree(found, ignore_errors=True)
    for found in (ROOT / "i18n").glob("*.qm"):
        found.unlink()


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    sys.exit(main())
