"""Arguments of ArcGIS that the host carries out for detectors: tta_scales really scales, exclude_pad_detections."""

from __future__ import annotations

import numpy as np
import pyogrio
import pytest
import shapely
from deep_raster.engine import jobs
from deep_raster.engine.errors import JobError
from deep_raster.engine.inference import detect
from deep_raster.engine.inference.rescale import at_scale
from inference_support import BlobDetector, plan, write_raster


def found_boxes(path):
    _, _, geometries, fields = pyogrio.raw.read(path)
    return shapely.from_wkb(geometries), fields


def job(raster, package, output, **changes):
    return jobs.DetectObjects((jobs.RasterInput(raster),), package, str(output), **changes)


class Choosy(BlobDetector):
    """Finds squares of 12 to 20 pixels alone, as networks find the sizes they were trained on."""

    def detect(self, pixels, valid):
        if self.plan.fixed:
            assert pixels.shape[-2:] == (self.plan.height, self.plan.width)
        assert all(side % self.plan.multiple == 0 for side in pixels.shape[-2:])
        answers = []
        for found in super().detect(pixels, valid):
            sides = found.boxes[:, 2:] - found.boxes[:, :2]
            keep = ((sides >= 12) & (sides <= 20)).all(axis=1)
            answers.append(type(found)(found.boxes[keep], found.scores[keep], found.labels[keep]))
        return answers


SQUARES = [(5, 6, 8), (50, 6, 16), (10, 40, 30)]  # left, top, side


def image():
    pixels = np.zeros((1, 1, 80, 80), np.uint8)
    for left, top, side in SQUARES:
        pixels[0, 0, top : top + side, left : left + side] = 250
    return pixels


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize(("scale", "seen"), [(2.0, 0), (1.0, 1), (0.5, 2)])
def test_each_scale_sees_its_own_sizes_in_place(fixed, scale, seen):
    network = Choosy(plan(80, 8, fixed=fixed, multiple=8))
    (found,) = at_scale(network.detect, scale, network.plan)(image(), np.ones((1, 80, 80), bool))
    left, top, side = SQUARES[seen]
    assert len(found.boxes) >= 1
    for box in found.boxes:  # pieces of a large copy may see it more than once; the bilinear edge is half a pixel wide
        np.testing.assert_allclose(box, [left, top, left + side, top + side], atol=1.0)


def test_scales_through_a_whole_job(tmp_path, session, make_package, use_model):
    pixels = image()[0]
    raster = write_raster(tmp_path / "scene.tif", pixels)
    output = tmp_path / "out.gpkg"
    use_model(Choosy(plan(96, 8, fixed=True)))

    def found(**arguments):
        detect.run(job(raster, make_package(), output, options=jobs.RunOptions(arguments=arguments)), session)
        return len(found_boxes(output)[0])

    assert found() == 1
    turned = {"test_time_augmentation": "True", "merge_policy": "max"}
    assert found(**turned) == 1
    assert found(**turned, tta_scales="0.5,1,2") == 3
    assert found(tta_scales="0.5,1,2") == 1
    assert any("takes effect with test_time_augmentation" in str(one) for one in session.events)
    for wrong in ("0", "9", "a,b", ",".join(["1"] * 9)):
        with pytest.raises(JobError, match="tta_scales"):
            found(tta_scales=wrong)


def test_cut_objects_are_left_out_or_each_piece_is_kept(tmp_path, session, make_package, use_model):
    pixels = np.zeros((64, 160), np.uint8)
    pixels[20:30, 20:140] = 250  # longer than any tile sees
    pixels[45:55, 40:50] = 240
    raster = write_raster(tmp_path / "scene.tif", pixels)
    use_model(BlobDetector(plan(64, 8, fixed=True)))
    output = tmp_path / "out.gpkg"
    counts = {}
    for excluded in ("True", "False"):
        options = jobs.RunOptions(arguments={"exclude_pad_detections": excluded})
        detect.run(job(raster, make_package(), output, options=options, run_nms=False), session)
        shapes, _ = found_boxes(output)
        long = [one for one in shapely.bounds(shapes) if one[3] - one[1] == 10 and one[1] < -25 and one[3] == -20]
        counts[excluded] = (len(shapes), len(long))
    assert counts["True"][0] == 2
    assert counts["False"][1] > 1  # the pieces of the long one, as the tiles saw them
    assert counts["False"][0] == counts["False"][1] + 1
