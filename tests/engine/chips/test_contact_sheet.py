"""The contact sheet: the same stretch for all chips, a colour for every class, a legend that can be read."""

from __future__ import annotations

import numpy as np
import pytest
from chips_support import on_map, scene, some_polygons, write_raster, write_vector
from deep_raster.engine.chips import contact_sheet
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.jobs import ExportTrainingData
from PIL import Image

pytestmark = pytest.mark.filterwarnings("ignore")


def test_all_chips_are_stretched_alike():
    everywhere = np.ones((100, 100), dtype=bool)
    dark, bright = (np.full((3, 100, 100), one, "uint16") for one in (1000, 3000))
    bright[:, 0, 0] = 60000  # an outlier
    nothing = (np.zeros((3, 100, 100), "uint16"), ~everywhere)
    limits = contact_sheet.stretch_limits([(dark, everywhere), (bright, everywhere), nothing])
    assert limits.tolist() == [[1000, 3000]] * 3
    assert contact_sheet.stretched(dark, limits).max() == 0
    assert contact_sheet.stretched(bright, limits).min() == 255


def test_bytes_stay_as_they_are():
    pixels = scene(3, 20, 30)
    limits = contact_sheet.stretch_limits([(pixels, np.ones((20, 30), dtype=bool))])
    assert np.array_equal(contact_sheet.stretched(pixels, limits), np.moveaxis(pixels, 0, 2))


@pytest.mark.parametrize("kind", ["Classified_Tiles", "RCNN_Masks", "PASCAL_VOC_rectangles"])
def test_every_class_has_a_colour_of_its_own(export, tmp_path, kind):
    raster = write_raster(tmp_path / "r.tif", np.full((3, 200, 300), 128, "uint8"))
    names = [f"Land cover of the kind {index % 30:02}" for index in range(120)]
    layer = write_vector(tmp_path / "l.gpkg", on_map(some_polygons(120)), classname=names)
    size = {"tile_size_x": 64, "tile_size_y": 64}
    export(ExportTrainingData((raster,), str(tmp_path / "o"), kind, labels=layer, **size))
    data = open_chips(tmp_path / "o")
    picture = np.asarray(Image.open(tmp_path / "o" / "contact_sheet.png").convert("RGB")).astype(int)
    height = -(-len(data) // 6) * 198
    chips, legend = picture[:height], picture[height:]
    colours = [contact_sheet._colour(index) for index in range(len(data.classes))]
    assert len(set(colours)) == len(data.classes) == 30
    for colour in colours:
        assert (legend == colour).all(axis=2).sum() >= 12 * 12
    assert sum((chips == colour).all(axis=2).any() for colour in colours) > 20
