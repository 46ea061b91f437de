"""The editor of ARGUMENTS: follows MODEL and shows what the chosen model declares.

Underneath the value is plain text, so commands, models and batches need no widget: the dialog shows typed editors, the
batch table a line, the modeler a box that takes text or another input.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping

from processing.gui.wrappers import DIALOG_BATCH, DIALOG_MODELER, WidgetWrapper
from qgis.core import QgsApplication, QgsProcessingOutputString, QgsProcessingParameterString
from qgis.gui import QgsCollapsibleGroupBox
from qgis.PyQt.QtWidgets import QComboBox, QLabel, QLineEdit, QVBoxLayout, QWidget

from ...engine.errors import DeepRasterError
from ...engine.package.emd import ModelDefinition
from ...engine.package.host_arguments import host_parameters
from ...engine.package.parameters import parse_arguments
from ...engine.package.peek import peek_definition, peek_parameters
from ...processing_provider.text import tr
from .argument_table import ArgumentTable

MODEL = "MODEL"


def to_text(values: Mapping[str, str]) -> str:
    """Return values as ``name=value;name=value``, or as JSON where a value would break that."""
    if any(";" in value or value != value.strip() for value in values.values()):
        return json.dumps(dict(values), ensure_ascii=False)
    return ";".join(f"{name}={value}" for name, value in values.items())


class ArgumentsPanel(QWidget):
    """What the dialog shows: a line about the model, its arguments as a form, and those that every model has.

    A line of text takes the place of both forms as long as there is no model that can be read.
    """

    def __init__(self, tool: str = "") -> None:
        super().__init__()
        self._tool = tool
        self._model = ""
        self._others: Dict[str, str] = {}
        self.table, self.host = ArgumentTable(), ArgumentTable()
        self.line = QLineEdit()
        self.line.setPlaceholderText(tr("name=value;name=value"))
        self.warning = QLabel()
        self.warning.setWordWrap(True)
        self.warning.setStyleSheet("font-weight: bold")
        self.about = QLabel()
        self.about.setWordWrap(True)
        self._tiles = QgsCollapsibleGroupBox(tr("Tiles"))
        self._tiles.setObjectName("DeepRasterTiles")
        self._tiles.setToolTip(tr("How the raster is cut into tiles and how their answers are joined."))
        inside = QVBoxLayout(self._tiles)
        inside.addWidget(self.host)
        self._tiles.setCollapsed(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for one in (self.warning, self.about, self.line, self.table, self._tiles):
            layout.addWidget(one)
        for one in (self.warning, self.about, self.table, self._tiles):
            one.setVisible(False)

    @property
    def _has_form(self) -> bool:
        return bool(self.host.editors)

    def follow(self, model: str) -> None:
        """Show the arguments of a model; values of the same name are kept."""
        if model == self._model:
            return
        kept = self.values()
        self._model = model
        definition = self._definition(model)
        own = () if definition is None else peek_parameters(model)
        names = {one.name for one in own}
        host = () if definition is None else host_parameters(self._tool)
        self.table.show_parameters(own, kept)
        self.host.show_parameters([one for one in host if one.name not in names], kept)
        self.line.setVisible(not self._has_form)
        self.table.setVisible(bool(own))
        self._tiles.setVisible(self._has_form)
        self.set_text(to_text(kept))

    def _definition(self, model: str) -> Any:
        """Return the definition of the model and tell about it; None if it cannot be read."""
        definition = None
        if model:
            try:
                definition = peek_definition(model)
                self.about.setText(describe(definition))
            except DeepRasterError as error:
                self.about.setText(str(error))
        self.warning.setText("" if definition is None else misplaced(definition, self._tool))
        self.warning.setVisible(bool(self.warning.text()))
        self.about.setVisible(bool(model))
        return definition

    def values(self) -> Dict[str, str]:
        """Return the arguments that are not the defaults."""
        if self._has_form:
            return {**self._others, **self.table.values(), **self.host.values()}
        try:
            return dict(parse_arguments(self.line.text()))
        except DeepRasterError:
            return {}

    def text(self) -> str:
        """Return the parameter's value."""
        return to_text(self.values()) if self._has_form else self.line.text()

    def set_text(self, text: str) -> None:
        """Show a parameter's value; what no form has an editor for is kept, and the engine judges it."""
        self.line.setText(text)
        try:
            values = parse_arguments(text)
        except DeepRasterError:
            return
        self.table.set_values(values)
        self.host.set_values(values)
        known = self.table.names() | self.host.names()
        self._others = {name: value for name, value in values.items() if name not in known}
        if self.host.values():
            self._tiles.setCollapsed(False)


def misplaced(definition: ModelDefinition, tool: str) -> str:
    """Return the sentence for a model that another tool runs, empty if this one may."""
    if not tool or not definition.tools or tool in definition.tools:
        return ""
    sentences = {
        "detectobjects": tr("This model detects objects; use “{}”."),
        "classifypixels": tr("This model classifies pixels; use “{}”."),
        "classifyobjects": tr("This model classifies objects; use “{}”."),
    }
    right = definition.tools[0]
    algorithm = QgsApplication.processingRegistry().algorithmById(f"deepraster:{right}")
    return sentences[right].format(algorithm.displayName()) if algorithm is not None and right in sentences else ""


def describe(definition: ModelDefinition) -> str:
    """Return one line about a model: kind, classes, bands, tile size, framework."""
    parts = [definition.model_type or tr("Model")]
    names = [one.name for one in definition.classes]
    if names:
        shown = ", ".join(names[:4]) + (", …" if len(names) > 4 else "")
        parts.append(tr("{count} classes: {names}").format(count=len(names), names=shown) if len(names) > 1 else shown)
    if definition.extract_bands:
        parts.append(tr("bands {}").format(", ".join(_band(one) for one in definition.extract_bands[:8])))
    if definition.image_width and definition.image_height:
        parts.append(f"{definition.image_width} × {definition.image_height} px")
    if definition.framework:
        parts.append(definition.framework)
    return " · ".join(parts)


def _band(band: object) -> str:
    """Return a band as people count them, from 1; the definition counts from 0."""
    return str(band + 1) if isinstance(band, int) else str(band)


class ArgumentsWrapper(WidgetWrapper):
    """Connects the panel with Processing's dialogs."""

    def createWidget(self) -> QWidget:
        if self.dialogType == DIALOG_MODELER:
            widget = QComboBox()
            widget.setEditable(True)
            strings = self.dialog.getAvailableValuesOfType(QgsProcessingParameterString, QgsProcessingOutputString)
            for value in strings:
                widget.addItem(self.dialog.resolveValueDescription(value), value)
            widget.setEditText(self.parameterDefinition().defaultValue() or "")
            return widget
        if self.dialogType == DIALOG_BATCH:
            return QLineEdit()
        algorithm = self.parameterDefinition().algorithm()
        panel = ArgumentsPanel(algorithm.name() if algorithm is not None else "")
        panel.table.changed.connect(self._tell)
        panel.host.changed.connect(self._tell)
        panel.line.textChanged.connect(self._tell)
        return panel

    def _tell(self, *_: object) -> None:
        self.widgetValueHasChanged.emit(self)

    def postInitialize(self, wrappers: List[Any]) -> None:
        """Follow the MODEL parameter of the same dialog."""
        if not isinstance(self.widget, ArgumentsPanel):
            return
        for wrapper in wrappers:
            if wrapper.parameterDefinition().name() == MODEL:
                wrapper.widgetValueHasChanged.connect(self._model_changed)
                self._model_changed(wrapper)

    def _model_changed(self, wrapper: Any) -> None:
        self.widget.follow(str(wrapper.parameterValue() or "").strip())

    def setValue(self, value: Any) -> None:
        text = "" if value is None else str(value)
        if self.dialogType == DIALOG_MODELER:
            self.setComboValue(text)
        elif self.dialogType == DIALOG_BATCH:
            self.widget.setText(text)
        else:
            self.widget.set_text(text)

    def value(self) -> Any:
        if self.dialogType == DIALOG_MODELER:
            return self.comboValue()
        return self.widget.text()
