"""The regions of a class raster as polygons along pixel edges, streamed from file to file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Sequence, Tuple

import numpy as np
import numpy.typing as npt
import rasterio

from ..package.reading import ClassInfo
from ..raster.features import FeatureWriter, Field
from ..raster.gdal import prepare_gdal
from ..raster.output import output_errors
from ..raster.publishing import Publication
from ..raster.window import Window
from ..raster.writer import rasterio_window
from .outlines import region_polygons
from .polygons import simplified
from .tracing import Tracer

Array = npt.NDArray[Any]
# Pixels of a strip; what is held beside it are the boundaries that cross its lower side, and regions that go on there.
_STRIP = 2**21


def write_polygons(
    source: Path,
    target: Path,
    classes: Sequence[ClassInfo],
    tolerance: float,
    metadata: Dict[str, str],
    crs: str,
    outputs: Optional[Publication] = None,
) -> int:
    """Write the regions of a class raster as polygons along pixel edges; nodata has none.

    Args:
        source: class raster with a nodata value.
        target: vector file with the fields Class and Classvalue.
        classes: names of the values.
        tolerance: of the simplification, in pixels (0: none).
        metadata: text members that the layer carries.
        crs: WKT of the raster, or empty.
        outputs: gives the file its name later, together with others; None to do it here.

    Returns:
        The number of polygons.
    """
    names = {one.value: one.name for one in classes}
    fields = [Field("Class", "text"), Field("Classvalue", "integer")]
    with FeatureWriter(target, fields, "Polygon", crs, metadata) as writer:
        for values, polygons in regions(source, tolerance):
            kinds, kind = np.unique(values, return_inverse=True)
            texts = [names.get(one) or ("Background" if one == 0 else str(one)) for one in kinds.tolist()]
            writer.add(polygons, {"Class": np.array(texts, dtype=object)[kind], "Classvalue": values})
        return writer.finish(outputs)


def regions(source: Path, tolerance: float = 0.0) -> Iterator[Tuple[Array, Array]]:
    """Yield (values, polygons in map coordinates) of the 4-connected regions of a class raster, as they are complete.

    Args:
        source: class raster with a nodata value.
        tolerance: of the simplification, in pixels (0: none).
    """
    prepare_gdal()
    with output_errors(source), rasterio.open(source) as dataset:
        transform, (block, _) = dataset.transform, dataset.block_shapes[0]
        step = float(np.hypot(transform.a, transform.d))
        # Blocks of one row of blocks stay decoded until the last strip of them was read.
        prepare_gdal(2 * block * dataset.width * np.dtype(dataset.dtypes[0]).itemsize)
        rows = max(1, _STRIP // dataset.width)
        rows = rows // block * block or rows
        tracer = Tracer(dataset.width, dataset.nodata, dataset.dtypes[0])
        for top in range(0, dataset.height + rows, rows):
            if top < dataset.height:
                strip = Window(0, top, dataset.width, min(rows, dataset.height - top))
                complete = tracer.add(dataset.read(1, window=rasterio_window(strip)))
            else:
                complete = tracer.finish()
            for rings in complete:
                polygons = region_polygons(rings, transform)
                yield rings.values, simplified(polygons, tolerance * step) if tolerance else polygons
