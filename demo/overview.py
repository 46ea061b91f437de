"""Draw the demo's overview picture with QGIS's own renderer; run by QGIS's Python, without a screen.

``overview.py PLAN.json`` draws what the plan says: ``output`` (a PNG) and ``panels``, each with a ``title`` and
``layers`` from top to bottom: features with ``path``, ``colour`` of their outlines and ``name`` for the legend, or a
raster with ``path`` and, if it has to be stretched, its ``bands`` for red, green and blue. A raster with category names
gets them as its legend.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
from qgis.core import (
    QgsApplication,
    QgsContrastEnhancement,
    QgsFillSymbol,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsMultiBandColorRenderer,
    QgsPalettedRasterRenderer,
    QgsRasterLayer,
    QgsSingleSymbolRenderer,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QPoint, QRect, QSize, Qt
from qgis.PyQt.QtGui import QColor, QFont, QImage, QPainter, QPen

PANEL = 1150
MARGIN = 24
TITLE = 44
LEGEND = 40
COLUMNS = 2
Entry = Tuple[str, QColor, bool]  # name, colour, filled


def main(plan_path: str) -> int:
    """Draw the picture of the plan; return the exit code."""
    plan: Dict[str, Any] = json.loads(Path(plan_path).read_text(encoding="utf-8"))
    application = QgsApplication([], True)
    application.initQgis()
    try:
        drawn = [_panel(one) for one in plan["panels"]]
        _arrange(drawn).save(plan["output"])
    finally:
        application.exitQgis()
    return 0 if Path(plan["output"]).exists() else 1


def _panel(panel: Dict[str, Any]) -> Tuple[str, QImage, List[Entry]]:
    """Render one panel; return its title, picture and legend."""
    layers = []
    legend: List[Entry] = []
    for one in panel["layers"]:
        layer, entries = _vector(one) if one.get("colour") else _raster(one)
        if not layer.isValid():
            raise SystemExit(f"{one['path']} cannot be drawn")
        layers.append(layer)
        legend += entries
    extent = layers[-1].extent()
    settings = QgsMapSettings()
    settings.setLayers(layers)
    settings.setDestinationCrs(layers[-1].crs())
    settings.setBackgroundColor(QColor(255, 255, 255))
    settings.setOutputDpi(96)
    settings.setOutputSize(QSize(PANEL, max(1, round(PANEL * extent.height() / extent.width()))))
    settings.setExtent(extent)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    return panel["title"], job.renderedImage(), legend


def _vector(one: Dict[str, Any]) -> Tuple[QgsVectorLayer, List[Entry]]:
    layer = QgsVectorLayer(one["path"], one["name"], "ogr")
    outline = {
        "style": "no",
        "outline_color": one["colour"],
        "outline_width": str(one.get("width", 2)),
        "outline_width_unit": "Pixel",
        "outline_style": one.get("line", "solid"),
        "joinstyle": "miter",
    }
    layer.setRenderer(QgsSingleSymbolRenderer(QgsFillSymbol.createSimple(outline)))
    return layer, [(f"{one['name']} ({layer.featureCount()})", QColor(one["colour"]), False)]


def _raster(one: Dict[str, Any]) -> Tuple[QgsRasterLayer, List[Entry]]:
    layer = QgsRasterLayer(one["path"], one.get("name", ""), "gdal")
    renderer = layer.renderer()
    if isinstance(renderer, QgsPalettedRasterRenderer):
        # Only classes with a name: a colour table lists all 256 values.
        return layer, [(each.label, each.color, True) for each in renderer.classes() if not each.label.isdigit()]
    if one.get("bands"):
        layer.setRenderer(_stretched(layer, one["bands"]))
    return layer, []


def _stretched(layer: QgsRasterLayer, bands: List[int]) -> QgsMultiBandColorRenderer:
    """Return a colour renderer of 16-bit bands, each stretched between its 2nd and 98th percentile."""
    provider = layer.dataProvider()
    renderer = QgsMultiBandColorRenderer(provider, *bands)
    setters = (
        renderer.setRedContrastEnhancement,
        renderer.setGreenContrastEnhancement,
        renderer.setBlueContrastEnhancement,
    )
    for band, set_enhancement in zip(bands, setters):
        block = provider.block(band, layer.extent(), 500, 500)
        values = np.frombuffer(bytes(block.data()), dtype=np.uint16)
        low, high = np.percentile(values[values > 0], (2, 98))
        enhancement = QgsContrastEnhancement(provider.dataType(band))
        enhancement.setMinimumValue(float(low))
        enhancement.setMaximumValue(float(high))
        enhancement.setContrastEnhancementAlgorithm(
            QgsContrastEnhancement.ContrastEnhancementAlgorithm.StretchToMinimumMaximum
        )
        set_enhancement(enhancement)
    return renderer


def _arrange(panels: List[Tuple[str, QImage, List[Entry]]]) -> QImage:
    """Put the panels in rows, each below its title and above its legend."""
    rows = [panels[start : start + COLUMNS] for start in range(0, len(panels), COLUMNS)]
    heights = [max(image.height() for _title, image, _legend in row) + TITLE + LEGEND + MARGIN for row in rows]
    picture = QImage(COLUMNS * (PANEL + MARGIN) + MARGIN, sum(heights) + MARGIN, QImage.Format.Format_RGB32)
    picture.fill(QColor(255, 255, 255))
    painter = QPainter(picture)
    painter.setRenderHint(QPainter.RenderHint.TextAntialiasing)
    top = MARGIN
    for row, height in zip(rows, heights):
        for column, (title, image, legend) in enumerate(row):
            left = MARGIN + column * (PANEL + MARGIN)
            painter.setPen(QColor(30, 30, 30))
            painter.setFont(_font(22, bold=True))
            painter.drawText(QRect(left, top, PANEL, TITLE), Qt.AlignmentFlag.AlignVCenter, title)
            painter.drawImage(QPoint(left, top + TITLE), image)
            _draw_legend(painter, left, top + TITLE + image.height(), legend)
        top += height
    painter.end()
    return picture


def _draw_legend(painter: QPainter, left: int, top: int, legend: List[Entry]) -> None:
    painter.setFont(_font(18))
    for name, colour, filled in legend:
        box = QRect(left, top + 11, 26, 18)
        if filled:
            painter.fillRect(box, colour)
        painter.setPen(QPen(colour if not filled else QColor(90, 90, 90), 3 if not filled else 1))
        painter.drawRect(box)
        painter.setPen(QColor(30, 30, 30))
        width = painter.fontMetrics().horizontalAdvance(name)
        painter.drawText(QRect(left + 36, top, width + 4, LEGEND), Qt.AlignmentFlag.AlignVCenter, name)
        left += width + 70


def _font(pixels: int, *, bold: bool = False) -> QFont:
    font = QFont("Open Sans")
    font.setPixelSize(pixels)
    font.setBold(bold)
    return font


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
