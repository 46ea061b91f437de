"""Run by the engine's interpreter: writes a small detector with random weights (fixed seed) as a package."""

import importlib.util
import json
import sys
import zipfile
from io import BytesIO
from pathlib import Path

root, output, size = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
spec = importlib.util.spec_from_file_location("launch", root / "engine" / "launch.py")
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch.register()

import torch  # noqa: E402 - only the engine's environment has it
from deep_raster.engine.models.networks import build  # noqa: E402

configuration = {"Name": "DeepRaster", "Task": "detection", "Architecture": "fcos", "Backbone": "slim"}
torch.manual_seed(3)
network = build(configuration, 3, 2, (size, size))
weights = BytesIO()
torch.save(network.state_dict(), weights)
definition = {
    "Framework": "PyTorch",
    "ModelConfiguration": configuration,
    "ModelFile": "random.pth",
    "ModelType": "ObjectDetection",
    "ImageWidth": size,
    "ImageHeight": size,
    "ExtractBands": [0, 1, 2],
    "Normalization": {"Method": "scale"},
    "SupportsVariableTileSize": True,
    "Classes": [
        {"Value": 1, "Name": "tree", "Color": [0, 200, 0]},
        {"Value": 2, "Name": "house", "Color": [200, 0, 0]},
    ],
}
with zipfile.ZipFile(output, "w") as archive:
    archive.writestr(f"{output.stem}.emd", json.dumps(definition))
    archive.writestr("random.pth", weights.getvalue())
