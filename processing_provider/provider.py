"""The provider: what makes the algorithms appear in the toolbox, in the modeler and in ``qgis_process``."""

from __future__ import annotations

from typing import List

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from ..engine import __version__
from .base import ICONS
from .classifyobjects import ClassifyObjects
from .classifypixels import ClassifyPixels
from .computeaccuracy import ComputeAccuracy
from .createpackage import CreatePackage
from .detectchange import DetectChange
from .detectobjects import DetectObjects
from .exporttrainingdata import ExportTrainingData
from .labelobjects import LabelObjects
from .nonmaximumsuppression import NonMaximumSuppression
from .packageinfo import PackageInfo
from .setupenvironment import SetupEnvironment
from .text import tr
from .trainmodel import TrainModel

ALGORITHMS = (
    LabelObjects,
    ExportTrainingData,
    TrainModel,
    CreatePackage,
    PackageInfo,
    DetectObjects,
    ClassifyPixels,
    ClassifyObjects,
    DetectChange,
    NonMaximumSuppression,
    ComputeAccuracy,
    SetupEnvironment,
)


class DeepRasterProvider(QgsProcessingProvider):
    """deepraster."""

    def loadAlgorithms(self) -> None:
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def id(self) -> str:
        return "deepraster"

    def name(self) -> str:
        return tr("Deep Raster")

    def longName(self) -> str:
        return tr("Deep Raster: deep learning on rasters")

    def versionInfo(self) -> str:
        return __version__

    def icon(self) -> QIcon:
        return QIcon(self.svgIconPath())

    def svgIconPath(self) -> str:
        return str(ICONS / "deepraster.svg")

    def supportsNonFileBasedOutput(self) -> bool:
        return False

    def defaultRasterFileExtension(self) -> str:
        return "tif"

    def supportedOutputRasterLayerExtensions(self) -> List[str]:
        return ["tif"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        return "gpkg"

    def supportedOutputVectorLayerExtensions(self) -> List[str]:
        return ["gpkg", "fgb", "shp", "geojson"]

    def supportedOutputTableExtensions(self) -> List[str]:
        return ["gpkg"]
