"""What the tensors of a network file most likely mean, from their names, shapes and the operators that make them.

A guess is a proposal that people see and may correct in the model definition, not a verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable, Optional, Sequence

from .network import TensorInfo

if TYPE_CHECKING:
    from ..package.emd import ModelDefinition

Members = dict[str, Any]
# Name of an output to the activation it has gone through ("is sigmoid", "is softmax", "is argmax", "is clip", or "").
MadeBy = Callable[[str], str]
_SIZE_INPUTS = {
    "orig_target_sizes": ("Width", "Height"),
    "image_shape": ("Height", "Width"),
    "im_shape": ("Height", "Width"),
    "scale_factor": ("Scale", "Scale"),
}
# Model type -> the name that exporters give such a task.
_TASKS = {
    "ObjectDetection": "detect",
    "InstanceDetection": "segment",
    "ImageClassification": "segmentation",
    "ObjectClassification": "classify",
    "SuperResolution": "superresolution",
    "Pix2Pix": "regress",
    "Pix2PixHD": "regress",
    "CycleGAN": "regress",
}
_MANY_BOXES = 1000  # heads without suppression have more, end-to-end outputs have fewer


@dataclass(frozen=True)
class Hints:
    """What is known beside the tensors: number of classes (0: unknown), kind of model, family of the network."""

    classes: int = 0
    task: str = ""
    family: str = ""

    @classmethod
    def of(cls, definition: ModelDefinition) -> Hints:
        """Return what a definition tells beside the roles: its classes and its model type."""
        return cls(len(definition.classes), _TASKS.get(definition.model_type, ""))


def guess_input(inputs: Sequence[TensorInfo]) -> tuple[TensorInfo, Members]:
    """Return the input that takes images and the proposed ``Input`` object."""
    image = next((info for info in inputs if len(info.shape) == 4), inputs[0])
    image = next((info for info in inputs if len(info.shape) == 3), image) if len(image.shape) not in (3, 4) else image
    members: Members = {"Name": image.name}
    batched = len(image.shape) == 4
    if not batched:
        members["Batched"] = False
    shape = image.shape if batched else (None, *image.shape)
    if len(shape) == 4 and shape[3] is not None and shape[3] <= 16 and (shape[1] is None or shape[1] > 16):
        members["Layout"] = "NHWC"
    if image.dtype not in ("float32", "unknown"):
        members["Type"] = image.dtype
    extra = {info.name: list(_SIZE_INPUTS[info.name]) for info in inputs if info.name in _SIZE_INPUTS}
    if extra:
        members["Extra"] = extra
    return image, members


def guess_output(
    made_by: MadeBy, outputs: Sequence[TensorInfo], image: TensorInfo, layout: str, hints: Hints
) -> Members:
    """Return the proposed ``Output`` object; empty if nothing fits."""
    named = _named_tables(outputs, hints)
    if named is not None:
        return named
    large = [info for info in outputs if len(info.shape) == 4]
    tables = [info for info in outputs if len(info.shape) == 3]
    main = next((info for info in outputs if info.name == "out"), outputs[0])  # torchvision's name beside "aux"
    if len(outputs) >= 2 and tables and large and not _image_like(tables[0], image, layout):
        return {**_rows(tables[0], hints), "Tensors": {"Main": tables[0].name, "Prototypes": large[0].name}}
    if len(main.shape) == 4 or (len(main.shape) == 3 and _image_like(main, image, layout)):
        return _pixels(made_by, main, image, layout, hints)
    if len(main.shape) == 3:
        return {**_rows(main, hints), "Tensors": {"Main": main.name}}
    if len(main.shape) == 2 and main.shape[1] == 7 and hints.task != "classify":
        columns = ["image", "xmin", "ymin", "xmax", "ymax", "label", "score"]
        return {"Kind": "EndToEnd", "Columns": columns, "Tensors": {"Main": main.name}}
    if len(main.shape) == 2:
        activation = made_by(main.name) or ("sigmoid" if main.shape[1] == 1 else "softmax")
        return {"Kind": "ImageScores", "Activation": _still(activation), "Tensors": {"Main": main.name}}
    return {}


def _still(activation: str) -> str:
    """Return the activation that is still to be applied."""
    return "none" if activation.startswith("is ") else activation


def _pixels(made_by: MadeBy, main: TensorInfo, image: TensorInfo, layout: str, hints: Hints) -> Members:
    members: Members = {"Tensors": {"Main": main.name}}
    out_layout = "NCHW"
    if len(main.shape) == 4 and layout == "NHWC" and main.shape[1] != 1:
        out_layout = members["Layout"] = "NHWC"
    side_in, side_out = _first_side(image, layout), _first_side(main, out_layout)
    channels = main.shape[3 if out_layout == "NHWC" else 1] if len(main.shape) == 4 else 1
    if side_in and side_out and side_out > side_in:
        return {"Kind": "Bands", "Scale": side_out // side_in, **members}
    if hints.task == "superresolution":
        return {"Kind": "Bands", **members}
    if hints.task == "regress":
        return {"Kind": "Bands", **members}
    activated = made_by(main.name)
    whole = main.dtype.startswith(("int", "uint"))
    if whole or activated == "is argmax":
        return {"Kind": "PixelClasses", **members}
    activation = activated or ("sigmoid" if channels == 1 else "softmax")
    return {"Kind": "PixelScores", "Activation": _still(activation), **members}


def _rows(table: TensorInfo, hints: Hints) -> Members:
    """Guess the layout of a table of boxes: (N, boxes, numbers) or (N, numbers, boxes)."""
    second, third = table.shape[1] or 0, table.shape[2] or 0
    columns = bool(second and (second < third or not third))
    numbers, boxes = (second, third) if columns else (third, second)
    if hints.family == "rtdetr":
        return {"Kind": "Rows", "BoxFormat": "cxcywh", "BoxUnits": "fraction"}
    finished = numbers == 6 or (numbers > 6 and hints.task == "segment" and hints.classes and numbers == 6 + 32)
    if not columns and finished and 0 < boxes <= _MANY_BOXES and hints.family != "rows":
        return {"Kind": "EndToEnd"}
    members: Members = {"Kind": "Rows", "BoxFormat": "cxcywh", "Suppress": True}
    if columns:
        members["Orientation"] = "columns"
    # Heads before YOLOv8 give rows with objectness, later ones columns without; the class names settle it.
    objectness = numbers - 5 == hints.classes if hints.classes and numbers - hints.classes in (4, 5) else not columns
    if objectness and hints.task != "obb":
        members["Objectness"] = True
    if hints.task == "obb":
        members["Angle"] = "radians"
    return members


def _named_tables(outputs: Sequence[TensorInfo], hints: Hints) -> Optional[Members]:
    """Guess detection networks whose boxes and scores are tensors of their own; None if these are no such outputs."""
    boxes = _by_name(outputs, ("detection_boxes", "pred_boxes", "bboxes", "boxes", "dets"))
    if boxes is None or len(outputs) < 2 or len(boxes.shape) not in (2, 3, 4):
        return None
    labels = _by_name(outputs, ("detection_classes", "labels", "class_ids", "classes"))
    if boxes.shape[-1] == 5 and labels is not None:
        names = ["xmin", "ymin", "xmax", "ymax", "score"]
        return {"Kind": "EndToEnd", "Columns": names, "Tensors": {"Main": boxes.name, "Labels": labels.name}}
    scores = _by_name(outputs, ("detection_scores", "pred_logits", "logits", "scores", "confs"))
    if scores is None:
        return None
    tensors = {"Boxes": boxes.name, "Scores": scores.name}
    if boxes.name.startswith("pred_boxes") or "logits" in scores.name:
        return {"Kind": "Boxes", **_detr(boxes, scores, hints), "Tensors": tensors}
    if labels is None:
        background = bool(scores.shape[-1] and hints.classes and scores.shape[-1] == hints.classes + 1)
        first = "confs" not in scores.name and (background or not hints.classes)
        return {
            "Kind": "Boxes", "BoxUnits": "fraction", "Suppress": True,
            "Background": "first" if first else "none", "Tensors": tensors,
        }  # fmt: skip
    tensors["Labels"] = labels.name
    masks = _by_name(outputs, ("masks",))
    if masks is not None:
        tensors["Masks"] = masks.name
    if boxes.name.startswith("detection_"):
        return {"Kind": "Boxes", "BoxFormat": "yxyx", "BoxUnits": "fraction", "FirstLabel": 1, "Tensors": tensors}
    # torchvision counts labels from 1 and has no first axis; exports of transformers count from 0.
    first_label = 1 if len(boxes.shape) == 2 else 0
    units = "fraction" if boxes.name.startswith("bboxes") else "pixels"
    return {
        "Kind": "Boxes",
        "BoxUnits": units,
        "FirstLabel": max(first_label, int(units == "fraction")),
        "Tensors": tensors,
    }


def _detr(boxes: TensorInfo, scores: TensorInfo, hints: Hints) -> Members:
    """Tell DETR (softmax, the last class is "nothing") from its successors (sigmoid, no such class)."""
    found = scores.shape[-1] or 0
    queries = boxes.shape[1] or 0
    sigmoid = found == hints.classes if hints.classes and found - hints.classes in (0, 1) else queries >= 200
    members: Members = {"BoxFormat": "cxcywh", "BoxUnits": "fraction"}
    if sigmoid:
        return {**members, "Activation": "sigmoid", "MultiLabel": True}
    return {**members, "Activation": "softmax", "Background": "last"}


def _by_name(outputs: Sequence[TensorInfo], names: Sequence[str]) -> Optional[TensorInfo]:
    for name in names:
        for info in outputs:
            if info.name.lower().split(":")[0].startswith(name):
                return info
    return None


def _image_like(info: TensorInfo, image: TensorInfo, layout: str) -> bool:
    """Whether a tensor of three axes is an image without a channel axis."""
    if info.dtype.startswith(("int", "uint")):
        return True
    side = _first_side(image, layout)
    return len(info.shape) == 3 and side is not None and info.shape[1] == side and info.shape[2] is not None


def _first_side(info: TensorInfo, layout: str) -> Optional[int]:
    if len(info.shape) == 3:
        return info.shape[1]
    return info.shape[1 if layout == "NHWC" else 2]
