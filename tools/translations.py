"""Bring ``i18n/*.ts`` up to date with the sources: new texts are added as unfinished, texts that are gone are dropped.

Qt's own collectors file a text under the class around it; ours all belong to one context, through one function.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Dict, List
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from common import ROOT, say
from deep_raster.engine.package.argument_texts import TEXTS

CONTEXT = "DeepRaster"
FOLDERS = ("processing_provider", "plugin")


def main() -> int:
    """Rewrite all translation files; return 0 if nothing in them is left to translate."""
    texts = collect()
    left = 0
    for path in sorted((ROOT / "i18n").glob("deep_raster_*.ts")):
        known = read(path)
        missing = [one for one in texts if not known.get(one)]
        path.write_text(render(path.stem.rpartition("_")[2], {one: known.get(one, "") for one in texts}), "utf-8")
        say(f"{path.relative_to(ROOT)}: {len(texts)} texts, {len(missing)} to translate")
        left += len(missing)
    return 1 if left else 0


def collect() -> List[str]:
    """Return the texts given to ``tr()``, in the order of the sources, then those of the arguments; each once."""
    found: Dict[str, None] = {}
    for path in (one for folder in FOLDERS for one in sorted((ROOT / folder).rglob("*.py"))):
        calls = [
            node
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "tr"
        ]
        for call in sorted(calls, key=lambda one: (one.lineno, one.col_offset)):
            found[ast.literal_eval(call.args[0])] = None
    return list({**found, **dict.fromkeys(one for texts in TEXTS.values() for one in texts if one)})


def read(path: Path) -> Dict[str, str]:
    """Return translation by text of a file; unfinished ones are empty or a proposal."""
    messages = ElementTree.parse(path).getroot().iter("message")  # noqa: S314 - our own file
    return {one.findtext("source") or "": one.findtext("translation") or "" for one in messages}


def render(language: str, translations: Dict[str, str]) -> str:
    """Return the content of a translation file."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<!DOCTYPE TS>"]
    lines += [f'<TS version="2.1" language={quoteattr(language)} sourcelanguage="en">', "<context>"]
    lines.append(f"    <name>{CONTEXT}</name>")
    for text, translation in translations.items():
        lines += ["    <message>", f"        <source>{escape(text)}</source>"]
        state = "" if translation else ' type="unfinished"'
        lines += [f"        <translation{state}>{escape(translation)}</translation>", "    </message>"]
    return "\n".join([*lines, "</context>", "</TS>", ""])
