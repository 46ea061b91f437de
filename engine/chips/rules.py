"""What each chip format takes, and which parameters go together; the standard library alone.

The facts are those of ArcGIS' own exporter, so that a folder written here is one that it could have written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Tuple

from ..errors import JobError
from ..jobs import ITEMS_SEPARATELY, MOSAICKED, ExportTrainingData

FEATURES, EITHER, NONE = "features", "either", "none"
FIXED_SIZE, BOUNDING_BOX = "FIXED_SIZE", "BOUNDING_BOX"
MAP_SPACE, PIXEL_SPACE = "MAP_SPACE", "PIXEL_SPACE"
APPEND, REPLACE, CONTINUE = "APPEND", "REPLACE", "CONTINUE"
CHIP_FORMATS = ("TIFF", "PNG", "JPEG", "MRF")
MAX_SIDE = 16_384


@dataclass(frozen=True)
class Traits:
    """What a format takes and how it counts.

    Attributes:
        module: module of :mod:`.formats` that writes it.
        labels: "features", "either" (features or a class raster) or "none".
        per_object: one chip per feature instead of a sliding window.
        second_raster: a second raster may be given.
        needs_second: a second raster must be given.
        instances: instance data must be given.
        pixel_statistics: class statistics count pixels, not features.
        zero_is_background: class value 0 means unlabelled, so no class may have it.
    """

    module: str
    labels: str = FEATURES
    per_object: bool = False
    second_raster: bool = False
    needs_second: bool = False
    instances: bool = False
    pixel_statistics: bool = False
    zero_is_background: bool = False


FORMATS: Dict[str, Traits] = {
    "KITTI_rectangles": Traits("kitti"),
    "PASCAL_VOC_rectangles": Traits("pascal_voc"),
    "Classified_Tiles": Traits(
        "classified_tiles", EITHER, second_raster=True, pixel_statistics=True, zero_is_background=True
    ),
    "RCNN_Masks": Traits("rcnn_masks", EITHER),
    "Labeled_Tiles": Traits("labeled_tiles", per_object=True),
    "MultiLabeled_Tiles": Traits("multilabeled_tiles"),
    "Export_Tiles": Traits("export_tiles", NONE, second_raster=True),
    "CycleGAN": Traits("cyclegan", NONE, second_raster=True, needs_second=True),
    "Imagenet": Traits("imagenet", per_object=True),
    "Panoptic_Segmentation": Traits("panoptic", EITHER, instances=True, pixel_statistics=True, zero_is_background=True),
    "COCO": Traits("coco", EITHER),
    "YOLO": Traits("yolo", EITHER),
    "YOLO_segmentation": Traits("yolo_segmentation", EITHER),
}


def traits(name: str) -> Traits:
    """Return the traits of a format.

    Raises:
        JobError: there is no such format.
    """
    if name not in FORMATS:
        raise JobError(f"There is no metadata format “{name}”.", hint=f"Known are {', '.join(FORMATS)}.")
    return FORMATS[name]


def check_job(job: ExportTrainingData) -> Traits:
    """Return the traits of the job's format after checking all that can be checked without opening a file.

    Raises:
        JobError: parameters are out of range or do not go together.
    """
    found = traits(job.format)
    problems = [*_out_of_range(job), *_unfitting(job, found)]
    if problems:
        raise JobError(" ".join(problems), stage="checking the parameters")
    return found


def _out_of_range(job: ExportTrainingData) -> List[str]:
    checks: Tuple[Tuple[bool, str], ...] = (
        (not job.inputs, "There is no input raster."),
        (not job.output, "There is no output folder."),
        (job.chip_format not in CHIP_FORMATS, f"The chip format must be one of {', '.join(CHIP_FORMATS)}."),
        (not 1 <= job.tile_size_x <= MAX_SIDE, f"The tile width must be 1 to {MAX_SIDE} pixels."),
        (not 1 <= job.tile_size_y <= MAX_SIDE, f"The tile height must be 1 to {MAX_SIDE} pixels."),
        (job.stride_x < 0 or job.stride_y < 0, "A stride must be positive, or 0 for the tile size."),
        (not 0 <= job.rotation < 360, "The rotation angle must be at least 0 and less than 360 degrees."),
        (0 < job.rotation < 1, "A rotation angle of less than 1 degree would turn each chip hundreds of times."),
        (not 0 <= job.min_overlap <= 1, "The minimum overlap ratio must be between 0 and 1."),
        (job.buffer_radius < 0, "The buffer radius must not be negative."),
        (job.cell_size < 0, "The cell size must not be negative."),
        (job.crop_mode not in (FIXED_SIZE, BOUNDING_BOX), "The crop mode must be FIXED_SIZE or BOUNDING_BOX."),
        (job.reference_system not in (MAP_SPACE, PIXEL_SPACE), "The reference system is MAP_SPACE or PIXEL_SPACE."),
        (
            job.processing_mode not in (MOSAICKED, ITEMS_SEPARATELY),
            f"The processing mode must be {MOSAICKED} or {ITEMS_SEPARATELY}.",
        ),
        (job.existing not in (APPEND, REPLACE, CONTINUE), "“existing” must be APPEND, REPLACE or CONTINUE."),
        (
            min(job.split) < 0 or abs(sum(job.split) - 1) > 1e-6,
            "The shares of training, validation and test must not be negative and must add up to 1.",
        ),
    )
    return [sentence for wrong, sentence in checks if wrong]


def _unfitting(job: ExportTrainingData, found: Traits) -> List[str]:
    """Return what does not go together with the format."""
    name = job.format
    labelled = job.labels is not None or job.label_raster is not None
    instances = job.instances is not None or job.instances_raster is not None
    checks: Tuple[Tuple[bool, str], ...] = (
        (job.labels is not None and job.label_raster is not None, "Give either labels or a class raster, not both."),
        (found.labels != NONE and not labelled, f"{name} needs labels."),
        (found.labels == NONE and labelled, f"{name} takes no labels."),
        (found.labels == FEATURES and job.label_raster is not None, f"{name} takes features as labels, not a raster."),
        (bool(job.inputs2) and not found.second_raster, f"{name} takes no second raster."),
        (found.needs_second and not job.inputs2, f"{name} needs a second raster."),
        (instances and not found.instances, f"{name} takes no instance data."),
        (found.instances and not instances, f"{name} needs instance data."),
        (
            job.instances is not None and job.instances_raster is not None,
            "Give instance data either as features or as a raster, not both.",
        ),
        (job.blacken and not found.per_object, "Blackening around features goes with Labeled_Tiles and Imagenet only."),
        (
            job.crop_mode == BOUNDING_BOX and not found.per_object,
            "The crop mode BOUNDING_BOX goes with Labeled_Tiles and Imagenet only.",
        ),
        (
            job.all_tiles and found.per_object,
            f"{name} makes one chip per feature, so tiles without features cannot be exported.",
        ),
        (
            job.processing_mode == ITEMS_SEPARATELY
            and len(job.inputs2) not in (0, len(job.inputs))
            and bool(job.inputs2),
            "To process items separately, the second raster needs as many items as the first.",
        ),
    )
    return [sentence for wrong, sentence in checks if wrong]
