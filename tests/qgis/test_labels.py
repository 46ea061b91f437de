"""The label layer: fields, classes, colours, form; and class schemas of every kind."""

from __future__ import annotations

import json

import pytest
from osgeo import ogr
from qgis.core import (
    QgsCategorizedSymbolRenderer,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransform,
    QgsFeature,
    QgsFillSymbol,
    QgsGeometry,
    QgsProcessingException,
    QgsProject,
    QgsRectangle,
    QgsRendererCategory,
    QgsVectorLayer,
    QgsVectorLayerUtils,
)
from telling import Feedback

FIELDS = ["Classname", "Classvalue", "RED", "GREEN", "BLUE", "Count"]


@pytest.fixture
def schema(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text("name;value;red;green;blue\nTree;10;0;200;0\nHouse;20;200;0;0\n")
    return path


def features(values, crs="EPSG:32633", field="kind:string(20)", size=8.0):
    layer = QgsVectorLayer(f"Polygon?crs=EPSG:32633&field={field}", "there", "memory")
    for number, value in enumerate(values):
        feature = QgsFeature(layer.fields())
        feature.setAttributes([value])
        box = QgsRectangle(500002 + 10 * number, 4999950, 500002 + 10 * number + size, 4999950 + size)
        feature.setGeometry(QgsGeometry.fromRect(box))
        layer.dataProvider().addFeature(feature)
    if crs != "EPSG:32633":
        target = QgsVectorLayer(f"Polygon?crs={crs}&field={field}", "there", "memory")
        change = QgsCoordinateTransform(layer.crs(), target.crs(), QgsProject.instance())
        for feature in layer.getFeatures():
            geometry = feature.geometry().densifyByCount(4)
            geometry.transform(change)
            feature.setGeometry(geometry)
            target.dataProvider().addFeature(feature)
        return target
    return layer


def label(image, schema, output, feedback=None, **more):
    import processing

    parameters = {"INPUT": str(image), "SCHEMA": str(schema), "OUTPUT": str(output), **more}
    return processing.run("deepraster:labelobjects", parameters, feedback=feedback or Feedback())


def rows(path):
    data = ogr.Open(str(path))
    layer = data.GetLayer(0)
    names = [layer.GetLayerDefn().GetFieldDefn(i).GetName() for i in range(layer.GetLayerDefn().GetFieldCount())]
    return names, [tuple(one.GetField(name) for name in names) for one in layer]


def test_an_empty_layer_to_draw_in(provider, image, schema, tmp_path):
    output = tmp_path / "labels.gpkg"
    assert label(image, schema, output) == {"OUTPUT": str(output), "COUNT": 0}
    assert rows(output) == (FIELDS, [])
    layer = QgsVectorLayer(f"{output}|layername=labels", "l", "ogr")
    assert layer.crs() == QgsCoordinateReferenceSystem("EPSG:32633")
    assert [one.name for one in tmp_path.glob("*part*")] == []


def test_features_by_name_and_by_value(provider, image, schema, tmp_path):
    output = tmp_path / "labels.gpkg"
    expected = [("Tree", 10, 0, 200, 0, 16), ("House", 20, 200, 0, 0, 16)]  # 8 m squares on 2 m pixels
    for field, values in (
        ("kind:string(20)", ["tree", "HOUSE"]),
        ("kind:integer", [10, 20]),
        ("kind:double", [10, 20]),
    ):
        result = label(image, schema, output, FEATURES=features(values, field=field), CLASS_FIELD="kind")
        assert result["COUNT"] == 2
        assert rows(output)[1] == expected


def test_colours_form_and_what_is_drawn_by_hand(provider, image, schema, tmp_path):
    output = tmp_path / "labels.gpkg"
    label(image, schema, output, FEATURES=features(["Tree"]), CLASS_FIELD="kind")
    layer = QgsVectorLayer(f"{output}|layername=labels", "l", "ogr")  # the style comes out of the GeoPackage
    renderer = layer.renderer()
    assert isinstance(renderer, QgsCategorizedSymbolRenderer) and renderer.classAttribute() == "Classvalue"
    categories = renderer.categories()  # kept: their symbols die with the list
    found = [(one.value(), one.label()) for one in categories]
    assert [(int(value), name) for value, name in found] == [(10, "Tree"), (20, "House")]
    outline = categories[1].symbol().symbolLayer(0).strokeColor()
    assert (outline.red(), outline.green(), outline.blue()) == (200, 0, 0)
    index = layer.fields().lookupField("Classvalue")
    assert layer.editorWidgetSetup(index).type() == "ValueMap"
    assert layer.editorWidgetSetup(index).config()["map"] == [{"Tree": "10"}, {"House": "20"}]
    geometry = QgsGeometry.fromRect(QgsRectangle(500000, 4999960, 500006, 4999970))
    drawn = QgsVectorLayerUtils.createFeature(layer, geometry, {index: 20})
    assert [drawn[name] for name in FIELDS[1:]] == [20, 200, 0, 0, 15]
    layer.startEditing()
    layer.addFeature(drawn)
    layer.changeAttributeValue(drawn.id(), index, 10)  # as the form does when another class is picked
    assert [layer.getFeature(drawn.id())[name] for name in FIELDS] == ["Tree", 10, 0, 200, 0, 15]
    layer.rollBack()


def test_another_crs_is_reprojected(provider, image, schema, tmp_path):
    output = tmp_path / "labels.gpkg"
    label(image, schema, output, FEATURES=features(["Tree"], crs="EPSG:4326"), CLASS_FIELD="kind")
    data = ogr.Open(str(output))
    layer = data.GetLayer(0)
    feature = layer.GetNextFeature()
    box = feature.GetGeometryRef().GetEnvelope()
    assert box == pytest.approx((500002, 500010, 4999950, 4999958), abs=1e-3)


def test_what_is_left_out_is_told(provider, image, schema, tmp_path):
    feedback = Feedback()
    layer = features(["Tree", "Car", None, "House"])
    far = QgsFeature(layer.fields())
    far.setAttributes(["Tree"])
    far.setGeometry(QgsGeometry.fromRect(QgsRectangle(0, 0, 10, 10)))
    layer.dataProvider().addFeature(far)
    result = label(image, schema, tmp_path / "l.gpkg", feedback, FEATURES=layer, CLASS_FIELD="kind")
    assert result["COUNT"] == 2
    told = " ".join(feedback.warnings)
    assert "Car (1)" in told and "1 features lie outside" in told


def test_the_class_field_is_found_by_its_name(provider, image, schema, tmp_path):
    result = label(image, schema, tmp_path / "l.gpkg", FEATURES=features(["Tree"], field="CLASSNAME:string(20)"))
    assert result["COUNT"] == 1
    with pytest.raises(QgsProcessingException, match="CLASS_FIELD"):
        label(image, schema, tmp_path / "l.gpkg", FEATURES=features(["Tree"]))


def test_a_single_class_needs_no_field(provider, image, tmp_path):
    schema = tmp_path / "one.json"
    schema.write_text(json.dumps({"Classes": [{"ClassName": "Tree", "ClassValue": 7}]}))
    output = tmp_path / "l.gpkg"
    assert label(image, schema, output, FEATURES=features(["whatever"]))["COUNT"] == 1
    assert rows(output)[1][0][:2] == ("Tree", 7)


def test_a_failure_keeps_the_old_layer(provider, image, schema, tmp_path):
    output = tmp_path / "l.gpkg"
    label(image, schema, output, FEATURES=features(["Tree"]), CLASS_FIELD="kind")
    before = output.read_bytes()
    with pytest.raises(QgsProcessingException, match="does not know"):
        label(image, schema, output, FEATURES=features(["Car"]), CLASS_FIELD="kind")
    assert output.read_bytes() == before
    assert sorted(one.name for one in tmp_path.glob("*l.*")) == ["l.gpkg"]


# --- schemas written by QGIS itself --------------------------------------------------------------------------------


def test_schema_from_a_vector_style(qgis_app, tmp_path):
    from deep_raster.engine.package.schema import read_schema

    layer = QgsVectorLayer("Polygon?field=kind:integer", "s", "memory")
    categories = [
        QgsRendererCategory(value, QgsFillSymbol.createSimple({"color": colour}), name)
        for value, name, colour in ((3, "Water & ice", "0,10,250"), (5, "Wald", "#00aa00"))
    ]
    layer.setRenderer(
        QgsCategorizedSymbolRenderer(
            "kind", [*categories, QgsRendererCategory(None, categories[0].symbol().clone(), "rest")]
        )
    )
    layer.saveNamedStyle(str(tmp_path / "s.qml"))
    found = [(one.value, one.name, one.color) for one in read_schema(tmp_path / "s.qml")]
    assert found == [(3, "Water & ice", (0, 10, 250)), (5, "Wald", (0, 170, 0))]


def test_schema_from_a_raster_palette(qgis_app, image, tmp_path):
    from deep_raster.engine.package.schema import read_schema
    from qgis.core import QgsPalettedRasterRenderer, QgsRasterLayer
    from qgis.PyQt.QtGui import QColor

    layer = QgsRasterLayer(str(image), "r")
    classes = [QgsPalettedRasterRenderer.Class(value, QColor(colour), name)
               for value, colour, name in ((1, "#ff8800", "Road"), (2, "#112233", ""))]  # fmt: skip
    layer.setRenderer(QgsPalettedRasterRenderer(layer.dataProvider(), 1, classes))
    layer.saveNamedStyle(str(tmp_path / "r.qml"))
    found = [(one.value, one.name, one.color) for one in read_schema(tmp_path / "r.qml")]
    assert found == [(1, "Road", (255, 136, 0)), (2, "2", (17, 34, 51))]


def test_label_layers_are_geopackages(provider, tmp_path, image, schema):
    with pytest.raises(QgsProcessingException, match="GeoPackages"):
        label(image, schema, tmp_path / "labels.shp")
    assert not (tmp_path / "labels.shp").exists()
