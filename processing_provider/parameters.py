"""Short constructors for the stock parameters of QGIS, each with its help, and for those that several tools share.

Only stock classes are used: subclasses of parameters lose their Python half in the modeler.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from qgis.core import (
    QgsProcessing,
    QgsProcessingParameterBoolean,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterExtent,
    QgsProcessingParameterFeatureSource,
    QgsProcessingParameterField,
    QgsProcessingParameterFile,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterFolderDestination,
    QgsProcessingParameterMapLayer,
    QgsProcessingParameterMultipleLayers,
    QgsProcessingParameterNumber,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingParameterVectorDestination,
)

from ..engine import jobs
from .text import tr

Parameter = QgsProcessingParameterDefinition
MODEL_FILTER = "*.dlpk *.emd *.zip"
ANY_GEOMETRY = QgsProcessing.SourceType.TypeVectorAnyGeometry
POLYGON = QgsProcessing.SourceType.TypeVectorPolygon
ARGUMENTS_WIDGET = f"{__package__.rsplit('.', 1)[0]}.plugin.widgets.arguments.ArgumentsWrapper"
PROCESSORS = (jobs.AUTO, jobs.CPU, jobs.GPU)
MODES = (jobs.MOSAICKED, jobs.ITEMS_SEPARATELY)


def advanced(parameter: Parameter) -> Parameter:
    """Move a parameter to the advanced section."""
    parameter.setFlags(parameter.flags() | QgsProcessingParameterDefinition.Flag.FlagAdvanced)
    return parameter


def _with_help(parameter: Parameter, text: str) -> Parameter:
    parameter.setHelp(text)
    return parameter


def raster(name: str, label: str, text: str, *, optional: bool = False) -> Parameter:
    """A raster layer of any provider, or a path."""
    return _with_help(QgsProcessingParameterRasterLayer(name, label, optional=optional), text)


def rasters(name: str, label: str, text: str) -> Parameter:
    """Several raster layers, paths or folders."""
    kind = QgsProcessing.SourceType.TypeRaster
    return _with_help(QgsProcessingParameterMultipleLayers(name, label, kind, optional=True), text)


def layer(name: str, label: str, text: str, *, optional: bool = False) -> Parameter:
    """A raster or vector layer."""
    kinds = [ANY_GEOMETRY, QgsProcessing.SourceType.TypeRaster]
    return _with_help(QgsProcessingParameterMapLayer(name, label, optional=optional, types=kinds), text)


def features(
    name: str, label: str, text: str, *, optional: bool = False, geometry: Sequence[int] = (ANY_GEOMETRY,)
) -> Parameter:
    """Features of a vector layer, all or selected."""
    return _with_help(QgsProcessingParameterFeatureSource(name, label, list(geometry), optional=optional), text)


def field(name: str, label: str, text: str, parent: str, *, default: Optional[str] = None) -> Parameter:
    """A field of the layer ``parent``; optional."""
    return _with_help(
        QgsProcessingParameterField(name, label, default, parentLayerParameterName=parent, optional=True), text
    )


def new_field(name: str, label: str, text: str, default: str) -> Parameter:
    """The name of a field to write."""
    return _with_help(QgsProcessingParameterString(name, label, default), text)


def string(name: str, label: str, text: str, *, default: str = "", multiline: bool = False) -> Parameter:
    """Free text; optional."""
    return _with_help(QgsProcessingParameterString(name, label, default, multiline, optional=True), text)


def choice(name: str, label: str, text: str, options: Sequence[str], *, default: Optional[str] = None) -> Parameter:
    """One of several fixed words, which scripts and commands write as they are; the first is the default."""
    return _with_help(
        QgsProcessingParameterEnum(
            name, label, list(options), defaultValue=default or options[0], usesStaticStrings=True
        ),
        text,
    )


def boolean(name: str, label: str, text: str, *, default: bool = False) -> Parameter:
    """Yes or no."""
    return _with_help(QgsProcessingParameterBoolean(name, label, default), text)


def integer(
    name: str, label: str, text: str, default: int, *, minimum: int = 0, maximum: Optional[int] = None
) -> Parameter:
    """A whole number."""
    kind = QgsProcessingParameterNumber.Type.Integer
    return _with_help(_number(name, label, kind, default, minimum, maximum), text)


def real(
    name: str,
    label: str,
    text: str,
    default: Optional[float],
    *,
    minimum: Optional[float] = 0.0,
    maximum: Optional[float] = None,
    decimals: int = 3,
) -> Parameter:
    """A number with ``decimals`` places in its editor; without a default it may be left out, and reads as 0."""
    kind = QgsProcessingParameterNumber.Type.Double
    parameter = _number(name, label, kind, default, minimum, maximum)
    parameter.setMetadata({"widget_wrapper": {"decimals": decimals}})
    return _with_help(parameter, text)


def _number(
    name: str, label: str, kind: int, default: Optional[float], minimum: Optional[float], maximum: Optional[float]
) -> Parameter:
    limits: Dict[str, Any] = {}
    if minimum is not None:
        limits["minValue"] = minimum
    if maximum is not None:
        limits["maxValue"] = maximum
    return QgsProcessingParameterNumber(name, label, kind, default, default is None, **limits)


def file(name: str, label: str, text: str, *, file_filter: str, optional: bool = False) -> Parameter:
    """An existing file."""
    kind = QgsProcessingParameterFile.Behavior.File
    parameter = QgsProcessingParameterFile(name, label, kind, optional=optional, fileFilter=file_filter)
    return _with_help(parameter, text)


def folder(name: str, label: str, text: str, *, optional: bool = False) -> Parameter:
    """An existing folder."""
    kind = QgsProcessingParameterFile.Behavior.Folder
    return _with_help(QgsProcessingParameterFile(name, label, kind, optional=optional), text)


def new_raster(name: str, label: str, text: str, *, extra: bool = False) -> Parameter:
    """A GeoTIFF to write; ``extra`` ones are not made unless asked for."""
    return _with_help(
        QgsProcessingParameterRasterDestination(name, label, optional=extra, createByDefault=not extra), text
    )


def new_vector(
    name: str, label: str, text: str, kind: int = POLYGON, *, extra: bool = False, any_format: bool = True
) -> Parameter:
    """A vector file to write, in any of our formats or as the GeoPackage that its text tells of."""
    formats = " " + tr("The ending names the format: .gpkg, .fgb, .shp or .geojson.") if any_format else ""
    return _with_help(
        QgsProcessingParameterVectorDestination(name, label, kind, optional=extra, createByDefault=not extra),
        text + formats,
    )


def new_file(name: str, label: str, text: str, file_filter: str, *, extra: bool = False) -> Parameter:
    """Another file to write."""
    return _with_help(
        QgsProcessingParameterFileDestination(name, label, file_filter, optional=extra, createByDefault=not extra), text
    )


def new_folder(name: str, label: str, text: str) -> Parameter:
    """A folder to fill."""
    return _with_help(QgsProcessingParameterFolderDestination(name, label), text)


# --- shared by several tools ---------------------------------------------------------------------------------------


def input_rasters() -> List[Parameter]:
    """INPUT and COLLECTION."""
    return [
        raster(
            "INPUT",
            tr("Input raster"),
            tr(
                "The imagery to work on: any raster layer of the project, a file, or a web layer "
                "(XYZ, WMS, WCS; these need an extent and a cell size)."
            ),
            optional=True,
        ),
        advanced(
            rasters(
                "COLLECTION",
                tr("Further rasters"),
                tr(
                    "More rasters of the same kind (layers, files or folders of images), processed together with "
                    "the input raster as one mosaic or one by one, see the processing mode."
                ),
            )
        ),
    ]


def model(label: str, text: str, *, name: str = "MODEL", optional: bool = False) -> Parameter:
    """A model package or definition."""
    file_filter = tr("Deep learning models") + f" ({MODEL_FILTER})"
    return file(name, label, text, file_filter=file_filter, optional=optional)


def inference_model() -> List[Parameter]:
    """MODEL and ARGUMENTS, as all inference tools ask for them."""
    arguments = string(
        "ARGUMENTS",
        tr("Model arguments"),
        tr(
            "Settings that the model declares, as name=value;name=value or as JSON, for example "
            "padding=64;threshold=0.5. What is left out keeps the model's default; unknown names are refused."
        ),
    )
    arguments.setMetadata({"widget_wrapper": {"class": ARGUMENTS_WIDGET}})
    return [
        model(
            tr("Model"),
            tr("A deep learning package (.dlpk) or a model definition (.emd) beside its files."),
        ),
        arguments,
    ]


def extent_and_cell_size() -> List[Parameter]:
    """EXTENT and CELL_SIZE."""
    extent = QgsProcessingParameterExtent("EXTENT", tr("Extent"), optional=True)
    return [
        _with_help(extent, tr("The area to work on; empty for the whole raster.")),
        real(
            "CELL_SIZE",
            tr("Cell size"),
            tr("Map units per pixel that the raster is resampled to; empty or 0 keeps the raster's own."),
            None,
            decimals=12,  # a centimetre is 0.0000001 degrees
        ),
    ]


def run_options(*, mode: bool = True) -> List[Parameter]:
    """How a job with a network runs, from PROCESSING_MODE to TRUST, in this order."""
    found = [advanced(processing_mode())] if mode else []
    found += extent_and_cell_size()
    found.append(
        features(
            "MASK",
            tr("Mask"),
            tr("Polygons outside of which nothing is processed."),
            optional=True,
            geometry=[POLYGON],
        )
    )
    found += [advanced(one) for one in placement()]
    found += [
        advanced(
            boolean(
                "RESUME",
                tr("Go on where an interrupted run stopped"),
                tr(
                    "A run that was stopped or broke off leaves its finished tiles behind; the same run, "
                    "started again, takes them over."
                ),
                default=True,
            )
        ),
        advanced(
            string(
                "TRUST",
                tr("Allow the code of this package"),
                tr(
                    "Packages may bring Python code of their own, which never runs unless somebody allows it. "
                    "sha256:<hash> allows the package with exactly this content, for this run."
                ),
            )
        ),
    ]
    return found


def processing_mode() -> Parameter:
    """PROCESSING_MODE."""
    return choice(
        "PROCESSING_MODE",
        tr("Processing mode"),
        tr(
            "MOSAICKED treats all rasters as one image, ITEMS_SEPARATELY gives each its own result and notes the "
            "raster's name with it."
        ),
        MODES,
    )


def placement() -> List[Parameter]:
    """PROCESSOR, GPU_ID, WORKERS and CLUSTER."""
    return [
        processor(),
        gpu_id(),
        workers(),
        string(
            "CLUSTER",
            tr("Cluster"),
            tr("Address of a Dask scheduler, such as tcp://host:8786; empty works on this computer."),
        ),
    ]


def processor() -> Parameter:
    """PROCESSOR."""
    return choice(
        "PROCESSOR",
        tr("Processor"),
        tr("AUTO takes a graphics card if there is one that the framework can use, else the CPU."),
        PROCESSORS,
    )


def gpu_id() -> Parameter:
    """GPU_ID."""
    return string("GPU_ID", tr("GPU numbers"), tr("Which graphics cards to use, such as 0 or 0,1; empty for all."))


def workers() -> Parameter:
    """WORKERS."""
    return integer(
        "WORKERS",
        tr("Workers"),
        tr("Processes that work side by side; 0 chooses one per graphics card, or as many as the CPU's cores feed."),
        0,
        maximum=512,
    )
