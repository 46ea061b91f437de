"""Detectors of torchvision (FCOS, RetinaNet, Faster R-CNN, Mask R-CNN) on any backbone, at the scale of the objects.

The published builders start at stride 8 with anchors of 32 px and more, resize every image to 800 px, and need trunks
pretrained on photographs. Objects in rasters are a few to a hundred pixels wide at the resolution that they are given
in; so here nothing is resized, the strides of the pyramid are an option, and anchors follow the sizes of the labels.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Mapping, Optional, Sequence

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSClassificationHead, FCOSHead, FCOSRegressionHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from ...errors import ModelError
from . import backbones
from .options import Option, from_configuration

ARCHITECTURES = ("fcos", "retinanet", "fasterrcnn", "maskrcnn")

_COMMON = (
    Option("levels", "numbers", (8.0,), "strides of the feature maps that find objects, in pixels", 4, 64),
    Option("width", "int", 48, "channels at stride 4, of the backbone 'slim'", 8, 256),
    Option("channels", "int", 64, "channels of the feature pyramid and the heads", 16, 512),
    Option("norm", "choice", "batch", "normalisation layers of pyramid and backbone 'slim'", choices=backbones.NORMS),
    Option("score_threshold", "float", 0.05, "objects below this score are not reported", 0, 1),
    Option("nms_overlap", "float", 0.4, "overlap (IoU) above which the weaker of two boxes goes", 0, 1),
    Option("max_detections", "int", 300, "objects reported per image at most", 1, 10_000),
)
_ANCHORS = (
    Option("anchor_sizes", "numbers", None, "sides of the anchors in pixels; automatic: from the labels", 2, 4096),
    Option("ratios", "numbers", (0.5, 1.0, 2.0), "height by width of the anchors", 0.05, 20),
)
_FCOS = (
    Option("head_convs", "int", 2, "convolutions of each head", 1, 8),
    Option("center_sampling", "float", 1.5, "radius around an object's centre that learns it, in strides", 0.5, 16),
)
_RETINANET = (
    Option("head_convs", "int", 2, "convolutions of each head", 1, 4),
    Option("scales", "numbers", (1.0,), "factors on every anchor size", 0.1, 10),
    Option("fg_iou", "float", 0.5, "overlap from which an anchor learns an object", 0.1, 0.95),
    Option("bg_iou", "float", 0.4, "overlap below which an anchor learns background", 0.05, 0.95),
)
_RCNN = (
    Option("box_channels", "int", 256, "width of the head that judges proposals", 16, 4096),
    Option("rpn_pre_nms_top_n_train", "int", 2000, "proposals before suppression, training", 10, 20_000),
    Option("rpn_pre_nms_top_n_test", "int", 1000, "proposals before suppression, detection", 10, 20_000),
    Option("rpn_post_nms_top_n_train", "int", 1000, "proposals after suppression, training", 10, 20_000),
    Option("rpn_post_nms_top_n_test", "int", 500, "proposals after suppression, detection", 10, 20_000),
    Option("rpn_nms_thresh", "float", 0.7, "overlap at which proposals are suppressed", 0, 1),
    Option("rpn_fg_iou_thresh", "float", 0.7, "overlap from which an anchor is a proposal", 0, 1),
    Option("rpn_bg_iou_thresh", "float", 0.3, "overlap below which an anchor is background", 0, 1),
    Option("rpn_batch_size_per_image", "int", 256, "anchors learnt per image", 1, 10_000),
    Option("rpn_positive_fraction", "float", 0.5, "share of objects among them", 0.01, 1),
    Option("box_fg_iou_thresh", "float", 0.5, "overlap from which a proposal is an object", 0, 1),
    Option("box_bg_iou_thresh", "float", 0.5, "overlap below which a proposal is background", 0, 1),
    Option("box_batch_size_per_image", "int", 256, "proposals learnt per image", 1, 10_000),
    Option("box_positive_fraction", "float", 0.25, "share of objects among them", 0.01, 1),
)
OPTIONS: dict[str, tuple[Option, ...]] = {
    "fcos": _COMMON + _FCOS,
    "retinanet": _COMMON + _ANCHORS + _RETINANET,
    "fasterrcnn": _COMMON + _ANCHORS + _RCNN,
    "maskrcnn": _COMMON + _ANCHORS + _RCNN,
}


class UnchangedImages(GeneralizedRCNNTransform):
    """Batches images as they are: normalised before they come here, and never resized, in training and after."""

    def __init__(self, divisible: int) -> None:
        super().__init__(1, 1, [0.0], [1.0], size_divisible=divisible)

    def normalize(self, image: torch.Tensor) -> torch.Tensor:
        """Return the image; any number of bands is welcome."""
        return image

    def resize(
        self, image: torch.Tensor, target: Optional[dict[str, torch.Tensor]] = None
    ) -> tuple[torch.Tensor, Optional[dict[str, torch.Tensor]]]:
        """Return image and target; pixels are pixels of the raster."""
        return image, target


class Pyramid(nn.Module):
    """Backbone and feature pyramid: coarse maps inform the finer ones, and the finest ``levels`` are handed on.

    One stride beyond the coarsest level is computed for context, and not handed on.
    """

    def __init__(self, backbone: str, bands: int, levels: Sequence[int], options: Mapping[str, Any]) -> None:
        super().__init__()
        strides = [*levels, levels[-1] * 2] if levels[-1] < 32 else list(levels)
        self.body, channels = backbones.features(backbone, bands, strides, width=options["width"], norm=options["norm"])
        self.fpn = FeaturePyramidNetwork(
            channels, options["channels"], norm_layer=backbones.norm_layer(options["norm"])
        )
        self.names = [str(level) for level in levels]
        self.out_channels = int(options["channels"])

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return one map per level of an (N, bands, H, W) batch, finest first, by the name of its stride."""
        maps = self.body(images)
        names = [*self.names, *["context"] * (len(maps) - len(self.names))]
        merged = self.fpn(OrderedDict(zip(names, maps, strict=True)))
        return OrderedDict((name, merged[name]) for name in self.names)


def label_offset(configuration: Mapping[str, Any]) -> int:
    """Return the network's label of the first class: 1 if it counts a background of its own, else 0."""
    return 1 if str(configuration.get("Architecture", "")).lower() in ("fasterrcnn", "maskrcnn") else 0


def build(configuration: Mapping[str, Any], bands: int, classes: int, image_size: Sequence[int]) -> nn.Module:
    """Build a detector with random weights.

    The network takes a list of (bands, H, W) float32 images, already normalised, 0 where a pixel has no data; in
    training also a list of targets (``boxes`` xyxy pixels, ``labels`` from :func:`label_offset`, ``masks`` (n, H, W)
    uint8 for Mask R-CNN), and returns losses; else per image ``boxes``, ``scores``, ``labels`` and ``masks``
    ((n, 1, H, W), 0..1), best first.

    Args:
        configuration: ``Architecture``, ``Backbone`` and the options of :data:`OPTIONS`.
        bands: input channels.
        classes: object classes, background not counted.
        image_size: (height, width); detectors take any size.

    Raises:
        ModelError: architecture, backbone or an option is unknown or impossible.
    """
    architecture = str(configuration.get("Architecture", "")).lower()
    if architecture not in ARCHITECTURES:
        raise ModelError(
            f"There is no detector called '{configuration.get('Architecture')}'.",
            stage="building the network",
            hint=f"Known are: {', '.join(ARCHITECTURES)}.",
        )
    options = from_configuration(OPTIONS[architecture], configuration)
    levels = _levels(options["levels"])
    trunk = Pyramid(str(configuration.get("Backbone") or backbones.SLIM), bands, levels, options)
    network: Any
    if architecture == "fcos":
        network = _fcos(trunk, classes, levels, options)
    elif architecture == "retinanet":
        network = _retinanet(trunk, classes, levels, options)
    else:
        network = _rcnn(trunk, classes, levels, options, masks=architecture == "maskrcnn")
    network.transform = UnchangedImages(max(32, levels[-1] * 2))
    return network  # type: ignore[no-any-return]


def _levels(given: Sequence[float]) -> list[int]:
    levels = sorted({int(level) for level in given})
    if any(level not in (4, 8, 16, 32, 64) for level in levels):
        raise ModelError(
            "The levels of a detector are strides out of 4, 8, 16, 32 and 64.", stage="building the network"
        )
    return levels


def _outputs(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that torchvision's one-stage detectors share."""
    return {
        "score_thresh": options["score_threshold"],
        "nms_thresh": options["nms_overlap"],
        "detections_per_img": options["max_detections"],
        "topk_candidates": max(1000, 3 * options["max_detections"]),
        "min_size": 1,
        "max_size": 1,
    }


def _fcos(trunk: Pyramid, classes: int, levels: Sequence[int], options: Mapping[str, Any]) -> nn.Module:
    anchors = AnchorGenerator(tuple((level,) for level in levels), ((1.0,),) * len(levels))
    norm, width, convs = backbones.norm_layer("group"), trunk.out_channels, options["head_convs"]
    # The head's own constructor fixes 32 groups, which few channels cannot be divided into; so its branches are made
    # here, and put into a head that was made with a number of channels it accepts.
    head = FCOSHead(32, 1, classes, convs)
    head.classification_head = FCOSClassificationHead(width, 1, classes, convs, norm_layer=norm)
    head.regression_head = FCOSRegressionHead(width, 1, convs, norm_layer=norm)
    detector: nn.Module = FCOS(
        trunk,
        classes,
        anchor_generator=anchors,
        head=head,
        center_sampling_radius=options["center_sampling"],
        **_outputs(options),
    )
    return detector


def anchor_sizes(levels: Sequence[int], given: Optional[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Share out anchor sizes over the levels, small ones to fine levels; without sizes, four strides at each level."""
    if not given:
        return tuple((4.0 * level,) for level in levels)
    ordered = sorted(given)
    shares: list[list[float]] = [[] for _ in levels]
    for place, size in enumerate(ordered):
        shares[place * len(levels) // len(ordered)].append(size)
    # Every level needs as many anchors as the others, because all share one head.
    most = max(len(share) for share in shares)
    filled: list[tuple[float, ...]] = []
    for share, level in zip(shares, levels, strict=True):
        base = share or [4.0 * level]
        filled.append(tuple(base + [base[-1] * 1.26 ** (extra + 1) for extra in range(most - len(base))]))
    return tuple(filled)


def _retinanet(trunk: Pyramid, classes: int, levels: Sequence[int], options: Mapping[str, Any]) -> nn.Module:
    sizes = tuple(
        tuple(size * scale for size in share for scale in options["scales"])
        for share in anchor_sizes(levels, options["anchor_sizes"])
    )
    anchors = AnchorGenerator(sizes, (tuple(options["ratios"]),) * len(levels))
    head = RetinaNetHead(
        trunk.out_channels,
        anchors.num_anchors_per_location()[0],
        classes,
        norm_layer=backbones.norm_layer("group"),
    )
    head.regression_head._loss_type = "giou"
    for branch in (head.classification_head, head.regression_head):
        branch.conv = nn.Sequential(*list(branch.conv)[: options["head_convs"]])
    detector: nn.Module = RetinaNet(
        trunk,
        classes,
        anchor_generator=anchors,
        head=head,
        fg_iou_thresh=options["fg_iou"],
        bg_iou_thresh=min(options["bg_iou"], options["fg_iou"]),
        **_outputs(options),
    )
    return detector


def _rcnn(trunk: Pyramid, classes: int, levels: Sequence[int], options: Mapping[str, Any], *, masks: bool) -> nn.Module:
    anchors = AnchorGenerator(anchor_sizes(levels, options["anchor_sizes"]), (tuple(options["ratios"]),) * len(levels))
    width = trunk.out_channels
    pool = MultiScaleRoIAlign(trunk.names, output_size=7, sampling_ratio=2)
    members: dict[str, Any] = {
        name: options[name] for name in options if name.startswith(("rpn_", "box_")) and name != "box_channels"
    }
    members |= {
        "rpn_anchor_generator": anchors,
        "rpn_head": RPNHead(width, anchors.num_anchors_per_location()[0]),
        "box_roi_pool": pool,
        "box_head": TwoMLPHead(width * 7 * 7, options["box_channels"]),
        "box_predictor": FastRCNNPredictor(options["box_channels"], classes + 1),
        "box_score_thresh": options["score_threshold"],
        "box_nms_thresh": options["nms_overlap"],
        "box_detections_per_img": options["max_detections"],
    }
    detector: nn.Module
    if not masks:
        detector = FasterRCNN(trunk, **members)
        return detector
    detector = MaskRCNN(
        trunk,
        mask_roi_pool=MultiScaleRoIAlign(trunk.names, output_size=14, sampling_ratio=2),
        mask_head=MaskRCNNHeads(width, (width, width), 1),
        mask_predictor=MaskRCNNPredictor(width, width, classes + 1),
        **members,
    )
    return detector
