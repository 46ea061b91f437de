"""Loading and unloading the plugin, and the styles of what its tools find."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.PyQt.QtCore import QObject
from qgis.PyQt.QtWidgets import QApplication, QMainWindow, QMenu, QToolBar


class Window(QMainWindow):
    """What the plugin uses of QGIS's interface; unlike a mock it has no methods that QGIS lacks."""

    def __init__(self):
        super().__init__()
        self.raster, self.factories, self.handlers = QMenu("Raster", self), [], []

    def mainWindow(self):
        return self

    def rasterMenu(self):
        return self.raster

    def registerOptionsWidgetFactory(self, factory):
        self.factories.append(factory)

    def unregisterOptionsWidgetFactory(self, factory):
        self.factories.remove(factory)

    def registerCustomDropHandler(self, handler):
        self.handlers.append(handler)

    def unregisterCustomDropHandler(self, handler):
        self.handlers.remove(handler)

    def addToolBar(self, name):
        return super().addToolBar(name)


def test_loaded_and_unloaded_twice_leaves_nothing(qgis_app, qgis_processing):
    import deep_raster
    from deep_raster.processing_provider.base import dialog_factories

    window = Window()
    registry, items = QgsApplication.processingRegistry(), QgsApplication.dataItemProviderRegistry()

    def footprint():
        QApplication.sendPostedEvents(None, 52)  # QEvent.DeferredDelete
        QApplication.processEvents()
        names = sorted(one.objectName() for one in window.findChildren(QObject) if "DeepRaster" in one.objectName())
        providers = [one.id() for one in registry.providers()]
        kinds = [one.name() for one in items.providers()]
        bars = len(window.findChildren(QToolBar))
        return names, providers, kinds, bars, len(window.raster.actions()), list(dialog_factories)

    before = footprint()
    for _ in range(2):
        plugin = deep_raster.classFactory(window)
        plugin.initGui()
        assert registry.providerById("deepraster") is not None
        assert len(window.factories) == len(window.handlers) == 1
        assert set(dialog_factories) == {"detectobjects", "classifypixels", "classifyobjects", "detectchange"}
        menu = window.findChild(QMenu, "mDeepRasterMenu")
        titles = [one.text() for one in menu.actions() if one.text()]
        assert titles[0] == "Label objects…" and titles[-1] == "Set up environment…" and len(titles) == 12
        plugin.unload()
        assert footprint() == before
        assert not window.factories and not window.handlers


def test_without_a_window_only_the_algorithms_come(qgis_app):
    import deep_raster
    from deep_raster.processing_provider.base import dialog_factories

    plugin = deep_raster.classFactory(None)
    plugin.initProcessing()
    assert QgsApplication.processingRegistry().providerById("deepraster") is not None
    assert dialog_factories == {}
    plugin.unload()
    assert QgsApplication.processingRegistry().providerById("deepraster") is None


# --- styles of results ---------------------------------------------------------------------------------------------


def test_found_objects_get_the_colours_of_the_model(provider, model, tmp_path):
    from deep_raster.processing_provider import outputs
    from osgeo import ogr
    from qgis.core import QgsVectorLayer

    path = tmp_path / "found.gpkg"
    source = ogr.GetDriverByName("GPKG").CreateDataSource(str(path))
    layer = source.CreateLayer("found", None, ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("Class", ogr.OFTString))
    for name in ("tree", "tree", "pool"):
        feature = ogr.Feature(layer.GetLayerDefn())
        feature["Class"] = name
        feature.SetGeometry(ogr.CreateGeometryFromWkt("POLYGON((0 0,1 0,1 1,0 1,0 0))"))
        layer.CreateFeature(feature)
    source = None
    before = path.read_bytes()
    outputs.write_class_style(str(path), "Class", outputs.class_colours(str(model)))
    assert path.read_bytes() == before, "a style must not change the result"
    loaded = QgsVectorLayer(str(path), "found", "ogr")
    categories = loaded.renderer().categories()
    assert [one.value() for one in categories] == ["tree", "pool"]
    line = categories[0].symbol().symbolLayer(0).strokeColor()
    assert (line.red(), line.green(), line.blue()) == (0, 200, 0)


def test_a_loaded_result_is_styled_in_the_window(provider, fake_engine, image, model, tmp_path, monkeypatch):
    """The post-processor runs although nobody but us keeps it."""
    from deep_raster.processing_provider import outputs
    from qgis.core import QgsProcessingContext, QgsProject

    context = QgsProcessingContext()
    path = str(tmp_path / "o.gpkg")
    outputs.style_when_loaded(path, context)
    assert path not in outputs._waiting, "it is not to be loaded"
    context.addLayerToLoadOnCompletion(path, QgsProcessingContext.LayerDetails("o", QgsProject.instance(), "OUTPUT"))
    outputs.style_when_loaded(path, context)
    assert context.layerToLoadOnCompletionDetails(path).postProcessor() is outputs._waiting[path]
    outputs._waiting.clear()
