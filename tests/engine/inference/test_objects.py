"""classifyobjects and nonmaximumsuppression: chips around features, answers on copies, the rest as it was."""

from __future__ import annotations

import json

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobError, VectorError
from deep_raster.engine.inference import classify_objects, suppress
from deep_raster.engine.inference.chips import chip_window, resized
from deep_raster.engine.models.base import TilePlan
from deep_raster.engine.raster.window import Window
from inference_support import NORTH_UP, write_raster
from shapely import affinity


class BrightnessClassifier:
    """Class 1 if the mean of the chip is above 100; remembers the chips it saw."""

    def __init__(self, blacken=False, fixed_crop=True, size=16):
        self.plan, self.blacken, self.fixed_crop = TilePlan(size, size, batch=3), blacken, fixed_crop
        self.chips = []

    def probabilities(self, pixels, valid):
        self.chips += list(pixels)
        share = pixels.astype(float).mean(axis=(1, 2, 3)) / 200
        return np.stack([1 - share, share], axis=1).astype(np.float32)


def read(path):
    info = pyogrio.read_info(path)
    _, _, geometries, fields = pyogrio.raw.read(path)
    return shapely.from_wkb(geometries), dict(zip(info["fields"], fields)), info


def write_layer(path, geometries, crs="EPSG:32632", **fields):
    pyogrio.raw.write(
        path, shapely.to_wkb(np.array(geometries, object)), [np.asarray(one) for one in fields.values()],
        list(fields), driver="GPKG", layer="layer", crs=crs, geometry_type="Unknown",
    )  # fmt: skip
    return jobs.VectorInput(str(path))


@pytest.fixture
def halves(tmp_path):
    """A raster whose left half is 20 and right half 180."""
    pixels = np.full((60, 100), 20, np.uint8)
    pixels[:, 50:] = 180
    return write_raster(tmp_path / "halves.tif", pixels, NORTH_UP)


def square(col, row, size=10):
    return shapely.box(600000 + col / 2, 5000000 - (row + size) / 2, 600000 + (col + size) / 2, 5000000 - row / 2)


def run(job, session):
    return classify_objects.run(job, session)


def test_features_get_their_class_and_keep_the_rest(tmp_path, session, make_package, use_model, halves):
    model = use_model(BrightnessClassifier())
    shapes = [square(5, 5), square(70, 20), shapely.Point(600040, 4999990), square(500, 5)]
    layer = write_layer(
        tmp_path / "in.gpkg", shapes, name=np.array(["a", "b", "c", "far"], object), number=[1, 2, 3, 4]
    )
    output = tmp_path / "out.gpkg"
    package = make_package("ObjectClassification")
    result = run(jobs.ClassifyObjects((jobs.RasterInput(halves),), package, str(output), layer, "Kind"), session)
    geometries, fields, info = read(output)
    assert result == {"OUTPUT": str(output), "COUNT": 4}
    assert [one.wkt for one in geometries] == [one.wkt for one in shapes]
    assert fields["Kind"].tolist() == ["Tree", "Roof", "Roof", None]
    assert fields["name"].tolist() == ["a", "b", "c", "far"]
    assert fields["number"].tolist() == [1, 2, 3, 4]
    assert fields["Confidence"][:2] == pytest.approx([0.9, 0.9])
    assert np.isnan(fields["Confidence"][3])
    assert info["crs"] == "EPSG:32632"
    assert {one.shape for one in model.chips} == {(1, 16, 16)}


def test_a_worker_holds_a_piece_of_the_layer_at_a_time(tmp_path, session, make_package, use_model, halves, monkeypatch):
    from deep_raster.engine.inference import chip_sets

    monkeypatch.setattr(chip_sets, "GROUP", 2)
    monkeypatch.setattr(chip_sets, "_PIECE", 6)
    held = []
    group = chip_sets.Chips.group
    monkeypatch.setattr(
        chip_sets.Chips, "group", lambda one, number: held.append(len(one.shapes)) or group(one, number)
    )
    use_model(BrightnessClassifier())
    columns = np.random.default_rng(0).choice([5, 20, 60, 80], 21)
    layer = write_layer(tmp_path / "in.gpkg", [square(col, 5 + i) for i, col in enumerate(columns)])
    output = tmp_path / "out.gpkg"
    package = make_package("ObjectClassification")
    run(jobs.ClassifyObjects((jobs.RasterInput(halves),), package, str(output), layer, "Kind"), session)
    _, fields, _ = read(output)
    assert fields["Kind"].tolist() == ["Tree" if col < 50 else "Roof" for col in columns]
    assert max(held) == 6


def test_features_in_another_crs_keep_it(tmp_path, session, make_package, use_model, halves):
    from rasterio.warp import transform_geom

    use_model(BrightnessClassifier())
    shape = shapely.from_geojson(
        json.dumps(transform_geom("EPSG:32632", "EPSG:4326", shapely.geometry.mapping(square(70, 20))))
    )
    layer = write_layer(tmp_path / "in.gpkg", [shape], crs="EPSG:4326", n=[7])
    output = tmp_path / "out.gpkg"
    run(
        jobs.ClassifyObjects((jobs.RasterInput(halves),), make_package("ObjectClassification"), str(output), layer),
        session,
    )
    geometries, fields, info = read(output)
    assert fields["ClassLabel"].tolist() == ["Roof"]
    assert info["crs"] == "EPSG:4326"
    assert geometries[0].equals(shape)


def test_blackened_chips_are_zero_outside_the_feature(tmp_path, session, make_package, use_model, halves):
    model = use_model(BrightnessClassifier(blacken=True))
    triangle = affinity.translate(shapely.Polygon([(0, 0), (5, 0), (0, 5)]), 600040, 4999985)
    layer = write_layer(tmp_path / "in.gpkg", [triangle], n=[1])
    run(
        jobs.ClassifyObjects(
            (jobs.RasterInput(halves),), make_package("ObjectClassification"), str(tmp_path / "o.gpkg"), layer
        ),
        session,
    )
    (chip,) = model.chips
    assert set(np.unique(chip)) == {0, 180}
    assert (chip == 180).sum() * 0.25 == pytest.approx(triangle.area, rel=0.12)


def test_smallest_windows_are_resized_to_the_networks_image(tmp_path, session, make_package, use_model, halves):
    model = use_model(BrightnessClassifier(fixed_crop=False))
    layer = write_layer(tmp_path / "in.gpkg", [square(45, 5, 10), square(0, 0, 4)], n=[1, 2])
    run(
        jobs.ClassifyObjects(
            (jobs.RasterInput(halves),), make_package("ObjectClassification"), str(tmp_path / "o.gpkg"), layer
        ),
        session,
    )
    assert [one.shape for one in model.chips] == [(1, 16, 16)] * 2
    left, right = model.chips  # neighbours follow one another, whatever their order in the layer
    assert (left == 20).all()
    assert right[0, 0, 0] == 20
    assert right[0, 0, -1] == 180


def test_without_features_each_raster_is_one_object(tmp_path, session, make_package, use_model, halves):
    bright = write_raster(tmp_path / "bright.tif", np.full((40, 40), 190, np.uint8), NORTH_UP)
    use_model(BrightnessClassifier())
    output = tmp_path / "out.gpkg"
    inputs = (jobs.RasterInput(bright), jobs.RasterInput(halves, name="both"))
    result = run(jobs.ClassifyObjects(inputs, make_package("ObjectClassification"), str(output)), session)
    geometries, fields, _ = read(output)
    assert result["COUNT"] == 2
    assert fields["Item"].tolist() == ["bright", "both"]
    assert fields["ClassLabel"].tolist()[0] == "Roof"
    assert geometries[1].bounds == (600000, 5000000 - 30, 600050, 5000000)


@pytest.mark.parametrize(
    ("bounds", "fixed", "expected"),
    [
        ((10, 10, 20, 20), True, Window(7, 7, 16, 16)),
        ((10.2, 10.7, 19.5, 12), False, Window(10, 10, 10, 2)),
        ((3, 3, 3, 3), False, Window(-5, -5, 16, 16)),
        ((3, 3, 9, 3), False, Window(3, 3, 6, 1)),
    ],
)
def test_chip_windows(bounds, fixed, expected):
    assert chip_window(np.array(bounds, float), 16, 16, fixed) == expected


def test_resizing_keeps_a_ramp_a_ramp():
    ramp = np.tile(np.arange(8, dtype=np.float32), (1, 8, 1))
    pixels, valid = resized(ramp, np.ones((8, 8), bool), 16, 4)
    assert pixels.shape == (1, 4, 16)
    assert valid.all()
    np.testing.assert_allclose(pixels[0, 0], np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7))


def test_suppression_of_a_layer(tmp_path, session):
    shapes = [
        shapely.box(0, 0, 10, 10),
        shapely.box(1, 0, 11, 10),
        shapely.box(20, 0, 30, 10),
        shapely.box(2, 0, 12, 10),
    ]
    layer = write_layer(
        tmp_path / "in.gpkg", shapes,
        Confidence=[0.5, 0.9, 0.1, 0.4], Classvalue=[1, 1, 1, 2], note=np.array(["a", "b", None, "d"], object),
    )  # fmt: skip
    output = tmp_path / "out.gpkg"
    job = jobs.SuppressNonMaximum(layer, str(output), max_overlap=0.5)
    assert suppress.run(job, session) == {"OUTPUT": str(output), "COUNT": 3}
    geometries, fields, _ = read(output)
    assert fields["note"].tolist() == ["b", None, "d"]
    assert [one.bounds for one in geometries] == [shapes[i].bounds for i in (1, 2, 3)]
    assert fields["Confidence"].tolist() == [0.9, 0.1, 0.4]


def test_suppression_names_what_is_missing(tmp_path, session):
    layer = write_layer(tmp_path / "in.gpkg", [shapely.box(0, 0, 1, 1)], score=[0.5])
    with pytest.raises(VectorError, match=r"no field “Confidence”.*score"):
        suppress.run(jobs.SuppressNonMaximum(layer, str(tmp_path / "o.gpkg")), session)
    with pytest.raises(JobError, match="is an input"):
        suppress.run(jobs.SuppressNonMaximum(layer, layer.path, "score"), session)
    assert not (tmp_path / "o.gpkg").exists()
