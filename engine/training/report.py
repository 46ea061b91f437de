"""The report of a training as one HTML page without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import Mapping, Sequence

from .metrics import ClassFigures
from .pictures import data_url

_WIDTH, _HEIGHT, _MARGIN = 640, 300, 48
_COLOURS = ("#1f6fb2", "#d1661a", "#2e8b57", "#7a5195")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } svg, img { max-width: 100%; height: auto; }
.note { color: #555; }
"""


@dataclass(frozen=True)
class ReportContent:
    """What the report tells.

    Attributes:
        name: of the model.
        facts: what was trained and how, label to text.
        history: figures of each epoch.
        monitor: the figure that decided about the best epoch.
        best_epoch: counted from 1.
        rows: figures per class at the best epoch; empty without validation.
        examples: PNG, or empty.
        problems: sentences on chips that were passed over.
    """

    name: str
    facts: Mapping[str, str]
    history: Sequence[Mapping[str, float]]
    monitor: str
    best_epoch: int
    rows: Sequence[ClassFigures]
    examples: bytes
    problems: Sequence[str]


def render(content: ReportContent) -> str:
    """Return the whole page."""
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Training of {html.escape(content.name)}</title>
<style>{_STYLE}</style></head>
<body>
{fragment(content)}
</body></html>
"""


def fragment(content: ReportContent) -> str:
    """Return the page without its frame, as model packages carry it."""
    facts = "".join(
        f"<tr><td>{html.escape(label)}</td><td>{html.escape(text)}</td></tr>" for label, text in content.facts.items()
    )
    parts = [f"<h1>Training of {html.escape(content.name)}</h1>", f"<table>{facts}</table>"]
    parts.append("<h2>Training and validation loss</h2>" + chart(content.history, ("train_loss", "valid_loss")))
    figures = sorted({name for one in content.history for name in one} - {"train_loss", "valid_loss", "learning_rate"})
    if figures:
        parts.append(
            f"<h2>Quality on the chips held back</h2>{chart(content.history, figures)}"
            f'<p class="note">The weights of epoch {content.best_epoch} are in the package: '
            f"{html.escape(_label(content.monitor))} is best there.</p>"
        )
    if content.rows:
        parts.append(f"<h2>Analysis of the model</h2>{_table(content.rows)}")
    if content.examples:
        parts.append(
            '<h2>Sample results</h2><p class="note">Left what is labelled, right what the network says.</p>'
            f'<img alt="Labels and predictions" src="{data_url(content.examples)}">'
        )
    if content.problems:
        shown = "".join(f"<li>{html.escape(one)}</li>" for one in content.problems[:50])
        more = f"<p>and {len(content.problems) - 50} more</p>" if len(content.problems) > 50 else ""
        parts.append(f"<h2>Chips passed over</h2><ul>{shown}</ul>{more}")
    return "\n".join(parts)


def _table(rows: Sequence[ClassFigures]) -> str:
    names = list(rows[0].figures)
    heads = "".join(f"<th>{html.escape(_label(name))}</th>" for name in names)
    lines = "".join(
        f"<tr><td>{html.escape(row.name)}</td><td>{row.count}</td>"
        + "".join(f"<td>{_figure(row.figures[name])}</td>" for name in names)
        + "</tr>"
        for row in rows
    )
    return f"<table><tr><th>Class</th><th>Labelled</th>{heads}</tr>{lines}</table>"


def _label(name: str) -> str:
    words = {"miou": "mean IoU", "f1_score": "F1", "iou": "IoU", "valid_loss": "validation loss"}
    return words.get(name, name.replace("_", " "))


def _figure(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "n/a"


def chart(history: Sequence[Mapping[str, float]], names: Sequence[str]) -> str:
    """Return curves over the epochs as an inline SVG picture; epochs without a figure interrupt its curve."""
    known = [one[name] for one in history for name in names if math.isfinite(one.get(name, math.nan))]
    if not known:
        return '<p class="note">No figures.</p>'
    high, low = max(known), min(0.0, min(known))
    high = high if high > low else low + 1.0
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">']
    for step in range(5):
        value = low + (high - low) * step / 4
        y = _HEIGHT - _MARGIN - height * step / 4
        parts.append(
            f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>'
            f'<text x="{_MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end" font-size="12">{value:.3g}</text>'
        )
    for place, name in enumerate(names):
        color = _COLOURS[place % len(_COLOURS)]
        path, pen = "", "M"
        for epoch, one in enumerate(history):
            value = one.get(name, math.nan)
            if not math.isfinite(value):
                pen = "M"
                continue
            x = _MARGIN + (width * epoch / (len(history) - 1) if len(history) > 1 else width / 2)
            y = _HEIGHT - _MARGIN - height * (value - low) / (high - low)
            path += f"{pen}{x:.1f} {y:.1f} "
            pen = "L"
        parts.append(
            f'<path d="{path.strip()}" fill="none" stroke="{color}" stroke-width="2" stroke-linecap="round"/>'
            f'<text x="{_MARGIN + 8 + place * 150}" y="20" font-size="13" fill="{color}">'
            f"{html.escape(_label(name))}</text>"
        )
    parts.append(
        f'<text x="{_MARGIN}" y="{_HEIGHT - 24}" font-size="12" text-anchor="middle">1</text>'
        f'<text x="{_WIDTH - _MARGIN}" y="{_HEIGHT - 24}" font-size="12" text-anchor="middle">{len(history)}</text>'
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle" font-size="13">epoch</text></svg>'
    )
    return "".join(parts)
