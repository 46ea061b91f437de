"""A form with one typed editor per argument that a model declares."""

from __future__ import annotations

from typing import Dict, FrozenSet, List, Mapping, Sequence

from qgis.gui import QgsDoubleSpinBox, QgsSpinBox
from qgis.PyQt.QtCore import pyqtSignal
from qgis.PyQt.QtWidgets import QComboBox, QFormLayout, QLabel, QLineEdit, QWidget

from ...engine.package.parameters import BOOL, CHOICE, FLOAT, INT, ModelParameter
from ...processing_provider.text import translated

LARGEST = 2**31 - 1


class ArgumentEditor:
    """One argument: its widget, its value as text, and whether it differs from the model's default."""

    def __init__(self, parameter: ModelParameter) -> None:
        self.parameter = parameter
        self.widget = self._make()
        self.widget.setObjectName(f"argument_{parameter.name}")
        self.widget.setToolTip(f"{translated(parameter.description)} ({parameter.name})".strip())
        self.set_value(parameter.default)

    def _make(self) -> QWidget:
        one = self.parameter
        if one.kind == INT:
            spin = QgsSpinBox()
            spin.setRange(
                -LARGEST if one.minimum is None else int(one.minimum),
                LARGEST if one.maximum is None else int(one.maximum),
            )
            spin.setClearValue(int(one.default or 0))
            return spin
        if one.kind == FLOAT:
            decimal = QgsDoubleSpinBox()
            decimal.setDecimals(4)
            decimal.setSingleStep(0.05 if one.maximum is not None and one.maximum <= 1 else 1.0)
            decimal.setRange(
                -1e12 if one.minimum is None else one.minimum, 1e12 if one.maximum is None else one.maximum
            )
            decimal.setClearValue(float(one.default or 0))
            return decimal
        if one.kind in (BOOL, CHOICE):
            combo = QComboBox()
            combo.addItems(one.choices)
            return combo
        return QLineEdit()

    @property
    def changed(self) -> object:
        """The signal that tells of a new value."""
        if isinstance(self.widget, (QgsSpinBox, QgsDoubleSpinBox)):
            return self.widget.valueChanged
        return self.widget.currentIndexChanged if isinstance(self.widget, QComboBox) else self.widget.textChanged

    def set_value(self, text: str) -> None:
        """Show a value; what the editor cannot hold leaves it as it is."""
        try:
            if isinstance(self.widget, QgsSpinBox):
                self.widget.setValue(int(float(text)))
            elif isinstance(self.widget, QgsDoubleSpinBox):
                self.widget.setValue(float(text))
            elif isinstance(self.widget, QComboBox):
                texts = [self.widget.itemText(i).casefold() for i in range(self.widget.count())]
                self.widget.setCurrentIndex(texts.index(text.strip().casefold()))
            else:
                self.widget.setText(text)
        except ValueError:
            return

    def value(self) -> str:
        """Return the value as the engine takes it."""
        if isinstance(self.widget, QgsSpinBox):
            return str(self.widget.value())
        if isinstance(self.widget, QgsDoubleSpinBox):
            return f"{self.widget.value():.10g}"
        if isinstance(self.widget, QComboBox):
            return self.widget.currentText()
        return self.widget.text()

    def is_default(self) -> bool:
        """Whether the value is the model's own."""
        value, default = self.value(), self.parameter.default
        if self.parameter.kind in (INT, FLOAT):
            return float(value) == float(default or 0)
        return value == default


class ArgumentTable(QWidget):
    """The form; its value holds only what differs from the model's defaults, so that commands stay short."""

    changed = pyqtSignal()

    def __init__(self, parent: QWidget = None) -> None:
        super().__init__(parent)
        self.editors: List[ArgumentEditor] = []
        self._form = QFormLayout(self)
        self._form.setContentsMargins(0, 0, 0, 0)

    def show_parameters(self, parameters: Sequence[ModelParameter], values: Mapping[str, str]) -> None:
        """Make the editors of a model, filled with ``values`` where it knows their names."""
        while self._form.rowCount():
            self._form.removeRow(0)
        self.editors = [ArgumentEditor(one) for one in parameters]
        for editor in self.editors:
            label = QLabel(translated(editor.parameter.label) or editor.parameter.name)
            label.setToolTip(editor.widget.toolTip())
            self._form.addRow(label, editor.widget)
        self.set_values(values)
        for editor in self.editors:
            editor.changed.connect(lambda *_: self.changed.emit())

    def names(self) -> FrozenSet[str]:
        """Return the names of the arguments that are shown."""
        return frozenset(one.parameter.name for one in self.editors)

    def set_values(self, values: Mapping[str, str]) -> None:
        """Show values by name; the others return to their defaults."""
        for editor in self.editors:
            editor.set_value(values.get(editor.parameter.name, editor.parameter.default))

    def values(self) -> Dict[str, str]:
        """Return the values that differ from the defaults."""
        return {one.parameter.name: one.value() for one in self.editors if not one.is_default()}
