"""What the sources of QGIS's side say about Qt and QGIS, read from their syntax alone."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Use:
    """A dotted name in a source; ``module`` and ``name`` say where its first part is imported from."""

    where: str
    module: str
    name: str
    attributes: Tuple[str, ...]


def sources() -> List[Path]:
    """Return the Python files that run inside QGIS."""
    return [
        ROOT / "__init__.py",
        *(one for folder in ("processing_provider", "plugin") for one in sorted((ROOT / folder).rglob("*.py"))),
    ]


def trees() -> Iterator[Tuple[str, ast.Module]]:
    """Yield (path from the root, syntax tree)."""
    for path in sources():
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.Module, package: str) -> Dict[str, Tuple[str, str]]:
    """Return {name here: (module, name there)} of what a tree imports from a package or the modules in it."""
    return {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 0 and f"{node.module}.".startswith(f"{package}.")
        for alias in node.names
    }


def uses(where: str, tree: ast.Module, package: str) -> List[Use]:
    """Return the imports from a package, and each chain of attributes on what was imported, longest ones only."""
    known = imported(tree, package)
    found = [Use(where, module, name, ()) for module, name in known.values()]
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            start, attributes = chain(node)
            if start in known:
                found.append(Use(f"{where}:{node.lineno}", *known[start], attributes))
    return found


def chain(node: ast.expr) -> Tuple[str, Tuple[str, ...]]:
    """Return (first name, attributes) of a dotted expression; the name is empty if it starts with something else."""
    attributes: List[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return node.id if isinstance(node, ast.Name) else "", tuple(reversed(attributes))


def translated() -> Iterator[Tuple[str, ast.Call]]:
    """Yield (place, call) of each ``tr(…)``."""
    for where, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr":
                yield f"{where}:{node.lineno}", node
