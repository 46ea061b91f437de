"""The demo: from labelled imagery to trees found and land cover mapped, through ``qgis_process``, in one command.

Run by the system's Python. It makes the engine's environment if there is none, fetches the sample data, and leaves
``demo/output`` with the packages, detections, class raster, accuracy reports and ``overview.png``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))
runpy.run_path(str(ROOT / "engine" / "launch.py"), run_name="launch")["register"]()

import sample_data  # noqa: E402
from deep_raster.engine.environment import create_environment, find_environment, home  # noqa: E402
from deep_raster.engine.errors import DeepRasterError, EnvironmentFault  # noqa: E402
from toolbox import Toolbox  # noqa: E402

OUTPUT = HERE / "output"
STEPS = 11
IOU = 0.4  # crowns have no sharp edge; this is the overlap that the field uses for them
WANTED = {"block": 0.25, "other": 0.15}  # least average precision

# Large chips, of which the training takes random crops. All labels are learnt from: quality is measured on the block
# and the scene that no training sees. 12 epochs take about five minutes of a core with nothing else to do.
TREES: Dict[str, Any] = {
    "chips": {"TILE_SIZE_X": 512, "TILE_SIZE_Y": 512, "STRIDE_X": 384, "STRIDE_Y": 384},
    "training": {
        "MODEL_TYPE": "FCOS",
        "BACKBONE": "slim",
        "CHIP_SIZE": 192,
        "BATCH_SIZE": 8,
        "EPOCHS": 12,
        "VALIDATION": 0,
        "ARGUMENTS": "samples_per_chip=40",
    },
}
# Four small polygons: none can be spared for validation, and a shallow network is all they can teach. Brightness and
# colour are what tells the classes apart here, so they are not varied.
LAND_COVER: Dict[str, Any] = {
    "chips": {"TILE_SIZE_X": 64, "TILE_SIZE_Y": 64, "STRIDE_X": 16, "STRIDE_Y": 16},
    "training": {
        "MODEL_TYPE": "UNET",
        "EPOCHS": 10,
        "VALIDATION": 0,
        "AUGMENTATION": "NONE",
        "ARGUMENTS": "depth=3;decoder_channels=64,32,16;class_balancing=true",
    },
}


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=0, help="epochs of the tree detector instead of the default")
    parser.add_argument("--once", action="store_true", help="do not repeat detection and classification to compare")
    asked = parser.parse_args()
    try:
        engine = _engine()
        with tempfile.TemporaryDirectory(prefix="deep_raster_") as scratch:
            return Demo(engine, Path(scratch), asked.epochs, asked.once).run()
    except (DeepRasterError, RuntimeError) as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        return 1


def _engine() -> str:
    try:
        return find_environment(["pytorch"]).python
    except EnvironmentFault:
        print("Making the engine's environment (once)", flush=True)
    last = [""]

    def tell(fraction: float, text: str) -> None:
        if text != last[0]:
            last[0] = text
            print(f"    {fraction:4.0%} {text}", flush=True)

    return create_environment(["pytorch"], on_progress=tell).python


class Demo:
    """The steps of the demo, in order."""

    def __init__(self, engine: str, scratch: Path, epochs: int, once: bool) -> None:
        shutil.rmtree(OUTPUT, ignore_errors=True)
        self.data = OUTPUT / "data"
        self.data.mkdir(parents=True)
        self.engine = engine
        self.scratch = scratch
        self.once = once
        self.epochs = epochs
        self.tools = Toolbox(ROOT, scratch, engine, STEPS)
        self.accuracy: Dict[str, Dict[str, float]] = {}
        self.digests: Dict[str, str] = {}
        self.problems: List[str] = []

    def run(self) -> int:
        """Run all steps; return 0 if the figures and the repetition are as they should be."""
        self._prepare()
        trees = self._train_trees()
        for scene in ("block", "other"):
            self._detect(scene, trees)
        self._land_cover()
        if not self.once:
            self._repeat(trees)
        self._overview()
        return self._conclude()

    def _prepare(self) -> None:
        self.tools.heading("Sample data: NEON camera imagery with trees, a Landsat 8 scene with land cover")
        cache = home() / "sample_data"
        sample_data.fetch(self.engine, cache, lambda text: print(f"    {text}", flush=True))
        command = [self.engine, "-I", str(HERE / "prepare.py"), str(cache), str(self.data)]
        subprocess.run(command, env=self.tools.environment, stdin=subprocess.DEVNULL, check=True)

    def _label(self, name: str, raster: str, features: str, field: str) -> Path:
        labels = OUTPUT / f"{name}_labels.gpkg"
        self.tools.run(
            "labelobjects",
            INPUT=self.data / raster,
            SCHEMA=self.data / f"{name}_schema.csv",
            FEATURES=self.data / features,
            CLASS_FIELD=field,
            OUTPUT=labels,
        )
        return labels

    def _train_trees(self) -> Path:
        self.tools.heading("Trees: label layer and training chips (three quarters of the large scene)")
        labels = self._label("trees", "trees_train.tif", "trees_train.gpkg", "class")
        chips = OUTPUT / "trees_chips"
        self.tools.run(
            "exporttrainingdata",
            INPUT=self.data / "trees_train.tif",
            LABELS=labels,
            CLASS_FIELD="Classvalue",
            FORMAT="PASCAL_VOC_rectangles",
            OUTPUT=chips,
            **TREES["chips"],
        )
        self.tools.heading("Trees: training a detector from scratch")
        training = dict(TREES["training"], **({"EPOCHS": self.epochs} if self.epochs else {}))
        return self._train("trees", chips, training)

    def _train(self, name: str, chips: Path, training: Dict[str, Any]) -> Path:
        found = self.tools.run("trainmodel", INPUT=chips, OUTPUT=OUTPUT / f"{name}_model", **training)
        package = OUTPUT / f"{name}.dlpk"
        shutil.copyfile(found["MODEL"], package)
        return package

    def _detect(self, scene: str, package: Path) -> None:
        where = "the block held back" if scene == "block" else "another scene"
        self.tools.heading(f"Trees: finding them in {where}, removing duplicates, measuring accuracy")
        self._find(scene, package, OUTPUT / f"detections_{scene}.gpkg")
        # At once: merely opening a GeoPackage in QGIS changes its header.
        self.digests[f"detections_{scene}.gpkg"] = _digest(OUTPUT / f"detections_{scene}.gpkg")
        found = self.tools.run(
            "computeaccuracy",
            DETECTED=OUTPUT / f"detections_{scene}.gpkg",
            REFERENCE=self.data / f"trees_{scene}.gpkg",
            MIN_IOU=IOU,
            OUTPUT=OUTPUT / f"accuracy_{scene}.gpkg",
            REPORT=OUTPUT / f"accuracy_{scene}.html",
        )
        self.accuracy[scene] = {
            name: float(found.get(name) or "nan") for name in ("AP", "PRECISION", "RECALL", "F1", "MAP")
        }
        if not self.accuracy[scene]["AP"] >= WANTED[scene]:
            self.problems.append(f"AP in {where} is {self.accuracy[scene]['AP']:.3f}, less than {WANTED[scene]}")

    def _find(self, scene: str, package: Path, output: Path) -> None:
        every = self.scratch / f"{output.stem}_all.gpkg"
        self.tools.run(
            "detectobjects",
            INPUT=self.data / f"trees_{scene}.tif",
            MODEL=package,
            RUN_NMS="false",
            RESUME="false",
            OUTPUT=every,
        )
        self.tools.run("nonmaximumsuppression", INPUT=every, MAX_OVERLAP=0.4, OUTPUT=output)

    def _land_cover(self) -> None:
        self.tools.heading("Land cover: label layer and training chips from four polygons")
        labels = self._label("land_cover", "landsat.tif", "land_cover.gpkg", "name")
        chips = OUTPUT / "land_cover_chips"
        self.tools.run(
            "exporttrainingdata",
            INPUT=self.data / "landsat.tif",
            LABELS=labels,
            CLASS_FIELD="Classvalue",
            FORMAT="Classified_Tiles",
            OUTPUT=chips,
            **LAND_COVER["chips"],
        )
        self.tools.heading("Land cover: training a U-Net")
        package = self._train("land_cover", chips, LAND_COVER["training"])
        self.tools.heading("Land cover: classifying the whole scene")
        self._classify(package, OUTPUT / "land_cover.tif")
        self.digests["land_cover.tif"] = _digest(OUTPUT / "land_cover.tif")
        check = [self.engine, "-I", str(HERE / "check_points.py"), str(OUTPUT / "land_cover.tif")]
        points = self.data / "land_cover_points.gpkg"
        subprocess.run([*check, str(points)], env=self.tools.environment, stdin=subprocess.DEVNULL, check=True)

    def _classify(self, package: Path, output: Path) -> None:
        self.tools.run("classifypixels", INPUT=self.data / "landsat.tif", MODEL=package, RESUME="false", OUTPUT=output)

    def _repeat(self, trees: Path) -> None:
        self.tools.heading("The same jobs again: the outputs must be the same, byte for byte")
        self._find("block", trees, self.scratch / "detections_block.gpkg")
        self._classify(OUTPUT / "land_cover.dlpk", self.scratch / "land_cover.tif")
        for name in ("detections_block.gpkg", "land_cover.tif"):
            same = _digest(self.scratch / name) == self.digests[name]
            print(f"    {name}: {'the same bytes' if same else 'OTHER BYTES'}", flush=True)
            if not same:
                self.problems.append(f"{name} has other bytes when its job is run again")

    def _overview(self) -> None:
        self.tools.heading("Overview picture, drawn by QGIS")
        panels = []
        for scene, title in (("block", "Block held back from training"), ("other", "Another scene")):
            layers: List[Dict[str, Any]] = [
                {"path": f"{OUTPUT}/detections_{scene}.gpkg", "name": "found", "colour": "#ff2d95", "width": 3},
                {"path": f"{self.data}/trees_{scene}.gpkg", "name": "drawn by hand", "colour": "#ffd200", "width": 2},
                {"path": f"{self.data}/trees_{scene}.tif"},
            ]
            panels.append({"title": f"{title}: AP {self.accuracy[scene]['AP']:.2f} at IoU {IOU}", "layers": layers})
        panels.append({"title": "Landsat 8", "layers": [{"path": f"{self.data}/landsat.tif", "bands": [3, 2, 1]}]})
        panels.append({"title": "Land cover", "layers": [{"path": f"{OUTPUT}/land_cover.tif"}]})
        plan = self.scratch / "overview.json"
        picture = OUTPUT / "overview.png"
        plan.write_text(json.dumps({"output": str(picture), "panels": panels}), encoding="utf-8")
        command = ["/usr/bin/python3", "-B", str(HERE / "overview.py"), str(plan)]
        subprocess.run(command, env=self.tools.environment, stdin=subprocess.DEVNULL, check=True)
        if not picture.exists():
            self.problems.append("The overview picture was not drawn")

    def _conclude(self) -> int:
        self.tools.heading(f"Done; everything is in {OUTPUT}")
        for scene, figures in self.accuracy.items():
            told = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            print(f"    trees, {scene}: {told} (AP, precision, recall and F1 at IoU {IOU})")
        for one in sorted(OUTPUT.iterdir()):
            print(f"    {one.relative_to(ROOT)}{'/' if one.is_dir() else f'  {one.stat().st_size / 1e6:.2f} MB'}")
        for problem in self.problems:
            print(f"    NOT AS IT SHOULD BE: {problem}")
        return 1 if self.problems else 0


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
