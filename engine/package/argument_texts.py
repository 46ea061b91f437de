"""What the arguments are called that we know ourselves: labels and explanations in English, for translators as well."""

from __future__ import annotations

from typing import Dict, Tuple

# name -> (label, explanation)
TEXTS: Dict[str, Tuple[str, str]] = {
    "padding": ("Padding", "Pixels on each side for context."),
    "threshold": ("Confidence threshold", "What is below is left out."),
    "score_threshold": ("Confidence threshold", "What is below is left out."),
    "nms_overlap": ("Overlap within a tile", "Of objects that overlap more, the best stays."),
    "batch_size": ("Batch size", "Images handed to the network at a time."),
    "return_bboxes": ("Rectangles instead of outlines", ""),
    "predict_background": ("Predict background", "Allow class 0."),
    "own_code": ("Run the package's own network", "Asks for your consent."),
    "tile_size": ("Tile size", "Side of an image for the network, pixels."),
    "resampled_image_size": ("Image size", "Chips are resampled to this side, pixels."),
    "test_time_augmentation": ("Test-time augmentation", "Predict turned images too, join the answers."),
    "merge_policy": ("Joining of turned images", "Mean, best or worst score."),
    "tta_scales": (
        "Scales of augmentation",
        "Sizes at which copies are predicted, such as 0.8,1,1.25; with test-time augmentation.",
    ),
    "exclude_pad_detections": (
        "Leave out cut objects",
        "Objects that a tile cuts give way to the neighbour's or are joined; False reports each piece.",
    ),
    "blend": ("Blend tiles", "Tiles overlap and fade into one another, for networks of unknown reach."),
    "skip_constant": ("Leave out tiles of one colour", "Water or empty margins without a nodata value."),
    "failed_tiles": (
        "Tiles that cannot be done",
        "stop ends the job, which can go on later; nodata leaves them empty.",
    ),
    "simplify": ("Simplify outlines", "Tolerance in pixels for outlines of masks and class polygons."),
    "regularize": ("Right-angled outlines", "Make outlines of masks right-angled, as buildings are."),
    "memory_budget": (
        "Memory budget",
        "Megabytes that the job may use; 0: half of what is free. It sets workers, batch and tiles.",
    ),
}
