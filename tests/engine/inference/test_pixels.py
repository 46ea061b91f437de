"""classifypixels from raster to COG: tiled as untiled on every pixel, nodata kept, further outputs, polygons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import OutputError, RasterError
from deep_raster.engine.inference import classify_pixels, detect_change
from inference_support import NORTH_UP, InProcessSession, SmoothClassifier, plan, write_raster
from rasterio.features import rasterize


def image(shape=(260, 330), seed=1):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 160, (shape[0] // 10 + 1, shape[1] // 10 + 1))
    return np.kron(coarse, np.ones((10, 10)))[: shape[0], : shape[1]].astype(np.uint8)


def job(raster, package, output, **changes):
    return jobs.ClassifyPixels(
        changes.pop("inputs", (jobs.RasterInput(raster),)), package, str(output),
        changes.pop("options", jobs.RunOptions()), **changes,
    )  # fmt: skip


def whole_image(pixels, valid=None):
    """Return what the network says when it sees everything at once."""
    data = np.ones(pixels.shape, bool) if valid is None else valid
    scores = SmoothClassifier(plan()).scores(pixels[None, None], data[None])[0]
    return np.where(data, 1 + np.argmax(scores, axis=0), 255), scores


@pytest.mark.parametrize("georeferenced", [True, False])
@pytest.mark.parametrize("network", [plan(64, 3, exact=True), plan(64, 3, exact=True, fixed=False, multiple=8)])
def test_tiled_equals_untiled(tmp_path, session, make_package, use_model, georeferenced, network):
    pixels = image()
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP if georeferenced else None)
    use_model(SmoothClassifier(network))
    output = tmp_path / "classes.tif"
    package = make_package("ImageClassification")
    assert classify_pixels.run(job(raster, package, output), session) == {"OUTPUT": str(output)}
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_image(pixels)[0])
        assert dataset.nodata == 255
        assert dataset.colormap(1)[1] == (0, 200, 0, 255)
        assert dataset.transform == (NORTH_UP if georeferenced else rasterio.Affine(1, 0, 0, 0, -1, 0))
        assert (dataset.crs is not None) == georeferenced
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    assert "<Category>Tree</Category>" in (tmp_path / "classes.tif.aux.xml").read_text()


def test_bytes_do_not_depend_on_workers_order_or_place(tmp_path, make_package, use_model):
    raster = write_raster(tmp_path / "image.tif", image((500, 700)), NORTH_UP)
    use_model(SmoothClassifier(plan(64, 3, exact=True)))
    package, outputs = make_package("ImageClassification"), []
    for number, workers in enumerate((1, 2, 4)):
        folder = tmp_path / str(number)
        session = InProcessSession(tmp_path, workers, (lambda todo: todo[::-1]) if number else None)
        options = jobs.RunOptions(workers=workers)
        classify_pixels.run(
            job(
                raster, package, folder / "o.tif", options=options, confidence_output=str(folder / "c.tif"),
                probabilities_output=str(folder / "p.tif"), polygons_output=str(folder / "v.gpkg"),
            ),
            session,
        )  # fmt: skip
        outputs.append({one.name: one.read_bytes() for one in folder.iterdir()})
    assert set(outputs[0]) == {"o.tif", "o.tif.aux.xml", "c.tif", "p.tif", "v.gpkg"}
    assert outputs[0] == outputs[1] == outputs[2]


def test_further_outputs(tmp_path, session, make_package, use_model):
    pixels = image()
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP)
    use_model(SmoothClassifier(plan(64, 3, exact=True)))
    names = {f"{one}_output": str(tmp_path / f"{one}{end}") for one, end in
             (("confidence", ".tif"), ("probabilities", ".tif"), ("polygons", ".gpkg"))}  # fmt: skip
    result = classify_pixels.run(job(raster, make_package("ImageClassification"), tmp_path / "o.tif", **names), session)
    assert sorted(result) == ["CONFIDENCE", "OUTPUT", "POLYGONS", "PROBABILITIES"]
    classes, scores = whole_image(pixels)
    with rasterio.open(names["probabilities_output"]) as dataset:
        assert dataset.descriptions == ("Tree", "Roof")
        np.testing.assert_allclose(dataset.read() * dataset.scales[0], scores, atol=0.0021)
    with rasterio.open(names["confidence_output"]) as dataset:
        np.testing.assert_allclose(dataset.read(1) * dataset.scales[0], scores.max(0), atol=0.0021)
    _, _, geometries, fields = pyogrio.raw.read(names["polygons_output"])
    polygons = shapely.from_wkb(geometries)
    burnt = rasterize(zip(polygons, fields[1].tolist()), out_shape=classes.shape, transform=NORTH_UP)
    np.testing.assert_array_equal(burnt, classes)
    assert set(fields[0]) == {"Tree", "Roof"}
    assert shapely.area(polygons).sum() == pytest.approx(classes.size * 0.25)


def test_nodata_stays_nodata_and_is_not_predicted(tmp_path, session, make_package, use_model):
    pixels = image((200, 200)).astype(np.float32)
    pixels[:, :80] = np.nan
    pixels[150:, 100:] = -9999
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP, nodata=-9999)
    model = use_model(SmoothClassifier(plan(64, 3, exact=True)))
    output = tmp_path / "o.tif"
    classify_pixels.run(job(raster, make_package("ImageClassification"), output), session)
    valid = np.isfinite(pixels) & (pixels != -9999)
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_image(pixels, valid)[0])
    assert model.calls < 16
    assert any("without data" in str(one) for one in session.events)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (64, 64), (65, 129), (30, 30)])
@pytest.mark.parametrize("fixed", [True, False])
def test_odd_shapes(tmp_path, session, make_package, use_model, shape, fixed):
    pixels = image(shape)
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP)
    use_model(SmoothClassifier(plan(64, 3, exact=True, fixed=fixed)))
    output = tmp_path / "o.tif"
    classify_pixels.run(job(raster, make_package("ImageClassification"), output), session)
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_image(pixels)[0])


def test_a_network_of_free_size_is_measured_and_tiled_exactly(tmp_path, session, make_package, use_model):
    pixels = image((700, 900))
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP)
    model = use_model(SmoothClassifier(plan(64, 0, fixed=False, multiple=4)))
    output = tmp_path / "o.tif"
    classify_pixels.run(job(raster, make_package("ImageClassification"), output), session)
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), whole_image(pixels)[0])
    assert any("exact padding" in getattr(one, "text", "") for one in session.events)
    assert max(model.sizes) <= (512, 512)


def test_blended_tiles_come_close_to_the_whole(tmp_path, session, make_package, use_model):
    pixels = image((200, 260))
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP)
    use_model(SmoothClassifier(plan(64, 0)))
    name = str(tmp_path / "p.tif")
    classify_pixels.run(
        job(raster, make_package("ImageClassification"), tmp_path / "o.tif", probabilities_output=name), session
    )
    scores = whole_image(pixels)[1]
    with rasterio.open(name) as dataset:
        difference = np.abs(dataset.read() / 250 - scores)
    # Without blending, pixels at the seams lose up to 3 of 7 rows of their neighbourhood.
    assert difference.max() < 0.05
    assert difference.mean() < 0.003


class Doubler:
    """Two output pixels per input pixel: the value times ten, and its column."""

    def __init__(self, network):
        self.plan, self.values = network, None

    def scores(self, pixels, valid):
        twice = pixels.astype(np.float32).repeat(2, -1).repeat(2, -2)
        return np.concatenate([twice * 10, twice + 1], axis=1)


def test_values_and_super_resolution(tmp_path, session, make_package, use_model):
    pixels = image((90, 110))
    pixels[:20, :20] = 7
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP, nodata=7)
    use_model(Doubler(plan(32, 4, scale=2)))
    output = tmp_path / "o.tif"
    classify_pixels.run(job(raster, make_package("SuperResolution"), output), session)
    with rasterio.open(output) as dataset:
        assert (dataset.count, dataset.dtypes[0]) == (2, "float32")
        assert dataset.transform == NORTH_UP * rasterio.Affine.scale(0.5)
        expected = np.where(pixels == 7, np.nan, pixels).repeat(2, 0).repeat(2, 1)
        np.testing.assert_array_equal(dataset.read(), np.stack([expected * 10, expected + 1]))


def test_items_into_a_folder(tmp_path, session, make_package, use_model):
    use_model(SmoothClassifier(plan(64, 3, exact=True)))
    inputs = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        inputs.append(write_raster(tmp_path / str(number) / "same.tif", image(seed=number), NORTH_UP))
    options = jobs.RunOptions(processing_mode=jobs.ITEMS_SEPARATELY)
    output = tmp_path / "results"
    classify_pixels.run(
        job("", make_package("ImageClassification"), output, options=options,
            inputs=tuple(jobs.RasterInput(one) for one in inputs)),
        session,
    )  # fmt: skip
    for number, name in enumerate(["same.tif", "same_2.tif"]):
        with rasterio.open(output / name) as dataset:
            np.testing.assert_array_equal(dataset.read(1), whole_image(image(seed=number))[0])


def test_mosaic_mask_and_cell_size(tmp_path, session, make_package, use_model):
    use_model(SmoothClassifier(plan(64, 3, exact=True)))
    pixels = image((200, 300))
    left = write_raster(tmp_path / "left.tif", pixels[:, :180], NORTH_UP)
    right = write_raster(tmp_path / "right.tif", pixels[:, 180:], NORTH_UP * rasterio.Affine.translation(180, 0))
    area = shapely.box(600020, 4999930, 600100, 4999990)
    pyogrio.raw.write(
        tmp_path / "mask.gpkg", shapely.to_wkb(np.array([area], object)), [np.array([1])], ["n"], driver="GPKG",
        crs="EPSG:32632", geometry_type="Polygon",
    )  # fmt: skip
    output, package = tmp_path / "o.tif", make_package("ImageClassification")
    inputs = (jobs.RasterInput(left), jobs.RasterInput(right))
    options = jobs.RunOptions(mask=jobs.VectorInput(str(tmp_path / "mask.gpkg")))
    classify_pixels.run(job("", package, output, inputs=inputs, options=options), session)
    inside = np.zeros(pixels.shape, bool)
    inside[20:140, 40:200] = True
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), np.where(inside, whole_image(pixels)[0], 255))
    classify_pixels.run(job("", package, output, inputs=inputs, options=jobs.RunOptions(cell_size=1.0)), session)
    with rasterio.open(output) as dataset:
        assert (dataset.width, dataset.height, dataset.transform.a) == (150, 100, 1.0)
        assert not (dataset.read(1) == 255).any()


class Difference:
    """Class 1 where the second date is brighter than the first by more than 20."""

    def __init__(self, network):
        self.plan, self.values = network, (0, 1)

    def scores(self, pixels, valid):
        changed = pixels[:, 1].astype(int) - pixels[:, 0] > 20
        return np.stack([~changed, changed], axis=1).astype(np.float32)


def test_change_between_two_dates(tmp_path, session, make_package, use_model):
    before, after = image((150, 200)), image((150, 200), seed=9)
    use_model(Difference(plan(64, 4)))
    first = write_raster(tmp_path / "a.tif", before, NORTH_UP)
    second = write_raster(
        tmp_path / "b.tif", after[10:, 30:], NORTH_UP * rasterio.Affine.translation(30, 10), nodata=None
    )
    package = make_package(
        "ImageClassification", ExtractBands=[0, 1], Classes=[{"Value": 1, "Name": "Brighter", "Color": [255, 0, 0]}]
    )
    output = tmp_path / "o.tif"
    result = detect_change.run(
        jobs.DetectChange(jobs.RasterInput(first), jobs.RasterInput(second), package, str(output)), session
    )
    assert result == {"OUTPUT": str(output)}
    with rasterio.open(output) as dataset:
        np.testing.assert_array_equal(dataset.read(1), (after.astype(int) - before > 20)[10:, 30:])
        assert dataset.transform == NORTH_UP * rasterio.Affine.translation(30, 10)


def test_a_full_disk_leaves_nothing_and_the_job_goes_on(tmp_path, make_package, use_model, monkeypatch):
    from collections import namedtuple

    from deep_raster.engine.raster import output as places

    raster = write_raster(tmp_path / "image.tif", image(), NORTH_UP)
    use_model(SmoothClassifier(plan(64, 3, exact=True)))
    output, package = tmp_path / "out" / "o.tif", make_package("ImageClassification")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(places.shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
        with pytest.raises(OutputError, match=r"needs up to .* but only 1 KB are free"):
            classify_pixels.run(job(raster, package, output), InProcessSession(tmp_path))
    assert not any(output.parent.iterdir())

    limited = tmp_path / "limited.py"
    limited.write_text(
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('launch', sys.argv[3])\n"
        "launch = importlib.util.module_from_spec(spec); spec.loader.exec_module(launch); launch.register()\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from affine import Affine\n"
        "from deep_raster.engine.errors import OutputError\n"
        "from deep_raster.engine.raster.grid import Grid\n"
        "from deep_raster.engine.raster.window import Window\n"
        "from deep_raster.engine.raster.writer import RasterProfile, RasterWriter\n"
        "noise = np.random.default_rng(0).integers(0, 200, (1, 600, 600), dtype=np.uint8)\n"
        "try:\n"
        "    profile = RasterProfile(Grid('', Affine.scale(1, -1), 600, 600), 1, 'uint8')\n"
        "    with RasterWriter(Path(sys.argv[4]), profile) as w:\n"
        "        w.write(Window(0, 0, 600, 600), noise)\n"
        "        w.finish()\n"
        "except OutputError as error:\n"
        "    print(error)\n"
        "    sys.exit(3)\n"
    )
    launch = Path(__file__).resolve().parents[3] / "engine" / "launch.py"
    target = tmp_path / "full" / "x.tif"
    run = subprocess.run(
        [sys.executable, str(limited), "", "", str(launch), str(target)], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 3, run.stderr
    assert "cannot be written" in run.stdout or "gives something else" in run.stdout
    assert not any(target.parent.iterdir())


def test_a_damaged_block_fails_its_tiles_only(tmp_path, session, make_package, use_model):
    pixels = np.random.default_rng(0).integers(0, 200, (256, 256), dtype=np.uint8)
    raster = write_raster(
        tmp_path / "image.tif", pixels, NORTH_UP, tiled=True, blockxsize=64, blockysize=64, compress="deflate"
    )
    with rasterio.open(raster) as dataset:
        offset = int(dataset.get_tag_item("BLOCK_OFFSET_1_2", "TIFF", bidx=1))
        size = int(dataset.get_tag_item("BLOCK_SIZE_1_2", "TIFF", bidx=1))
    data = bytearray(Path(raster).read_bytes())
    data[offset : offset + size] = bytes(255 for _ in range(size))
    Path(raster).write_bytes(data)
    use_model(SmoothClassifier(plan(32, 3, exact=True)))
    output, package = tmp_path / "o.tif", make_package("ImageClassification")
    with pytest.raises(RasterError, match=r"It concerns the tile at x 6000\d\d"):
        classify_pixels.run(job(raster, package, output), session)
    assert not output.exists()
    options = jobs.RunOptions(arguments={"failed_tiles": "nodata"})
    classify_pixels.run(job(raster, package, output, options=options), InProcessSession(tmp_path))
    expected = whole_image(pixels)[0]
    with rasterio.open(output) as dataset:
        found = dataset.read(1)
    empty = found == 255
    np.testing.assert_array_equal(found[~empty], expected[~empty])
    assert empty[128:192, 64:128].all()
    # No pixel farther away than one tile is lost.
    far = np.ones_like(empty)
    far[96:224, 32:160] = False
    assert not (empty & far).any()


class Placed(SmoothClassifier):
    """A package's own function, which is told where its tile lies without the padding."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.location, self.told = None, []

    def scores(self, pixels, valid):
        self.told.append((self.location, pixels[0, 0]))
        return super().scores(pixels, valid)


def test_functions_are_told_where_the_inside_of_their_tile_lies(tmp_path, session, make_package, use_model):
    pixels = image((150, 200))
    raster = write_raster(tmp_path / "image.tif", pixels, NORTH_UP)
    model = use_model(Placed(plan(64, 4, exact=True)))
    classify_pixels.run(job(raster, make_package("ImageClassification"), tmp_path / "o.tif"), session)
    told = [(place, seen) for place, seen in model.told if place is not None]  # nothing is told while it is measured
    assert len(told) > 9
    for place, seen in told:
        assert place["cellSize"] == (0.5, 0.5)
        xmin, ymin, xmax, ymax = place["extent"]
        left, top, right, bottom = (round(2 * one) for one in (xmin - 6e5, 5e6 - ymax, xmax - 6e5, 5e6 - ymin))
        np.testing.assert_array_equal(seen[4:-4, 4:-4], pixels[top:bottom, left:right])
