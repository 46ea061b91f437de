"""Cut labelled chips to train on."""

from __future__ import annotations

from typing import List

from qgis.core import (
    QgsProcessingOutputDefinition,
    QgsProcessingOutputNumber,
    QgsProcessingParameterDefinition,
)

from ..engine import jobs
from . import parameters
from .base import TRAINING_DATA, EngineAlgorithm
from .reader import ParameterReader
from .text import tr

FORMATS = (
    "PASCAL_VOC_rectangles",
    "KITTI_rectangles",
    "RCNN_Masks",
    "Classified_Tiles",
    "Labeled_Tiles",
    "MultiLabeled_Tiles",
    "Imagenet",
    "Export_Tiles",
    "CycleGAN",
    "Panoptic_Segmentation",
    "COCO",
    "YOLO",
    "YOLO_segmentation",
)
EXISTING = ("APPEND", "REPLACE", "CONTINUE")
CHIP_FORMATS = ("TIFF", "PNG", "JPEG", "MRF")
REFERENCE_SYSTEMS = ("MAP_SPACE", "PIXEL_SPACE")
CROP_MODES = ("FIXED_SIZE", "BOUNDING_BOX")


class ExportTrainingData(EngineAlgorithm):
    """deepraster:exporttrainingdata."""

    ID = "exporttrainingdata"
    GROUP = TRAINING_DATA
    TAGS = ("chips", "labels", "VOC", "KITTI", "samples", "Export Training Data For Deep Learning")

    def title(self) -> str:
        return tr("Export training data")

    def summary(self) -> str:
        return tr(
            "Cuts a raster and its labels into small images (chips) with label files, in the formats that training "
            "tools read."
        )

    def declare(self) -> List[QgsProcessingParameterDefinition]:
        rare = parameters.advanced
        return [
            parameters.raster("INPUT", tr("Input raster"), tr("The imagery to cut chips from.")),
            rare(
                parameters.raster(
                    "INPUT2",
                    tr("Second raster"),
                    tr("The later date for change detection, or the target of image translation."),
                    optional=True,
                )
            ),
            parameters.layer(
                "LABELS",
                tr("Labels"),
                tr("Labelled features, or a raster of class values; formats without labels need none."),
                optional=True,
            ),
            parameters.field(
                "CLASS_FIELD",
                tr("Class field"),
                tr(
                    "Field with the class of each feature; empty takes Classvalue, Value or Classname if there is one, "
                    "else all features are one class."
                ),
                "LABELS",
            ),
            parameters.choice("FORMAT", tr("Label format"), tr("How labels are written beside the chips."), FORMATS),
            parameters.choice(
                "CHIP_FORMAT",
                tr("Image format"),
                tr("Format of the chips; PNG and JPEG hold at most three bands."),
                CHIP_FORMATS,
            ),
            parameters.integer("TILE_SIZE_X", tr("Tile width"), tr("Pixels."), 256, minimum=1),
            parameters.integer("TILE_SIZE_Y", tr("Tile height"), tr("Pixels."), 256, minimum=1),
            parameters.integer(
                "STRIDE_X", tr("Step to the right"), tr("Pixels from chip to chip; 0 takes the tile width."), 128
            ),
            parameters.integer(
                "STRIDE_Y", tr("Step down"), tr("Pixels from chip to chip; 0 takes the tile height."), 128
            ),
            parameters.boolean(
                "ALL_TILES", tr("Also tiles without labels"), tr("Write chips in which nothing is labelled as well.")
            ),
            rare(
                parameters.real(
                    "BUFFER_RADIUS", tr("Radius around points"), tr("Map units; makes circles of labelled points."), 0.0
                )
            ),
            parameters.features(
                "MASK",
                tr("Mask"),
                tr("Only chips completely inside these polygons are written."),
                optional=True,
                geometry=[parameters.POLYGON],
            ),
            rare(
                parameters.real(
                    "ROTATION",
                    tr("Rotation angle"),
                    tr("Degrees; chips are written again for each multiple of the angle below 360."),
                    0.0,
                    maximum=359.0,
                )
            ),
            rare(
                parameters.choice(
                    "REFERENCE_SYSTEM",
                    tr("Reference system"),
                    tr("MAP_SPACE for maps, PIXEL_SPACE for images without a place on the map."),
                    REFERENCE_SYSTEMS,
                )
            ),
            rare(
                parameters.boolean(
                    "BLACKEN", tr("Blacken around features"), tr("For labelled tiles: hide what is not the object.")
                )
            ),
            rare(
                parameters.choice(
                    "CROP_MODE",
                    tr("Crop mode"),
                    tr("For labelled tiles: chips of the tile size, or of the object's own size."),
                    CROP_MODES,
                )
            ),
            rare(
                parameters.layer(
                    "INSTANCES",
                    tr("Instance labels"),
                    tr("For panoptic segmentation: the single objects, as polygons or raster."),
                    optional=True,
                )
            ),
            rare(
                parameters.real(
                    "MIN_OVERLAP",
                    tr("Least part of an object"),
                    tr("An object is labelled in a chip only if this part of it lies inside (0 to 1)."),
                    0.0,
                    maximum=1.0,
                )
            ),
            *parameters.extent_and_cell_size(),
            rare(
                parameters.rasters(
                    "COLLECTION", tr("Further rasters"), tr("More rasters of the same kind: layers, files or folders.")
                )
            ),
            rare(parameters.processing_mode()),
            rare(
                parameters.choice(
                    "EXISTING",
                    tr("Chips that are there"),
                    tr(
                        "APPEND adds to chips already in the folder, REPLACE removes them first, CONTINUE goes on with "
                        "the same export where it stopped."
                    ),
                    EXISTING,
                )
            ),
            rare(
                parameters.string(
                    "SPLIT",
                    tr("Parts to train, validate and test"),
                    tr("For COCO and YOLO: three parts of 1, given to whole blocks of the raster."),
                    default="0.8,0.1,0.1",
                )
            ),
            rare(parameters.workers()),
            parameters.new_folder(
                "OUTPUT", tr("Training data folder"), tr("Folder of the chips; an existing one is added to.")
            ),
        ]

    def declare_outputs(self) -> List[QgsProcessingOutputDefinition]:
        return [
            QgsProcessingOutputNumber("CHIPS", tr("Number of chips")),
            QgsProcessingOutputNumber("OBJECTS", tr("Number of labelled objects")),
        ]

    def job(self, read: ParameterReader) -> jobs.Job:
        second = read.raster("INPUT2")
        labels_are_raster = read.is_raster("LABELS")
        instances_are_raster = read.is_raster("INSTANCES")
        return jobs.ExportTrainingData(
            inputs=read.rasters("INPUT", "COLLECTION"),
            output=read.file_output("OUTPUT"),
            format=read.choice("FORMAT"),
            inputs2=() if second is None else (second,),
            labels=None if labels_are_raster else read.vector("LABELS"),
            label_raster=read.raster("LABELS") if labels_are_raster else None,
            class_field=read.text("CLASS_FIELD"),
            chip_format=read.choice("CHIP_FORMAT"),
            tile_size_x=read.whole("TILE_SIZE_X"),
            tile_size_y=read.whole("TILE_SIZE_Y"),
            stride_x=read.whole("STRIDE_X"),
            stride_y=read.whole("STRIDE_Y"),
            all_tiles=read.flag("ALL_TILES"),
            buffer_radius=read.number("BUFFER_RADIUS"),
            mask=read.vector("MASK"),
            rotation=read.number("ROTATION"),
            reference_system=read.choice("REFERENCE_SYSTEM"),
            blacken=read.flag("BLACKEN"),
            crop_mode=read.choice("CROP_MODE"),
            instances=None if instances_are_raster else read.vector("INSTANCES"),
            instances_raster=read.raster("INSTANCES") if instances_are_raster else None,
            min_overlap=read.number("MIN_OVERLAP"),
            extent=read.extent(),
            cell_size=read.number("CELL_SIZE"),
            processing_mode=read.choice("PROCESSING_MODE"),
            split=read.parts("SPLIT"),
            existing=read.choice("EXISTING"),
            workers=read.whole("WORKERS"),
        )
