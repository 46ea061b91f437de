"""FasterRCNN and MaskRCNN of arcgis.learn against torchvision's own networks with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
from deep_raster.engine.errors import ModelError  # noqa: E402
from deep_raster.engine.models import arcgis_rcnn  # noqa: E402
from deep_raster.engine.package.emd import build_definition  # noqa: E402

from . import torch_support as support  # noqa: E402
from .torch_support import load  # noqa: E402

pytestmark = pytest.mark.torch


def torchvision_mask_rcnn(state):
    """torchvision's own Mask R-CNN over its own ResNet, with the weights renamed."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    class Trunk(torch.nn.Module):
        out_channels = 512

        def __init__(self):
            super().__init__()
            self.network = support.torchvision_trunk(state, "backbone.", "resnet18", 3)

        def forward(self, images):
            return support.stages(self.network, images)["layer4"]

    anchors = AnchorGenerator(sizes=((32,),), aspect_ratios=((0.5, 1.0, 2.0),))
    network = MaskRCNN(Trunk(), 3, min_size=192, max_size=256, rpn_anchor_generator=anchors, box_score_thresh=0.4)
    heads = {key: value for key, value in state.items() if not key.startswith("backbone.")}
    _, surplus = network.load_state_dict(heads, strict=False)
    assert not surplus
    return network.eval()


def soft_heads(name):
    """Second-stage scores between the extremes, masks with both sides."""
    state = dict(support.seeded_state(name))
    state["roi_heads.box_predictor.cls_score.weight"] = state["roi_heads.box_predictor.cls_score.weight"] * 0.3
    state["roi_heads.box_predictor.bbox_pred.weight"] = state["roi_heads.box_predictor.bbox_pred.weight"] * 0.2
    return state


def test_mask_rcnn_is_torchvisions_on_a_single_map(tmp_path):
    name = "maskrcnn_resnet18"
    definition = build_definition(support.members(name))
    empty = {key: torch.empty(shape) for key, (shape, _) in support.layout(name).items()}
    built = arcgis_rcnn.build(definition, empty, 3, masks=True)
    assert {key: (tuple(one.shape), one.dtype) for key, one in built.state_dict().items()} == support.layout(name)
    state = soft_heads(name)
    model, *_ = load(tmp_path, name, state=state, arguments={"threshold": "0.4"})
    pixels = support.pixels((1, 3, 128, 128))
    with torch.inference_mode():
        (wanted,) = torchvision_mask_rcnn(state)([torch.from_numpy(pixels[0] / 255.0).float()])
    inked = (wanted["masks"][:, 0] >= 0.5).any(dim=(1, 2))
    assert inked.any()
    (found,) = model.detect(pixels, support.everywhere(pixels))
    parts = [wanted[one][inked].numpy() for one in ("boxes", "scores", "labels")]
    support.assert_same_objects(support.hundredths(found), parts[0], parts[1], parts[2] - 1)
    rasterised = torchvision_area(wanted["masks"][inked][0, 0].numpy() >= 0.5)
    assert abs(area(found.rings[0]) - rasterised) < 1e-6


def area(rings):
    """Area of an outline less its holes, by the shoelace formula."""
    sizes = []
    for ring in rings:
        x, y = ring.T
        sizes.append(abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2)
    return sizes[0] - sum(sizes[1:])


def torchvision_area(mask):
    """Pixels of the largest part of a mask, parts joined by sides."""
    measure = pytest.importorskip("skimage.measure")
    parts = measure.label(mask, connectivity=1)
    return np.bincount(parts.ravel())[1:].max()


def test_mask_rcnn_gives_rectangles_when_asked(tmp_path):
    state = soft_heads("maskrcnn_resnet18")
    model, *_ = load(
        tmp_path, "maskrcnn_resnet18", state=state, arguments={"threshold": "0.4", "return_bboxes": "True"}
    )
    pixels = support.pixels((1, 3, 128, 128))
    (found,) = model.detect(pixels, support.everywhere(pixels))
    assert len(found.rings)
    for (ring,) in found.rings:
        assert ring.shape == (5, 2)
        assert len(np.unique(ring[:, 0])) == len(np.unique(ring[:, 1])) == 2


EXTENSION = {
    "ModelConfiguration": "_model_extension_inferencing",
    "ModelType": "ObjectDetection",
    "ModelName": "FasterRCNN",
    "ModelParameters": {"backbone": "resnet18", "backend": "pytorch"},
    "Kwargs": {},
}


@pytest.mark.parametrize("frozen", [True, False])
def test_faster_rcnn_is_torchvisions_with_a_pyramid(tmp_path, frozen):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.ops import FrozenBatchNorm2d

    norm = (lambda count: FrozenBatchNorm2d(count, eps=0.0)) if frozen else torch.nn.BatchNorm2d
    torch.manual_seed(0)
    trunk = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm, trainable_layers=5)
    network = FasterRCNN(trunk, 3, min_size=192, max_size=256, box_score_thresh=0.2).eval()
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(4)
    state = network.state_dict()
    model, *_ = load(
        tmp_path,
        "maskrcnn_resnet18",
        EXTENSION,
        {"model": state} if frozen else state,
        {"threshold": "0.2", "nms_overlap": "0.3"},
    )
    pixels = support.pixels((1, 3, 128, 128))
    with torch.inference_mode():
        (wanted,) = network([torch.from_numpy(pixels[0] / 255.0).float()])
    boxes, scores, labels = (wanted[one].numpy() for one in ("boxes", "scores", "labels"))
    kept = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        kept += list(places[support.greedy(boxes[places], scores[places], 0.3, 1000)])
    (found,) = model.detect(pixels, support.everywhere(pixels))
    support.assert_same_objects(support.hundredths(found), boxes[kept], scores[kept], labels[kept] - 1)


def test_faster_rcnn_on_a_single_map_with_anchors_of_all_sizes(tmp_path):
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    torch.manual_seed(3)
    trunk = torch.nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
    trunk.out_channels = 512
    anchors = AnchorGenerator(((32, 64, 128, 256, 512),), ((0.5, 1.0, 2.0),))
    network = FasterRCNN(
        trunk, 3, min_size=192, max_size=256, rpn_anchor_generator=anchors, box_score_thresh=0.2, box_nms_thresh=0.3
    ).eval()
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.weight.mul_(4)
    state, asked = network.state_dict(), {"threshold": "0.2", "nms_overlap": "0.3"}
    model, *_ = load(tmp_path, "maskrcnn_resnet18", {**EXTENSION, "Kwargs": {"box_nms_thresh": 0.3}}, state, asked)
    pixels = support.pixels((1, 3, 128, 128))
    with torch.inference_mode():
        (wanted,) = network([torch.from_numpy(pixels[0] / 255.0).float()])
    (found,) = model.detect(pixels, support.everywhere(pixels))
    parts = [wanted[one].numpy() for one in ("boxes", "scores", "labels")]
    support.assert_same_objects(support.hundredths(found), parts[0], parts[1], parts[2] - 1)


def test_names_of_older_torchvision_versions_are_understood():
    names = {
        "model.rpn.head.conv.weight": "rpn.head.conv.0.0.weight",
        "model.rpn.head.cls_logits.bias": "rpn.head.cls_logits.bias",
        "model.backbone.fpn.inner_blocks.2.bias": "backbone.fpn.inner_blocks.2.0.bias",
        "model.backbone.fpn.layer_blocks.0.weight": "backbone.fpn.layer_blocks.0.0.weight",
        "model.backbone.body.layer1.0.conv1.weight": "backbone.body.layer1.0.conv1.weight",
        "model.roi_heads.box_head.fc6.weight": "roi_heads.box_head.fc6.weight",
        "model.roi_heads.mask_head.mask_fcn4.bias": "roi_heads.mask_head.3.0.bias",
    }
    assert list(arcgis_rcnn.present_names(dict.fromkeys(names, torch.zeros(1)))) == list(names.values())


def test_unknown_training_options_of_mask_rcnn_are_refused(tmp_path):
    state = {"x": torch.zeros(1)}
    with pytest.raises(ModelError, match="option backbone_fn"):
        load(tmp_path, "maskrcnn_resnet18", {"MaskRCNNkwargs": {"backbone_fn": "x"}}, state)
