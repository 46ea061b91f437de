"""The parts of the window without a window: arguments, consent, options, browser items, loading and unloading."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest
from conftest_values import DEFINITION, write_package
from qgis.core import QgsApplication, QgsProcessingParameterString
from qgis.PyQt.QtCore import QObject, pyqtSignal
from qgis.PyQt.QtWidgets import QApplication, QComboBox, QLineEdit, QPushButton


def spin(condition, seconds=20.0):
    """Let Qt work until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        QApplication.processEvents()
        time.sleep(0.01)


# --- arguments -----------------------------------------------------------------------------------------------------


@pytest.fixture
def panel(provider):
    from deep_raster.plugin.widgets.arguments import ArgumentsPanel

    panel = ArgumentsPanel()
    yield panel
    panel.deleteLater()


def editors(panel):
    return {one.parameter.name: one for one in panel.table.editors}


def test_a_typed_editor_for_each_argument(panel, model):
    from deep_raster.engine.package.emd import read_definition
    from deep_raster.engine.package.parameters import declared_parameters

    panel.follow(str(model))
    declared = declared_parameters(read_definition(model))
    assert [one.parameter for one in panel.table.editors] == list(declared) and declared
    assert panel.text() == "", "defaults need not be written"
    found = editors(panel)
    found["threshold"].set_value("0.25")
    found["padding"].set_value("16")
    found["test_time_augmentation"].set_value("true")
    assert panel.text() == "padding=16;threshold=0.25;test_time_augmentation=True"
    assert "2 classes: tree, house" in panel.about.text() and "bands 1, 2, 3" in panel.about.text()


def test_a_value_is_shown_and_survives_another_model(panel, model, tmp_path):
    panel.set_text("threshold=0.75;padding=8")
    panel.follow(str(model))
    assert editors(panel)["threshold"].value() == "0.75"
    other = tmp_path / "other.emd"
    other.write_text(json.dumps({**DEFINITION, "ImageHeight": 512, "ImageWidth": 512}))
    panel.follow(str(other))
    assert panel.text() == "padding=8;threshold=0.75"


def test_the_hosts_arguments_have_editors_too(provider, model):
    from deep_raster.plugin.widgets.arguments import ArgumentsPanel

    panel = ArgumentsPanel("classifypixels")
    panel.set_text("failed_tiles=nodata")
    panel.follow(str(model))
    shown = {one.parameter.name: one for one in panel.host.editors}
    assert {"blend", "skip_constant", "failed_tiles", "simplify"} <= set(shown)
    assert "regularize" not in shown, "it is for outlines of objects"
    assert "test_time_augmentation" not in shown, "the model's own form has it"
    assert shown["failed_tiles"].value() == "nodata"
    shown["simplify"].set_value("1.5")
    editors(panel)["threshold"].set_value("0.3")
    assert panel.text() == "threshold=0.3;failed_tiles=nodata;simplify=1.5"
    panel.deleteLater()


def test_what_no_form_knows_is_kept_for_the_engine_to_judge(panel, model):
    panel.follow(str(model))
    panel.set_text("treshold=0.3;padding=8")
    assert panel.values() == {"treshold": "0.3", "padding": "8"}


def test_a_model_for_another_tool_is_told(provider, model):
    from deep_raster.plugin.widgets.arguments import ArgumentsWrapper

    told = {}
    for tool in ("classifypixels", "detectobjects"):
        algorithm = QgsApplication.processingRegistry().algorithmById(f"deepraster:{tool}").create()
        wrapper = ArgumentsWrapper(algorithm.parameterDefinition("ARGUMENTS"), AlgorithmDialog())
        wrapper.widget.follow(str(model))
        told[tool] = wrapper.widget.warning.text()
    assert told == {"classifypixels": "This model detects objects; use “Detect objects”.", "detectobjects": ""}


def test_without_a_readable_model_it_is_a_line_of_text(panel):
    panel.follow("/nowhere/x.dlpk")
    panel.line.setText("padding=3")
    assert panel.text() == "padding=3"
    assert panel.about.text()


def test_values_with_semicolons_become_json():
    from deep_raster.plugin.widgets.arguments import to_text

    assert to_text({"a": "1", "b": "2"}) == "a=1;b=2"
    assert json.loads(to_text({"a": "1;2", "b": " x"})) == {"a": "1;2", "b": " x"}


class ModelerParametersDialog:  # the name is what Processing looks at
    def getAvailableValuesOfType(self, *_):
        return ["source"]

    def resolveValueDescription(self, _value):
        return "from another step"


class BatchAlgorithmDialog:
    pass


class AlgorithmDialog:
    pass


def test_arguments_have_a_face_of_their_own_in_each_dialog(provider):
    from deep_raster.plugin.widgets.arguments import ArgumentsPanel, ArgumentsWrapper

    parameter = QgsProcessingParameterString("ARGUMENTS", "Arguments", "", optional=True)
    faces = {ModelerParametersDialog: QComboBox, BatchAlgorithmDialog: QLineEdit, AlgorithmDialog: ArgumentsPanel}
    for dialog, kind in faces.items():
        wrapper = ArgumentsWrapper(parameter, dialog())
        assert isinstance(wrapper.widget, kind)
        wrapper.setValue("padding=4")
        assert wrapper.value() == "padding=4"


def test_the_editor_follows_the_model_parameter(provider, model):
    from deep_raster.plugin.widgets.arguments import ArgumentsWrapper

    class ModelWrapper(QObject):
        widgetValueHasChanged = pyqtSignal(object)
        value = ""
        parameter = QgsProcessingParameterString("MODEL", "Model")

        def parameterDefinition(self):
            return self.parameter

        def parameterValue(self):
            return self.value

    other = ModelWrapper()
    parameter = QgsProcessingParameterString("ARGUMENTS", "A", "", optional=True)  # wrappers do not keep it
    wrapper = ArgumentsWrapper(parameter, AlgorithmDialog())
    changes = []
    wrapper.widgetValueHasChanged.connect(changes.append)
    wrapper.postInitialize([wrapper, other])
    assert not wrapper.widget.table.editors
    other.value = str(model)
    other.widgetValueHasChanged.emit(other)
    assert "threshold" in editors(wrapper.widget)
    editors(wrapper.widget)["threshold"].set_value("0.3")
    assert wrapper.value() == "threshold=0.3" and changes


def test_parameters_name_the_widget_by_a_path_that_exists(provider):
    algorithm = QgsApplication.processingRegistry().algorithmById("deepraster:detectobjects")
    path = algorithm.parameterDefinition("ARGUMENTS").metadata()["widget_wrapper"]["class"]
    assert path == "deep_raster.plugin.widgets.arguments.ArgumentsWrapper"


# --- packages and consent ------------------------------------------------------------------------------------------


@pytest.fixture
def code_package(tmp_path):
    definition = {**DEFINITION, "Framework": "", "ModelConfiguration": "", "InferenceFunction": "find.py"}
    return write_package(tmp_path / "code.dlpk", definition, {"find.py": "class Find:\n    pass  # a mark\n"})


def opened_later(path):
    from deep_raster.plugin.packages.tasks import open_later

    answers = []
    open_later(str(path), lambda opened, reason: answers.append((opened, reason)))
    spin(lambda: answers)
    return answers[0]


def test_a_package_is_opened_in_the_background(provider, code_package, tmp_path):
    opened, _reason = opened_later(code_package)
    assert opened.needs == ("code",) and not opened.verdict.allowed and opened.protection
    broken = tmp_path / "broken.dlpk"
    broken.write_bytes(code_package.read_bytes()[:300])
    opened, reason = opened_later(broken)
    assert opened is None and "broken.dlpk" in reason


def test_a_packages_own_network_is_asked_about_when_a_run_wants_it(provider, tmp_path):
    from deep_raster.plugin.packages.tasks import open_completely

    configuration = {"Name": "MaskRCNN", "Architecture": "network", "Config": "network"}
    definition = {**DEFINITION, "Framework": "Keras", "ModelConfiguration": configuration, "ModelFile": "w.h5"}
    code = {"network.py": "class Settings:\n    NUM_CLASSES = 3\n\n\nclass MaskRCNN:\n    pass\n"}
    package = str(write_package(tmp_path / "trees.dlpk", definition, code))
    assert open_completely(package).needs == ()
    wanted = open_completely(package, {"own_code": "True"})
    assert wanted.needs == ("code",) and not wanted.verdict.allowed


def test_consent_shows_everything_and_harmless_is_the_default(provider, code_package):
    from deep_raster.plugin.packages.consent import Answer, ConsentDialog

    opened, _reason = opened_later(code_package)
    dialog = ConsentDialog(opened)
    assert "a mark" in dialog.source.toPlainText()
    assert opened.package.digest in [one.text() for one in dialog.findChildren(QLineEdit)]
    defaults = [one.objectName() for one in dialog.findChildren(QPushButton) if one.isDefault()]
    assert defaults == ["NOT_NOW"]
    dialog.show()
    dialog.reject()  # Esc and the window's cross
    assert dialog.answer is Answer.NOT_NOW
    dialog.deleteLater()


def test_a_card_offers_no_run_only(provider, code_package):
    from deep_raster.plugin.packages.consent import ConsentDialog

    opened, _reason = opened_later(code_package)
    dialog = ConsentDialog(opened, run=False)
    names = {one.objectName() for one in dialog.findChildren(QPushButton)}
    assert "ONCE" not in names and {"NOT_NOW", "ALWAYS", "NEVER"} <= names
    dialog.deleteLater()


@pytest.mark.parametrize(("button", "decision"), [("ALWAYS", "allowed"), ("NEVER", "denied"), ("ONCE", None)])
def test_answers_are_remembered_by_hash_and_can_be_revoked(provider, code_package, monkeypatch, button, decision):
    from deep_raster.engine.package.consents import ConsentStore
    from deep_raster.plugin.environment.options_page import OptionsPage
    from deep_raster.plugin.packages import consent

    opened, _reason = opened_later(code_package)
    monkeypatch.setattr(consent.ConsentDialog, "exec", lambda dialog: dialog.findChild(QPushButton, button).click())
    assert consent.ask(opened).name == button
    known = ConsentStore().decision(opened.package.digest)
    assert (known.decision if known else None) == decision
    again, _reason = opened_later(code_package)
    assert again.verdict.allowed == (decision == "allowed")
    page = OptionsPage(SimpleNamespace(mainWindow=lambda: None))
    assert page.consents.rowCount() == (1 if decision else 0)
    assert not page.revoke.isEnabled()
    if decision:
        page.consents.selectRow(0)
        page.revoke.click()
        assert ConsentStore().entries() == () and page.consents.rowCount() == 0
    page.deleteLater()


def test_only_packages_with_code_are_looked_at_before_a_run(provider, code_package, model, tmp_path):
    from deep_raster.engine.package.peek import may_ask, peek_definition

    plain = write_package(tmp_path / "plain.dlpk", DEFINITION)
    assert may_ask(code_package) and not may_ask(plain) and not may_ask(model)
    assert [one.name for one in peek_definition(plain).classes] == ["tree", "house"]


def test_browser_items_and_drops(provider, code_package, model, tmp_path):
    from deep_raster.plugin.packages.browser import ModelDropHandler, ModelItemProvider

    items = ModelItemProvider(None)
    assert items.createDataItem(str(tmp_path), None) is None
    item = items.createDataItem(str(model), None)
    assert item.name() == "tree.emd" and not item.icon().isNull()
    titles = [one.text() for one in item.actions(None)]
    assert titles == ["Show model card", "Detect objects with this model…"]
    assert ModelDropHandler(None).handleFileDrop(str(tmp_path / "picture.png")) is False


# --- options and environment ---------------------------------------------------------------------------------------


def test_options_are_kept_and_used(provider, fake_engine, monkeypatch, tmp_path):
    import os

    from deep_raster.plugin.environment.options_page import OptionsPage
    from deep_raster.processing_provider import environments, settings

    monkeypatch.delenv("DEEP_RASTER_PYTHON")
    monkeypatch.delenv("DEEP_RASTER_CACHE")
    python = str(fake_engine.python)
    page = OptionsPage(SimpleNamespace(mainWindow=lambda: None))
    page.python.setFilePath(python)
    page.idle.setValue(0)
    page.cache.setFilePath(str(tmp_path / "elsewhere"))
    page.apply()
    assert (settings.python(), settings.idle_minutes()) == (python, 0)
    assert os.environ["DEEP_RASTER_CACHE"] == str(tmp_path / "elsewhere")
    assert environments.state() == (True, "")
    assert environments.find().python == python
    page.python.setFilePath("")
    page.idle.setValue(5)
    page.cache.setFilePath("")
    page.apply()
    assert "DEEP_RASTER_CACHE" not in os.environ and not environments.state()[0]
    page.deleteLater()


def test_set_up_shows_what_is_there_and_what_failed(provider, fake_engine, monkeypatch, tmp_path):
    from deep_raster.engine.errors import EnvironmentFault
    from deep_raster.plugin.environment import tasks
    from deep_raster.plugin.environment.setup_dialog import SetupDialog

    dialog = SetupDialog()
    spin(lambda: dialog.start_button.isEnabled())
    assert "torch" in dialog.report.toPlainText() and "2.13" in dialog.report.toPlainText()
    asked = []

    def create(frameworks, **options):
        asked.append((frameworks, options["wheels"]))
        options["on_progress"](0.5, "Installing torch")
        raise EnvironmentFault("There is no room on the disk.", hint="Free 3 GB.")

    monkeypatch.setattr(tasks, "create_environment", create)
    dialog._group.button(1).setChecked(True)
    dialog.wheels.setFilePath(str(tmp_path))
    dialog.start()
    assert not dialog.start_button.isEnabled()
    spin(lambda: dialog.start_button.isEnabled())
    assert asked == [(("onnx",), str(tmp_path))]
    assert "There is no room on the disk. Free 3 GB." in dialog.report.toPlainText()
    dialog.deleteLater()


def test_a_set_up_can_be_cancelled(provider, monkeypatch):
    from deep_raster.engine.errors import JobCancelled
    from deep_raster.plugin.environment import tasks
    from deep_raster.plugin.environment.setup_dialog import SetupDialog

    def create(frameworks, **options):
        while not options["is_cancelled"]():
            time.sleep(0.01)
        raise JobCancelled("stopped")

    monkeypatch.setattr(tasks, "create_environment", create)
    dialog = SetupDialog()
    assert "setupenvironment" in dialog.report.toPlainText()
    dialog.start()
    QApplication.processEvents()
    dialog.cancel()
    spin(lambda: dialog.start_button.isEnabled())
    assert "goes on where it stopped" in dialog.report.toPlainText()
    dialog.deleteLater()
