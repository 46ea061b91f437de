"""An export that dies at any rename is continued to what it would have been, also when it adds to a folder."""

from __future__ import annotations

import dataclasses
import os
import shutil

import pytest
from chips_support import LocalSession
from deep_raster.engine.chips import layout, runner, staging
from deep_raster.engine.chips.dataset import open_chips
from deep_raster.engine.jobs import ExportTrainingData, VectorInput
from test_exporting_again import content, without_exports

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]
KILLED = 9


def dying(job, tmp_path, after):
    """Run the export in a child process that ends at once at its ``after``-th rename; return its exit status."""
    child = os.fork()
    if not child:
        replace, left = os.replace, [after]

        def counted(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                os._exit(KILLED)
            return replace(*arguments, **options)

        os.replace = counted
        status = 1
        try:
            runner.run(job, LocalSession(tmp_path))
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("kind", ["KITTI_rectangles", "COCO"])
def test_a_killed_export_is_continued_to_the_same_result(labelled, export, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(layout, "_BLOCK_SIDE", 150)
    raster, layer, _, _ = labelled
    size = {"tile_size_x": 64, "tile_size_y": 64, "stride_x": 50, "stride_y": 50}
    halves = [
        ExportTrainingData(
            (raster,), str(tmp_path / "o"), kind, labels=VectorInput(layer.path, where=f"fid % 2 = {one}"), **size
        )
        for one in (0, 1)
    ]
    export(dataclasses.replace(halves[0], output=str(tmp_path / "first")))
    shutil.copytree(tmp_path / "first", tmp_path / "both")
    renames = []
    replace = os.replace
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *one, **more: (renames.append(str(one[1])), replace(*one, **more))[1])
        export(dataclasses.replace(halves[1], output=str(tmp_path / "both")))
    expected = without_exports(content(tmp_path / "both"))
    assert len(renames) > 40
    # After this one the output changes.
    begun = next(number for number, one in enumerate(renames, 1) if one.endswith("publish.json"))
    points = [
        5,
        *range(10, begun, begun // 3),
        *range(begun, len(renames), (len(renames) - begun) // 2),
        len(renames) - 1,
    ]
    for number, after in enumerate(points):
        shutil.rmtree(tmp_path / "o", ignore_errors=True)
        shutil.copytree(tmp_path / "first", tmp_path / "o")
        assert dying(halves[1], tmp_path, after) == KILLED
        # Where it is begun anew instead, what was moved is moved back first.
        anew = after >= begun and number % 2 == 0
        export(dataclasses.replace(halves[1], existing="APPEND" if anew else "CONTINUE"))
        assert without_exports(content(tmp_path / "o")) == expected, f"killed at rename {after}"
        assert not [one for one in (tmp_path / "o").iterdir() if one.name.startswith(".")]
    data = open_chips(tmp_path / "o")
    lines = (tmp_path / "o" / "map.txt").read_text().split()
    assert sorted(one for one in lines if one.startswith("images")) == [
        f"images\\{one.image.name}" for one in data.chips
    ]
    assert data.accumulated["NumTiles"] == len(data.chips)
    assert not data.problems
    assert not (tmp_path / "o" / staging.NAME).exists()
