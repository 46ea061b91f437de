"""The card of a package: everything that can be known without running anything, as JSON and as a page for people.

All texts of a package are foreign: the page escapes every one of them, loads nothing, and runs no script.
"""

from __future__ import annotations

import json
from html import escape
from importlib.util import find_spec
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

from ..errors import DeepRasterError
from . import formats, vocabulary
from .declared import package_parameters
from .lenient import clip
from .opening import ModelPackage
from .trust import Verdict

# framework -> (what people call it, module to look for, name of the set-up's choice)
_FRAMEWORKS: Dict[str, Tuple[str, str, str]] = {
    "PyTorch": ("PyTorch", "torch", "pytorch"),
    vocabulary.ARCGIS_LEARN: ("PyTorch", "torch", "pytorch"),
    "TorchScript": ("PyTorch", "torch", "pytorch"),
    "TorchExport": ("PyTorch", "torch", "pytorch"),
    "TensorFlow": ("TensorFlow", "tensorflow", "tensorflow"),
    "Keras": ("TensorFlow with Keras", "tensorflow", "tensorflow"),
    "ONNX": ("ONNX Runtime", "onnxruntime", "onnx"),
}
_METRICS = [
    "accuracy",
    "average_precision_score",
    "precision",
    "recall",
    "f1",
    "mIoU",
    "PSNR",
    "SSIM",
    "FID",
    "FID_A",
    "FID_B",
    "score",
    "panoptic_quality",
    "per_class_metrics",
    "Metrics",
]


def build_card(
    package: ModelPackage, verdict: Optional[Verdict] = None, protection: str = "", *, here: bool = True
) -> Dict[str, Any]:
    """Return the card as JSON-ready members.

    Args:
        package: an opened package.
        verdict: whether its code may run (:func:`.trust.verdict`).
        protection: sentence on what confines foreign code on this system.
        here: whether this interpreter is the engine's, so that frameworks can be looked for in it.
    """
    definition = package.definition
    findings = _findings(package)
    card: Dict[str, Any] = {
        "name": package.name,
        "path": str(package.path),
        "hash": package.digest,
        "title": _text(definition.get("ModelName", package.name)),
        "description": _text(definition.get("Description", "")),
        "version": _text(definition.get("Version", "")),
        "type": definition.model_type,
        "tools": list(definition.tools),
        "framework": _framework(package, here),
        "configuration": definition.configuration,
        "inference_function": definition.inference_function,
        "classes": [
            {"value": one.value, "name": one.name, "color": list(one.color) if one.color else None}
            for one in definition.classes
        ],
        "bands": list(definition.extract_bands),
        "band_names": definition.get("Bands") if isinstance(definition.get("Bands"), list) else None,
        "range": _range(package),
        "cell_size": _cell_sizes(package),
        "tile_size": [definition.image_width, definition.image_height],
        "variable_tile_size": definition.supports_variable_tile_size,
        "arguments": [
            {
                "name": one.name,
                "kind": one.kind,
                "default": one.default,
                "label": one.label,
                "choices": list(one.choices),
            }
            for one in package_parameters(package)
        ],
        "metrics": _metrics(package),
        "files": [{"name": one.name, "size": one.size, "sha256": one.sha256} for one in package.files],
        "code": list(package.code),
        "findings": findings,
        "protection": protection,
    }
    if verdict is not None:
        card["trust"] = {"allowed": verdict.allowed, "source": verdict.source, "sentence": verdict.sentence}
        card["trust"]["hint"] = verdict.hint
    return card


def _text(value: Any) -> str:
    return clip(value, 2_000)


def _framework(package: ModelPackage, here: bool) -> Dict[str, Any]:
    name = package.definition.framework
    label, module, choice = _FRAMEWORKS.get(name, (name or "custom code", "", ""))
    found: Optional[bool] = None
    if here and module:
        try:
            found = find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
    return {"name": name, "needs": label, "available": found, "choice": choice}


def _range(package: ModelPackage) -> Optional[Dict[str, Any]]:
    """Return the pixel values that the network expects, per band where they are known."""
    definition = package.definition
    if definition.data_range is not None:
        return {"source": "DataRange", "minimum": definition.data_range[0], "maximum": definition.data_range[1]}
    for key, low, high in (
        ("NormalizationStats", "band_min_values", "band_max_values"),
        ("Normalization", "Min", "Max"),
    ):
        stated = definition.get(key)
        if isinstance(stated, dict) and isinstance(stated.get(low), list) and isinstance(stated.get(high), list):
            return {"source": key, "minimum": stated[low], "maximum": stated[high]}
    if definition.get("IsImageNetNormalization") is True and definition.get("NormalizationStats") is None:
        return {"source": "IsImageNetNormalization", "minimum": 0, "maximum": 255}
    return None


def _cell_sizes(package: ModelPackage) -> Dict[str, Any]:
    low, high = package.definition.min_cell_size, package.definition.max_cell_size
    return {
        "minimum": [low.x, low.y, low.crs] if low else None,
        "maximum": [high.x, high.y, high.crs] if high else None,
    }


def _metrics(package: ModelPackage) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in package.definition.members.items():
        if value is None or not (key in _METRICS or key.startswith("monitored_")):
            continue
        if key == "per_class_metrics" and isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = _text(value)
        found[key] = value
    return found


def _findings(package: ModelPackage) -> List[Dict[str, str]]:
    """Return what the checks found, each with a level: info, warning or problem."""
    found = [{"level": "warning", "text": one} for one in package.warnings]
    definition = package.definition
    if not definition.tools:
        word = clip(definition.model_type or "none")
        found.append({"level": "problem", "text": f"No tool accepts models of the type “{word}”."})
    if definition.get("PerProcessGPUMemoryFraction") is not None:
        note = "PerProcessGPUMemoryFraction is not needed: memory of a GPU is taken as the network asks for it."
        found.append({"level": "info", "text": note})
    if definition.framework == "CNTK":
        found.append({"level": "problem", "text": "CNTK was withdrawn by its makers; its models cannot be run."})
    if not definition.classes and definition.model_type in ("ObjectDetection", "ImageClassification"):
        found.append({"level": "info", "text": "The definition names no classes."})
    if definition.model_file and definition.model_file != ".":
        found += _weights_findings(package)
    compiled = [one.name for one in package.files if one.name.casefold().endswith((".so", ".pyd", ".dll", ".pyc"))]
    if compiled:
        listed = ", ".join(clip(name, 40) for name in compiled[:5])
        found.append({"level": "warning", "text": f"It brings compiled code that nobody can read: {listed}."})
    return found


def _weights_findings(package: ModelPackage) -> List[Dict[str, str]]:
    try:
        path = package.file(package.definition.model_file)
        kind = formats.detect(path)
        unusual = formats.unusual_globals(path) if not path.is_dir() else ()
    except DeepRasterError as error:
        return [{"level": "warning", "text": error.message}]
    found = [{"level": "info", "text": f"The weights are: {kind.description}."}]
    if kind.kind in (formats.PICKLE, formats.AOT):
        found.append({"level": "problem", "text": f"A {kind.description} is never loaded, because it is a program."})
    elif kind.kind == formats.TORCHSCRIPT:
        found.append({"level": "warning", "text": "TorchScript is a program; it is loaded only with your consent."})
    elif kind.kind == formats.PT2:
        found.append({"level": "info", "text": "The exported program is read as data; no code of it is run."})
    elif kind.kind == formats.UNKNOWN:
        found.append({"level": "problem", "text": f"ModelFile is {kind.description}."})
    if unusual:
        listed = ", ".join(clip(name, 60) for name in unusual[:5])
        found.append(
            {"level": "problem", "text": f"The weights ask for {listed}, which no weights need; loading will refuse."}
        )
    return found


def card_json(card: Dict[str, Any]) -> str:
    """Return the card as JSON text."""
    return json.dumps(card, indent=2, ensure_ascii=False) + "\n"


_STYLE = (
    "body{font-family:sans-serif;max-width:60em;margin:1.5em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.5em 0}td,th{text-align:left;padding:.2em .8em .2em 0;vertical-align:top}"
    "th{font-weight:600}.swatch{display:inline-block;width:1em;height:1em;border:1px solid #888}"
    ".problem{color:#a40000}.warning{color:#8a5a00}code{overflow-wrap:anywhere}"
)


def card_html(card: Dict[str, Any]) -> str:
    """Return the card as a page that stands alone."""
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>{_html(card['name'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_html(card['name'])}</h1>",
        f"<p>{_html(card['description'])}</p>" if card["description"] else "",
        _table(_facts(card)),
        _classes_html(card["classes"]),
        _section("Arguments", [(one["name"], one["default"], one["label"]) for one in card["arguments"]]),
        _section("Figures", [(name, _short(value)) for name, value in card["metrics"].items()]),
        _trust_html(card),
        _findings_html(card["findings"]),
        _section("Files", [(one["name"], _size(one["size"])) for one in card["files"]]),
        "</body></html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _facts(card: Dict[str, Any]) -> List[Tuple[str, str]]:
    framework = card["framework"]
    state = {True: " (installed)", False: " (not installed)", None: ""}[framework["available"]]
    bands = ", ".join(str(one) for one in card["bands"]) or "not stated"
    width, height = card["tile_size"]
    facts = [
        ("Model", card["title"]),
        ("Type", card["type"] or "not stated"),
        ("For the tools", ", ".join(card["tools"]) or "none"),
        ("Framework", f"{framework['needs']}{state}"),
        ("Configuration", card["configuration"] or card["inference_function"] or "none"),
        ("Bands", f"{bands} (0 is the first)" if card["bands"] else bands),
        ("Pixel values", _range_text(card["range"])),
        ("Cell size", _cell_text(card["cell_size"])),
        ("Tile size", f"{width} × {height} pixels" if width else "not stated"),
        ("Hash", card["hash"]),
    ]
    return [fact for fact in facts if fact[1]]


def _range_text(stated: Optional[Dict[str, Any]]) -> str:
    if stated is None:
        return "not stated"
    return f"{_short(stated['minimum'])} to {_short(stated['maximum'])} ({stated['source']})"


def _cell_text(stated: Dict[str, Any]) -> str:
    texts = [f"{one[0]:g} × {one[1]:g} {clip(one[2], 30)}".strip() for one in stated.values() if one]
    return " to ".join(dict.fromkeys(texts)) or "not stated"


def _classes_html(classes: Sequence[Dict[str, Any]]) -> str:
    if not classes:
        return ""
    rows = []
    for one in classes[:500]:
        swatch = ""
        if one["color"]:
            red, green, blue = (int(part) for part in one["color"])
            swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        rows.append(f"<tr><td>{swatch}</td><td>{int(one['value'])}</td><td>{_html(one['name'])}</td></tr>")
    more = f"<p>… and {len(classes) - 500} more</p>" if len(classes) > 500 else ""
    return f"<h2>Classes</h2><table>{''.join(rows)}</table>{more}"


def _trust_html(card: Dict[str, Any]) -> str:
    trust = card.get("trust")
    lines = [trust["sentence"], trust["hint"]] if trust else []
    lines += [card["protection"]] if card["protection"] else []
    text = "".join(f"<p>{_html(line)}</p>" for line in lines if line)
    return f"<h2>Code and trust</h2>{text}" if text else ""


def _findings_html(findings: Iterable[Dict[str, str]]) -> str:
    rows = [f'<li class="{_html(one["level"])}">{_html(one["text"])}</li>' for one in findings]
    return f"<h2>Findings of the checks</h2><ul>{''.join(rows)}</ul>" if rows else ""


def _section(title: str, rows: Sequence[Tuple[Any, ...]]) -> str:
    return f"<h2>{title}</h2>{_table(rows)}" if rows else ""


def _table(rows: Iterable[Tuple[Any, ...]]) -> str:
    lines = []
    for first, *others in rows:
        cells = "".join(f"<td>{_html(one)}</td>" for one in others)
        lines.append(f"<tr><th>{_html(first)}</th>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _html(value: Any) -> str:
    return escape(clip(value, 4_000), quote=True)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "[" + ", ".join(_short(one) for one in value[:12]) + (", …]" if len(value) > 12 else "]")
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_short(one)}" for key, one in list(value.items())[:12])
    return clip(value, 200)


def _size(size: int) -> str:
    for unit in ("bytes", "KB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size = size / 1_000  # type: ignore[assignment]
    return f"{size:.1f} GB"
