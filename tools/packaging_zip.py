"""Build the plugin's zip and check it against the rules of QGIS's plugin site, security scans included."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import List

import venvs
from common import BUILD, PACKAGE, ROOT, say

LIMIT = 25 * 1024 * 1024
SHIPPED = ("metadata.txt", "__init__.py", "LICENSE", "README.md", "CHANGELOG.md")
SHIPPED_FOLDERS = ("plugin", "processing_provider", "engine", "i18n")
REQUIRED = (
    "name",
    "description",
    "about",
    "version",
    "author",
    "email",
    "qgisMinimumVersion",
    "repository",
    "tracker",
    "homepage",
    "hasProcessingProvider",
    "icon",
)
FORBIDDEN_PARTS = ("__pycache__", "__MACOSX", ".git", "tests", "demo", "benchmarks")
FORBIDDEN_SUFFIXES = (".pyc", ".pyo", ".so", ".dll", ".dylib", ".exe", ".bat", ".cmd", ".sh", ".ps1", ".ts", ".whl")
GENERATED = re.compile(r"^(resources_rc|resources|ui_.*)\.py$")
_LRELEASE = ("/usr/lib/qt6/bin/lrelease", "/usr/lib/qt5/bin/lrelease")


def main(lint_python: str = "") -> int:
    """Build ``build/deep_raster-VERSION.zip``, check it, and return 0 if nothing is wrong with it."""
    problems: List[str] = []
    archive = build(problems)
    if archive is not None:
        problems += check_archive(archive)
        problems += scan(archive, lint_python or venvs.lint_python())
        say(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.2f} MB")
    for one in problems:
        say(f"package: {one}")
    return 1 if problems else 0


def shipped_files() -> List[Path]:
    """Return the files of the checkout that are shipped, relative to its root, in a fixed order."""
    found = [Path(name) for name in SHIPPED if (ROOT / name).is_file()]
    for folder in SHIPPED_FOLDERS:
        for one in (ROOT / folder).rglob("*"):
            if one.is_file() and "__pycache__" not in one.parts and one.suffix not in (".pyc", ".ts", ".qm", ".part"):
                found.append(one.relative_to(ROOT))
    tracked = _tracked()
    return sorted(one for one in found if not tracked or one.as_posix() in tracked)


def _tracked() -> List[str]:
    """Return the files that git knows of, or nothing when this is no clone."""
    if not (ROOT / ".git").exists():
        return []
    git = shutil.which("git") or "git"
    answer = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return answer.stdout.splitlines()


def build(problems: List[str]) -> Path | None:
    """Write the zip and return its path, or add to ``problems`` why it cannot be built."""
    metadata = read_metadata(ROOT / "metadata.txt")
    version = metadata.get("version", "")
    if not version:
        problems.append("metadata.txt is missing or names no version")
        return None
    BUILD.mkdir(exist_ok=True)
    archive = BUILD / f"{PACKAGE}-{version}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as stream:
        for one in shipped_files():
            _add(stream, one.as_posix(), (ROOT / one).read_bytes())
        for compiled in compile_translations(problems):
            _add(stream, f"i18n/{compiled.name}", compiled.read_bytes())
    return archive


def _add(stream: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a file with a fixed date and plain rights, so that the same sources give the same bytes."""
    entry = zipfile.ZipInfo(f"{PACKAGE}/{name}", (2024, 1, 1, 0, 0, 0))
    entry.external_attr = 0o100644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    stream.writestr(entry, content)


def compile_translations(problems: List[str]) -> List[Path]:
    """Compile ``i18n/*.ts`` to ``build/i18n/*.qm`` with Qt's lrelease and return the compiled files."""
    sources = sorted((ROOT / "i18n").glob("*.ts"))
    if not sources:
        return []
    tool = shutil.which("lrelease") or next((one for one in _LRELEASE if Path(one).exists()), "")
    if not tool:
        problems.append("lrelease is missing (sudo apt install qttools5-dev-tools); translations are not compiled")
        return []
    folder = BUILD / "i18n"
    folder.mkdir(parents=True, exist_ok=True)
    compiled = []
    for source in sources:
        target = folder / f"{source.stem}.qm"
        answer = subprocess.run(
            [tool, "-silent", str(source), "-qm", str(target)], capture_output=True, text=True, check=False
        )
        if answer.returncode != 0 or not target.exists():
            problems.append(f"{source.name} cannot be compiled: {(answer.stderr or answer.stdout).strip()}")
        else:
            compiled.append(target)
    return compiled


def read_metadata(path: Path) -> dict[str, str]:
    """Return the members of the ``[general]`` section of a metadata.txt."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path, encoding="utf-8")
    return dict(parser["general"]) if parser.has_section("general") else {}


def check_archive(archive: Path) -> List[str]:
    """Return what the plugin site would refuse about the zip; nothing if it is fit."""
    problems: List[str] = []
    if archive.stat().st_size > LIMIT:
        problems.append(f"{archive.name} is larger than 25 MB")
    with zipfile.ZipFile(archive) as stream:
        names = stream.namelist()
        for name in names:
            problems += _check_name(name)
        tops = {name.split("/")[0] for name in names}
        if len(tops) != 1:
            problems.append(f"the zip holds {len(tops)} top folders instead of one: {', '.join(sorted(tops))}")
        top = sorted(tops)[0] if tops else PACKAGE
        for needed in ("metadata.txt", "__init__.py", "LICENSE"):
            if f"{top}/{needed}" not in names:
                problems.append(f"{needed} is missing")
        if not top.isidentifier() or "plugin" in top.lower():
            problems.append(f"“{top}” is no name for a plugin folder")
        with tempfile.TemporaryDirectory() as folder:
            if f"{top}/metadata.txt" in names:
                written = Path(folder) / "metadata.txt"
                written.write_bytes(stream.read(f"{top}/metadata.txt"))
                problems += check_metadata(read_metadata(written), top, names)
    return problems


def _check_name(name: str) -> List[str]:
    parts = name.split("/")
    inner = parts[1:]
    if ".." in parts or "\\" in name or ":" in name or name.startswith("/"):
        return [f"{name} is not a name the site accepts"]
    if any(part in FORBIDDEN_PARTS for part in inner) or any(part.startswith(".") for part in inner):
        return [f"{name} must not be shipped"]
    if name.lower().endswith(FORBIDDEN_SUFFIXES) or GENERATED.match(parts[-1]):
        return [f"{name} is of a kind that must not be shipped"]
    return []


def check_metadata(metadata: dict[str, str], top: str, names: List[str]) -> List[str]:
    """Return what is wrong with the members of metadata.txt."""
    problems = [f"metadata.txt lacks {name}" for name in REQUIRED if not metadata.get(name, "").strip()]
    for name in ("name", "description", "about"):
        if re.search(r"<\w+[^>]*>", metadata.get(name, "")):
            problems.append(f"metadata.txt: {name} holds HTML")
    if "plugin" in metadata.get("name", "").lower():
        problems.append("metadata.txt: the name must not hold the word plugin")
    if "/" in metadata.get("author", ""):
        problems.append("metadata.txt: the author must not hold a slash")
    if "supportsQt6" in metadata:
        problems.append("metadata.txt: supportsQt6 is deprecated")
    if metadata.get("hasProcessingProvider") != "yes":
        problems.append("metadata.txt: hasProcessingProvider must be yes, or qgis_process does not load it")
    icon = metadata.get("icon", "")
    if icon and f"{top}/{icon}" not in names:
        problems.append(f"metadata.txt: the icon {icon} is not in the zip")
    for path, pattern in (("pyproject.toml", r'^version = "(.+)"'), ("engine/__init__.py", r'^__version__ = "(.+)"')):
        found = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        if found and found.group(1) != metadata.get("version"):
            problems.append(f"{path} says version {found.group(1)}, metadata.txt {metadata.get('version')}")
    return problems


def scan(archive: Path, lint_python: str) -> List[str]:
    """Run bandit and detect-secrets over the unpacked zip, as the site does, and return their findings."""
    problems: List[str] = []
    with tempfile.TemporaryDirectory(prefix="deep_raster_") as folder:
        with zipfile.ZipFile(archive) as stream:
            stream.extractall(folder)  # our own archive, written a moment ago
        bandit = [lint_python, "-m", "bandit", "-q", "-r", PACKAGE, "-f", "json", "--skip", "B404"]
        answer = subprocess.run(bandit, cwd=folder, capture_output=True, text=True, check=False)
        found = json.loads(answer.stdout)
        for one in found["results"]:
            where = f"{one['filename']}:{one['line_number']}"
            problems.append(f"bandit {one['test_id']}: {where}: {one['issue_text']}")
        problems += [f"bandit: {one['filename']}: {one['reason']}" for one in found["errors"]]
        secrets = [lint_python, "-m", "detect_secrets", "scan", "--all-files", PACKAGE]
        answer = subprocess.run(secrets, cwd=folder, capture_output=True, text=True, check=True)
        for name, findings in json.loads(answer.stdout)["results"].items():
            problems += [f"detect-secrets: {name}:{one['line_number']}: {one['type']}" for one in findings]
    return problems
