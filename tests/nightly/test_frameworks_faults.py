"""For every network of arcgis.learn and of PyTorch's configurations: what does not fit is told in a sentence."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")
import torch
from deep_raster.engine.errors import ModelError
from deep_raster.engine.package.dlpk import open_package

from ..engine.models import test_arcgis_detection as detection
from ..engine.models import test_arcgis_rcnn as rcnn
from ..engine.models import torch_support as support
from ..engine.models.conftest import _alone, cache  # noqa: F401 - found here by pytest

fastai_state = detection.fastai_state
LAYOUTS = [one.stem for one in sorted(support.DATA.glob("*.layout"))]
ROWS = [*LAYOUTS, "faster_rcnn", "fastai_ssd", "feature_classifier"]


@pytest.fixture(params=ROWS)
def row(request):
    """A definition and a state dictionary that fit each other."""
    if request.param == "fastai_ssd":
        return detection.FASTAI, request.getfixturevalue("fastai_state")
    if request.param == "feature_classifier":
        changes = {"Framework": "PyTorch", "ModelConfiguration": "FeatureClassifier"}
        return {**support.members("fc_resnet18"), **changes}, support.seeded_state("fc_resnet18")
    if request.param == "faster_rcnn":
        from torchvision.models.detection import FasterRCNN
        from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

        norm = torch.nn.BatchNorm2d
        trunk = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm, trainable_layers=5)
        state = FasterRCNN(trunk, 3, min_size=192, max_size=256).state_dict()
        return {**support.members("maskrcnn_resnet18"), **rcnn.EXTENSION}, state
    return support.members(request.param), support.seeded_state(request.param)


def refuse(tmp_path, definition, state, pattern):
    opened = support.package(tmp_path / "package", definition, state)
    with pytest.raises(ModelError, match=pattern) as caught:
        support.loaded(opened)
    assert caught.value.stage
    assert caught.value.file.endswith(definition["ModelFile"])
    return opened


def test_a_missing_tensor_is_named(tmp_path, row):
    definition, state = row
    gone = next(reversed([name for name in state if name.endswith("weight")]))
    changed = {("renamed.tensor" if name == gone else name): tensor for name, tensor in state.items()}
    refuse(tmp_path, definition, changed, r"1 of \d+ tensors are missing \(the first is '[\w.]+'\).*renamed\.tensor")


def test_a_tensor_of_another_shape_is_named(tmp_path, row):
    definition, state = row
    wrong = next(name for name, tensor in state.items() if tensor.ndim == 4 and tensor.shape[2] > 1)
    refuse(tmp_path, definition, {**state, wrong: state[wrong][:, :, :1]}, f"another shape.*{wrong.split('.')[-1]}")


def test_another_number_of_classes_is_told(tmp_path, row):
    definition, state = row
    if definition["ModelConfiguration"] == "FastaiSSD":
        pytest.skip("its outputs are fixed, and all its objects are of the first class")
    more = [*definition["Classes"], {"Value": 99, "Name": "one more", "Color": [1, 2, 3]}]
    refuse(tmp_path, {**definition, "Classes": more}, state, "another number of classes")


def test_a_file_that_is_cut_off_says_so(tmp_path, row):
    definition, state = row
    opened = support.package(tmp_path / "package", definition, state)
    path = opened.file(definition["ModelFile"])
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 3 // 5])
    opened = open_package(tmp_path / "package" / "model.emd", cache=tmp_path / "other")
    with pytest.raises(ModelError, match="cut off or damaged"):
        support.loaded(opened)
