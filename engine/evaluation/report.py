"""The accuracy report as one HTML page without scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

import html
from typing import List, Sequence

import numpy as np

from .accuracy import AccuracyResult
from .matching import ClassAccuracy, Curve

_COLOURS = ("#1f6fb2", "#d1661a", "#2e8b57", "#b23a48", "#7a5195", "#8c6d31", "#3f8f9b", "#8a8a8a")
_WIDTH, _HEIGHT, _MARGIN = 560, 380, 48
# A browser draws no more points than that side by side; a million detections would only make the page heavy.
_MAX_POINTS = 400

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } th, td { padding: .3rem .8rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr.all td { font-weight: 600; border-top: 2px solid #888; }
svg { max-width: 100%; height: auto; } .note { color: #555; }
"""


def render(result: AccuracyResult, detected: str, reference: str) -> str:
    """Return the page; ``detected`` and ``reference`` are the names of the two layers."""
    rows = "\n".join(_row(one) for one in result.classes) + "\n" + _row(result.overall, "all")
    limits = "".join(f"<td>{_figure(value)}</td>" for value in result.limits.values())
    heads = "".join(f"<th>{limit:.2f}</th>" for limit in result.limits)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Accuracy of detected objects</title><style>{_STYLE}</style></head>
<body>
<h1>Accuracy of detected objects</h1>
<p>Detected: <b>{html.escape(detected)}</b><br>Reference: <b>{html.escape(reference)}</b><br>
A detection is right if it overlaps a reference object of its class, not yet taken by a more confident one,
with an intersection over union of at least <b>{result.min_iou:g}</b>.</p>
<h2>At IoU {result.min_iou:g}</h2>
<table><tr><th>Class</th><th>Right</th><th>Wrong</th><th>Missed</th><th>Precision</th><th>Recall</th><th>F1</th>
<th>AP</th></tr>
{rows}
</table>
<p class="note">AP of all classes is the mean over the classes (mAP).</p>
<h2>Precision and recall</h2>
{_chart(list(result.classes) if len(result.classes) <= len(_COLOURS) else [result.overall])}
<h2>mAP by IoU limit</h2>
<table><tr>{heads}<th>mean</th></tr><tr>{limits}<td><b>{_figure(result.map_coco)}</b></td></tr></table>
</body></html>
"""


def _row(one: ClassAccuracy, css: str = "") -> str:
    counts = f"<td>{one.true_positive}</td><td>{one.false_positive}</td><td>{one.false_negative}</td>"
    figures = "".join(
        f"<td>{_figure(value)}</td>" for value in (one.precision, one.recall, one.f1, one.average_precision)
    )
    return f'<tr class="{css}"><td>{html.escape(one.name)}</td>{counts}{figures}</tr>'


def _figure(value: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.3f}"


def _chart(curves: Sequence[ClassAccuracy]) -> str:
    """Return the precision–recall curves as an inline SVG picture."""
    inner_w, inner_h = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    parts: List[str] = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">']
    for step in range(6):
        value = step / 5
        x, y = _MARGIN + value * inner_w, _HEIGHT - _MARGIN - value * inner_h
        parts.append(
            f'<line x1="{_MARGIN}" x2="{_WIDTH - _MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>'
            f'<text x="{_MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end" font-size="12">{value:.1f}</text>'
            f'<text x="{x:.1f}" y="{_HEIGHT - _MARGIN + 18}" text-anchor="middle" font-size="12">{value:.1f}</text>'
        )
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 8}" text-anchor="middle" font-size="13">recall</text>')
    parts.append(
        f'<text x="14" y="{_HEIGHT / 2}" text-anchor="middle" font-size="13" '
        f'transform="rotate(-90 14 {_HEIGHT / 2})">precision</text>'
    )
    for number, one in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{_MARGIN + x * inner_w:.1f},{_HEIGHT - _MARGIN - y * inner_h:.1f}" for x, y in _points(one.curve)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = _MARGIN + 4 + 17 * number
        parts.append(
            f'<rect x="{_WIDTH - _MARGIN - 150}" y="{y - 9}" width="10" height="10" fill="{colour}"/>'
            f'<text x="{_WIDTH - _MARGIN - 134}" y="{y}" font-size="12">{html.escape(one.name)} '
            f"(AP {_figure(one.average_precision)})</text>"
        )
    return "".join(parts) + "</svg>"


def _points(curve: Curve) -> List[List[float]]:
    """Return at most :data:`_MAX_POINTS` points (recall, precision) of a curve, its ends among them."""
    if len(curve.recall) == 0 or np.isnan(curve.recall).all():
        return []
    pick = np.unique(np.linspace(0, len(curve.recall) - 1, _MAX_POINTS).astype(int))
    points: List[List[float]] = np.column_stack([curve.recall[pick], curve.precision[pick]]).tolist()
    return points
