"""Class schemas from JSON of every shape, tables, and what cannot be used."""

from __future__ import annotations

import json

import pytest
from deep_raster.engine.errors import DefinitionError
from deep_raster.engine.package.schema import parse_color, read_schema


def read(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return [(one.value, one.name, one.color) for one in read_schema(path)]


def test_a_classifier_definition_gives_its_classes(tmp_path):
    text = json.dumps(
        {
            "EsriClassifierDefinitionFile": 0,
            "FileVersion": 1,
            "Definitions": [
                {
                    "Classifier": "svm",
                    "NumberClasses": 2,
                    "Classes": [
                        {"ClassValue": 11, "ClassName": "Open Water", "Red": 70, "Green": 107, "Blue": 159, "Count": 4},
                        {"ClassValue": 21, "ClassName": "Developed", "Red": 222, "Green": 197, "Blue": 197},
                    ],
                }
            ],
        }
    )
    assert read(tmp_path, "nlcd.ecs", text) == [(11, "Open Water", (70, 107, 159)), (21, "Developed", (222, 197, 197))]


def test_model_definition_with_its_slips(tmp_path):
    text = '\ufeff{"Framework":"PyTorch","Classes":[{"Value":0,"Name":"Tree","Color":[0,255,0]},'
    text += '{"Value":1,"Name":"Hut"},],}'
    assert read(tmp_path, "m.emd", text) == [(0, "Tree", (0, 255, 0)), (1, "Hut", None)]


def test_feature_set_repeats_its_classes(tmp_path):
    features = [
        {"attributes": {"Classname": name, "Classvalue": value, "RED": 1, "GREEN": 2, "BLUE": 3}}
        for name, value in (("a", 1), ("b", 2), ("a", 1))
    ]
    assert read(tmp_path, "f.json", json.dumps({"features": features})) == [(1, "a", (1, 2, 3)), (2, "b", (1, 2, 3))]


@pytest.mark.parametrize(
    "text",
    ["Value,ClassName,Red,Green,Blue\n1,Tree,0,255,0\n2,Hut,9,9,9\n", "1;Tree;0;255;0\n2;Hut;9;9;9\n",
     "name\tcode\tcolor\nTree\t1\t#00ff00\nHut\t2\t#090909\n"],
)  # fmt: skip
def test_tables_with_and_without_a_head(tmp_path, text):
    assert read(tmp_path, "t.csv", text) == [(1, "Tree", (0, 255, 0)), (2, "Hut", (9, 9, 9))]


def test_values_that_are_no_numbers_are_numbered(tmp_path):
    assert read(tmp_path, "t.csv", "value,name\noak,Oak\nash,Ash\n") == [(1, "Oak", None), (2, "Ash", None)]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.json", "{}", "holds no classes"),
        ("b.json", '{"Classes": [{"Name": "a"}]}', "holds no classes"),
        ("c.json", "not JSON at all <<<", "definition|JSON|classes"),
        ("d.csv", "", "holds no classes"),
        ("e.qml", "<qgis><renderer-v2 type='singleSymbol'/></qgis>", "holds no classes"),
        ("f.json", '[{"Name":"a","Value":1},{"Name":"b","Value":1}]', "value 1"),
        ("g.json", "[" * 5000, "definition|JSON|classes|deep"),
    ],
)
def test_what_holds_no_classes_is_refused(tmp_path, name, text, word):
    with pytest.raises(DefinitionError, match=word):
        read(tmp_path, name, text)


def test_a_missing_file(tmp_path):
    with pytest.raises(DefinitionError, match="cannot be read"):
        read_schema(tmp_path / "nothing.ecs")


def test_entities_are_not_expanded(tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    text = (
        f'<!DOCTYPE q [<!ENTITY x SYSTEM "file://{secret}"><!ENTITY a "aaaaaaaaaa">]>'
        '<qgis><paletteEntry value="1" label="&x;&a;&amp;" color="#010203"/></qgis>'
    )
    assert read(tmp_path, "x.qml", text) == [(1, "&x;&a;&", (1, 2, 3))]


@pytest.mark.parametrize(
    ("value", "colour"),
    [
        ([1, 2, 3], (1, 2, 3)),
        ("1,2,3,255", (1, 2, 3)),
        ("#0a0B0c", (10, 11, 12)),
        ("255,0,0,255,rgb:1,0,0,1", (255, 0, 0)),
        ([-1, -1, -1], None),
        ("red", None),
        (None, None),
        ([1, 2], None),
    ],
)
def test_colours_in_every_spelling(value, colour):
    assert parse_color(value) == colour
