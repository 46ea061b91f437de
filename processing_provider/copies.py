"""Temporary files for what only QGIS can read: rasters block by block, features one by one."""

from __future__ import annotations

import math
from typing import Optional

from osgeo import gdal, osr
from qgis.core import (
    Qgis,
    QgsCoordinateReferenceSystem,
    QgsCoordinateTransformContext,
    QgsFeature,
    QgsFeatureRequest,
    QgsFeatureSink,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProcessingFeedback,
    QgsRasterInterface,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorFileWriter,
    QgsVectorLayer,
)

from ..engine import jobs
from .compat import block_bytes
from .sources import crs_text
from .text import tr

BLOCK = 1024

_GDAL_TYPES = {
    Qgis.DataType.Byte: gdal.GDT_Byte,
    Qgis.DataType.UInt16: gdal.GDT_UInt16,
    Qgis.DataType.Int16: gdal.GDT_Int16,
    Qgis.DataType.UInt32: gdal.GDT_UInt32,
    Qgis.DataType.Int32: gdal.GDT_Int32,
    Qgis.DataType.Float32: gdal.GDT_Float32,
    Qgis.DataType.Float64: gdal.GDT_Float64,
}
_COLOUR = (Qgis.DataType.ARGB32, Qgis.DataType.ARGB32_Premultiplied)


class RasterCopy:
    """Reads a layer through its provider into a tiled GeoTIFF.

    Args:
        layer: the layer; its provider is cloned, so that the copy may run in another thread.
        extent: the area in the layer's CRS, or None for all of it.
        cell_size: map units per pixel, 0 for the layer's own.
        path: the GeoTIFF to write.

    Raises:
        QgsProcessingException: the layer has no size of its own and the area or the cell size is not given.
    """

    def __init__(self, layer: QgsRasterLayer, extent: Optional[QgsRectangle], cell_size: float, path: str) -> None:
        self.name, self.path, self.crs = layer.name(), path, layer.crs()
        self.provider = layer.dataProvider().clone()
        endless = self.provider.xSize() <= 0 or self.provider.ySize() <= 0
        if endless and (extent is None or cell_size <= 0):
            raise QgsProcessingException(
                tr(
                    "The layer “{}” is read from a service that has no pixels of its own. "
                    "Give the extent to work on and the cell size (in its map units)."
                ).format(layer.name())
            )
        whole = self.provider.extent()
        area = whole if extent is None else (extent if endless else extent.intersect(whole))
        if area.isEmpty():
            raise QgsProcessingException(tr("The extent does not touch the layer “{}”.").format(layer.name()))
        own = 0.0 if endless else whole.width() / self.provider.xSize()
        self.cell_x = cell_size or own
        self.cell_y = cell_size or (own if endless else whole.height() / self.provider.ySize())
        left, top = area.xMinimum(), area.yMaximum()
        if not cell_size:  # on the layer's own pixels, so that nothing is resampled
            left = whole.xMinimum() + math.floor((left - whole.xMinimum()) / self.cell_x + 1e-6) * self.cell_x
            top = whole.yMaximum() - math.floor((whole.yMaximum() - top) / self.cell_y + 1e-6) * self.cell_y
        self.left, self.top = left, top
        self.columns = max(1, math.ceil((area.xMaximum() - left) / self.cell_x - 1e-6))
        self.rows = max(1, math.ceil((top - area.yMinimum()) / self.cell_y - 1e-6))

    def __call__(self, feedback: QgsProcessingFeedback) -> None:
        """Write the file; blocks are squares of ``BLOCK`` pixels."""
        feedback.pushInfo(
            tr("Reading {columns} × {rows} pixels of “{layer}” through QGIS.").format(
                columns=self.columns, rows=self.rows, layer=self.name
            )
        )
        colour = self.provider.bandCount() == 1 and self.provider.dataType(1) in _COLOUR
        target = self._create(colour)
        for row in range(0, self.rows, BLOCK):
            for column in range(0, self.columns, BLOCK):
                if feedback.isCanceled():
                    return
                self._copy(target, colour, column, row, feedback)
        target.FlushCache()

    def _create(self, colour: bool) -> gdal.Dataset:
        bands = 3 if colour else self.provider.bandCount()
        kind = gdal.GDT_Byte if colour else _GDAL_TYPES.get(self.provider.dataType(1), gdal.GDT_Float64)
        options = ["TILED=YES", "COMPRESS=DEFLATE", "BIGTIFF=IF_SAFER", "INTERLEAVE=PIXEL"]
        target = gdal.GetDriverByName("GTiff").Create(self.path, self.columns, self.rows, bands, kind, options)
        if target is None:
            raise QgsProcessingException(tr("The temporary file {} cannot be written.").format(self.path))
        target.SetGeoTransform((self.left, self.cell_x, 0, self.top, 0, -self.cell_y))
        if self.crs.isValid():
            reference = osr.SpatialReference()
            reference.ImportFromWkt(self.crs.toWkt(QgsCoordinateReferenceSystem.WktVariant.WKT2_2018))
            target.SetProjection(reference.ExportToWkt())
        for band in range(1, bands + 1):
            if not colour and self.provider.sourceHasNoDataValue(band) and self.provider.useSourceNoDataValue(band):
                target.GetRasterBand(band).SetNoDataValue(self.provider.sourceNoDataValue(band))
        if colour:
            with _internal_mask():
                target.CreateMaskBand(gdal.GMF_PER_DATASET)
        return target

    def _copy(self, target: gdal.Dataset, colour: bool, column: int, row: int, feedback: QgsProcessingFeedback) -> None:
        columns, rows = min(BLOCK, self.columns - column), min(BLOCK, self.rows - row)
        left, top = self.left + column * self.cell_x, self.top - row * self.cell_y
        extent = QgsRectangle(left, top - rows * self.cell_y, left + columns * self.cell_x, top)
        provider: QgsRasterInterface = self.provider
        for band in range(1, self.provider.bandCount() + 1):
            block = provider.block(band, extent, columns, rows)
            if block is None or not block.isValid() or block.isEmpty():
                raise QgsProcessingException(
                    tr("The layer “{layer}” gave no pixels for {extent}. Check the connection and try again.").format(
                        layer=self.name, extent=extent.toString(2)
                    )
                )
            pixels = block_bytes(block)
            if not colour:
                kind = _GDAL_TYPES.get(block.dataType(), gdal.GDT_Float64)
                target.GetRasterBand(band).WriteRaster(column, row, columns, rows, pixels, buf_type=kind)
                continue
            # QImage's ARGB32 lies in memory as blue, green, red, alpha on little-endian machines.
            for index, offset in enumerate((2, 1, 0), start=1):
                target.GetRasterBand(index).WriteRaster(column, row, columns, rows, pixels[offset::4])
            mask = target.GetRasterBand(1).GetMaskBand()
            mask.WriteRaster(column, row, columns, rows, pixels[3::4].translate(_OPAQUE))


# Any visible pixel is data: 0 stays 0, all other alpha values become 255.
_OPAQUE = bytes([0]) + bytes([255]) * 255


class _internal_mask:  # noqa: N801 - used as a context manager, like a function
    """Keeps the mask inside the GeoTIFF; the option is put back as it was."""

    def __enter__(self) -> None:
        self.before = gdal.GetConfigOption("GDAL_TIFF_INTERNAL_MASK")
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")

    def __exit__(self, *_: object) -> None:
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", self.before)


class VectorCopy:
    """Writes the features of a source, with unsaved edits, joined and computed fields, into a GeoPackage.

    Args:
        source: what Processing reads (selection, limit and filter applied); safe in another thread.
        path: the GeoPackage to write; its layer is called ``features``.
    """

    LAYER = "features"

    def __init__(self, source: QgsProcessingFeatureSource, name: str, path: str) -> None:
        self.source, self.name, self.path = source, name, path

    def __call__(self, feedback: QgsProcessingFeedback) -> None:
        """Write the file."""
        options = QgsVectorFileWriter.SaveVectorOptions()
        options.driverName, options.layerName = "GPKG", self.LAYER
        fields = self.source.fields()
        own_id = fields.lookupField("fid")
        if own_id >= 0:  # GeoPackage makes its own ids; copied ones may repeat after a join
            fields.remove(own_id)
        writer = QgsVectorFileWriter.create(
            self.path, fields, self.source.wkbType(), self.source.sourceCrs(), QgsCoordinateTransformContext(), options
        )
        if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
            raise QgsProcessingException(
                tr("“{layer}” cannot be copied: {error}").format(layer=self.name, error=writer.errorMessage())
            )
        for feature in self.source.getFeatures(QgsFeatureRequest()):
            if feedback.isCanceled():
                break
            copy = QgsFeature(fields)
            copy.setGeometry(feature.geometry())
            values = feature.attributes()
            if own_id >= 0:
                del values[own_id]
            copy.setAttributes(values)
            if not writer.addFeature(copy, QgsFeatureSink.Flag.FastInsert):
                raise QgsProcessingException(
                    tr("“{layer}” cannot be copied: {error}").format(layer=self.name, error=writer.errorMessage())
                )
        del writer


def copied_raster(layer: QgsRasterLayer, path: str) -> jobs.RasterInput:
    """Return the job's input for a layer that a :class:`RasterCopy` writes to ``path``."""
    return jobs.RasterInput(path=path, name=layer.name(), crs=crs_text(layer.crs()))


def copied_vector(layer: QgsVectorLayer, path: str) -> jobs.VectorInput:
    """Return the job's input for features that a :class:`VectorCopy` writes to ``path``."""
    return jobs.VectorInput(path=path, layer=VectorCopy.LAYER, crs=crs_text(layer.crs()))
