"""Runs inside QGIS's own window (``qgis --code``): loads the plugin, uses it as a person does, and writes what it saw.

Each step is a part of one generator that yields how many milliseconds to wait, or a condition to wait for. What fails
is written to the report and ends QGIS at once, because an uncaught exception would open a box that nobody closes.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from pathlib import Path

from qgis.core import Qgis, QgsApplication, QgsProject, QgsRasterLayer
from qgis.PyQt.QtCore import QTimer
from qgis.PyQt.QtWidgets import QApplication, QCheckBox, QDialog, QLabel, QMenu, QPushButton, QToolBar
from qgis.utils import iface, loadPlugin, plugins, startPlugin, unloadPlugin

FOLDER = Path(os.environ["DEEP_RASTER_TEST_FOLDER"])
REPORT = {"gaps": {}, "done": []}


class Heartbeat:
    """A timer of 10 ms whose longest gap tells how long the window did not answer."""

    def __init__(self):
        self.longest, self.last = 0.0, time.monotonic()
        self.timer = QTimer()
        self.timer.timeout.connect(self.beat)
        self.timer.start(10)

    def beat(self):
        now = time.monotonic()
        self.longest, self.last = max(self.longest, now - self.last), now

    def reset(self):
        self.longest, self.last = 0.0, time.monotonic()


heart = Heartbeat()


def finish(code):
    (FOLDER / "report.json").write_text(json.dumps(REPORT))
    if code:
        os._exit(code)


def shoot(widget, name):
    QApplication.processEvents()
    widget.grab().save(str(FOLDER / f"{name}.png"))


def find(kind, name):
    return next((one for one in iface.mainWindow().findChildren(kind, name)), None)


def footprint():
    """What a plugin may leave behind in the window and in QGIS."""
    registry = QgsApplication.processingRegistry()
    return {
        "menus": sorted(one.text() for one in iface.rasterMenu().actions() if one.text()),
        "toolbars": sorted(one.objectName() for one in iface.mainWindow().findChildren(QToolBar)),
        "providers": sorted(one.id() for one in registry.providers()),
        "items": sorted(one.name() for one in QgsApplication.dataItemProviderRegistry().providers()),
        "actions": sorted(
            one.objectName() for one in iface.mainWindow().findChildren(object) if "DeepRaster" in str(one.objectName())
        ),
    }


def run_until_quiet(name, values, label=""):
    """Run a tool up to three times, until the window answered within a fifth of a second all the time.

    Another process that takes the processor lets the window wait as well. So each run is measured against the longest
    gap of the same window doing nothing just before, and a run in a bad moment is repeated.
    """
    label = label or name
    for _attempt in range(3):
        for layer in [one for one in QgsProject.instance().mapLayers().values() if one.name() != "scene"]:
            QgsProject.instance().removeMapLayer(layer.id())
        yield from run_dialog(name, values, label)
        idle, busy = REPORT["gaps"].setdefault(label, [])[-1]
        if busy - idle < 0.2:
            return


def run_dialog(name, values, label):
    """Run a tool from its dialog and keep its results and the longest gaps before and during the run."""
    import processing

    dialog = processing.createAlgorithmDialog(f"deepraster:{name}", values)
    dialog.resize(900, 760)
    dialog.show()
    for box in dialog.findChildren(QCheckBox):
        if box.text().startswith("Open output"):  # values from a script leave it as it was in the history: off
            box.setChecked(label == "real")
    yield 600
    shoot(dialog, f"dialog_{label}")
    ended = []
    dialog.algorithmFinished.connect(lambda ok, results: ended.append((ok, results)))
    heart.reset()
    yield 1500
    idle = heart.longest
    heart.reset()
    dialog.runAlgorithm()
    yield lambda: bool(ended)
    REPORT["gaps"].setdefault(label, []).append((idle, heart.longest))
    yield 300
    shoot(dialog, f"log_{label}")
    results = {key: str(value) for key, value in ended[0][1].items()}
    REPORT[label] = {"ok": ended[0][0], "results": results, "dialog": type(dialog).__name__}
    dialog.close()


def real_job(layer, values):
    """The same with the real engine and a small network; the result must be in the map in the model's colours."""
    from deep_raster.processing_provider import environments

    os.environ["DEEP_RASTER_PYTHON"] = values["python"]
    environments.forget()
    yield from run_until_quiet("detectobjects", {**values["real"], "INPUT": layer.id()}, "real")
    yield 800
    found = [one for one in QgsProject.instance().mapLayers().values() if one.name() != "scene"]
    REPORT["loaded"] = [one.name() for one in found]
    REPORT["count"] = [one.featureCount() for one in found]
    categories = found[0].renderer().categories() if found else []
    REPORT["categories"] = sorted(one.value() for one in categories)
    shoot(iface.mainWindow(), "window_result")
    REPORT["done"].append("real job")


def consented_job(layer, values):
    """Run a package with code of its own: refused the first time, allowed for one run the second time."""
    import processing
    from deep_raster.engine.package.consents import ConsentStore

    REPORT["consent"] = []
    for answer in ("NOT_NOW", "ONCE"):
        dialog = processing.createAlgorithmDialog("deepraster:detectobjects", {**values, "INPUT": layer.id()})
        dialog.show()
        ended = []
        dialog.algorithmFinished.connect(lambda ok, results, ended=ended: ended.append((ok, results)))
        yield 300
        # The question holds its caller in a loop of its own, so it is answered from a timer and begun from one too.
        QTimer.singleShot(0, dialog.runAlgorithm)
        yield lambda: find(QDialog, "DeepRasterConsentDialog") is not None
        question = find(QDialog, "DeepRasterConsentDialog")
        yield 300
        shoot(question, f"consent_{answer.lower()}")
        question.findChild(QPushButton, answer).click()
        if answer == "ONCE":
            yield lambda ended=ended: bool(ended)
            REPORT["consent_results"] = {key: str(value) for key, value in ended[0][1].items()}
            shoot(dialog, "log_consent")
        yield 1000
        exists = Path(values["OUTPUT"]).exists()
        REPORT["consent"].append({"asked": True, "ended": bool(ended) and ended[0][0], "exists": exists})
        dialog.close()
    REPORT["consent_remembered"] = [str(one) for one in ConsentStore().entries()]
    REPORT["done"].append("consent")


def steps():
    window = iface.mainWindow()
    window.resize(1400, 880)
    iface.messageBar().clearWidgets()
    before = footprint()
    for round_number in (1, 2):
        assert loadPlugin("deep_raster") and startPlugin("deep_raster")
        yield 200
        if round_number == 1:
            unloadPlugin("deep_raster")
            yield 300
            assert footprint() == before, (footprint(), before)
    REPORT["done"].append("loaded twice")
    assert plugins["deep_raster"].provider.id() == "deepraster"
    values = json.loads((FOLDER / "values.json").read_text())

    layer = QgsRasterLayer(values["image"], "scene")
    QgsProject.instance().addMapLayer(layer)
    iface.mapCanvas().setExtent(layer.extent())
    yield 500
    menu = find(QMenu, "mDeepRasterMenu")
    menu.popup(window.mapToGlobal(window.rect().center()))
    yield 300
    shoot(menu, "menu")
    menu.close()
    shoot(window, "window")

    yield from run_until_quiet("detectobjects", {**values["detectobjects"], "INPUT": layer.id()})
    yield 500
    names = [one.name() for one in QgsProject.instance().mapLayers().values()]
    assert names == ["scene"], names
    REPORT["done"].append("job")
    if "real" in values:
        yield from real_job(layer, values)
        yield from consented_job(layer, values["corners"])

    import processing

    dialog = processing.createAlgorithmDialog("deepraster:classifypixels", {"MODEL": values["package"]})
    dialog.resize(900, 760)
    dialog.show()
    yield 500
    shoot(dialog, "dialog_wrong_model")
    REPORT["wrong_model"] = [one.text() for one in dialog.findChildren(QLabel) if "detects objects" in one.text()]
    dialog.close()

    from deep_raster.plugin.environment.setup_dialog import open_setup_dialog

    dialog = open_setup_dialog(iface)
    yield lambda: dialog.start_button.isEnabled()
    yield 200
    shoot(dialog, "setup")
    dialog.close()

    from deep_raster.plugin.packages.card import show_card

    show_card(iface, values["package"])
    yield lambda: find(QDialog, "DeepRasterCardDialog") is not None
    yield 400
    card = find(QDialog, "DeepRasterCardDialog")
    shoot(card, "card")
    card.close()
    yield lambda: find(QDialog, "DeepRasterCardDialog") is None

    from deep_raster.plugin.packages.consent import ConsentDialog
    from deep_raster.plugin.packages.tasks import open_later

    opened = []
    open_later(values["code_package"], lambda package, reason: opened.append((package, reason)))
    yield lambda: bool(opened)
    assert opened[0][0] is not None, opened[0][1]
    consent = ConsentDialog(opened[0][0], window)
    consent.show()
    yield 300
    shoot(consent, "consent")
    assert consent.findChild(QPushButton, "NOT_NOW").isDefault()
    consent.close()
    assert consent.answer.value == "not now"
    consent.deleteLater()
    show_card(iface, values["package"])  # left open: unloading the plugin must close it
    yield lambda: find(QDialog, "DeepRasterCardDialog") is not None

    from deep_raster.plugin.environment.options_page import OptionsPage

    page = OptionsPage(iface, None)
    page.resize(760, 620)
    page.show()
    yield 300
    shoot(page, "options")
    page.close()
    page.deleteLater()
    REPORT["done"].append("windows")

    QgsProject.instance().removeAllMapLayers()
    unloadPlugin("deep_raster")
    yield 500
    REPORT["left"] = {"before": before, "after": footprint()}
    REPORT["done"].append("unloaded")
    REPORT["version"] = Qgis.QGIS_VERSION


def drive(generator):
    def go():
        try:
            wait = next(generator)
        except StopIteration:
            finish(0)
            QgsProject.instance().setDirty(False)
            iface.actionExit().trigger()
            QTimer.singleShot(8000, lambda: os._exit(3))
            return
        except BaseException:
            REPORT["fault"] = traceback.format_exc()
            finish(2)
            return
        if callable(wait):
            until(wait, time.monotonic() + 120)
        else:
            QTimer.singleShot(int(wait), go)

    def until(condition, limit):
        try:
            if condition():
                QTimer.singleShot(0, go)
                return
        except BaseException:
            REPORT["fault"] = traceback.format_exc()
            finish(2)
            return
        if time.monotonic() > limit:
            shoot(iface.mainWindow(), "stuck")
            REPORT["fault"] = "waited too long"
            finish(4)
            return
        QTimer.singleShot(50, lambda: until(condition, limit))

    go()


_generator = steps()
QTimer.singleShot(1500, lambda: drive(_generator))
