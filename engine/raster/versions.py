"""Which version of a raster a job reads: noted when it is planned, compared after every part of the work.

Of local files size and time of change are noted, of files behind HTTP what the server tells (ETag, date, size), of a
virtual mosaic those of its parts too. So a result never mixes two versions, whoever replaced the raster and when.
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterable, List, Sequence

from ..jobs import RasterInput
from .gdal import open_dataset
from .remote import ask, changed, http_address, is_remote, version, watched, without_credentials

# Parts of a mosaic that are asked for over the network at most.
_MOST_REMOTE_PARTS = 16
_PAUSES = (1.0, 3.0)


def source_state(inputs: Sequence[RasterInput]) -> Dict[str, Any]:
    """Return, for each input, the versions of its files, as JSON-ready lists; what cannot be told is left out.

    Logins are no part of the keys, so that work goes on with a renewed one.

    Raises:
        RasterError: a virtual mosaic cannot be opened.
    """
    found: Dict[str, Any] = {}
    for one in inputs:
        files = [["", _state(one.path)], *([part, _state(part)] for part in _parts(one))]
        known = [entry for entry in files if entry[1] is not None]
        if known:
            found[without_credentials(one.path)] = known
    return found


def check_unchanged(inputs: Iterable[RasterInput], sources: Dict[str, Any]) -> None:
    """Refuse to mix two versions of a raster in one result.

    Raises:
        SourceLostError: a file was changed or removed since ``sources`` was noted.
    """
    for one in inputs:
        for part, before in sources.get(without_credentials(one.path), ()):
            path = part or one.path
            if (not _same_remote(path, before)) if is_remote(path) else _state(path) != before:
                raise changed(one.path)


def _state(path: str) -> Any:
    if is_remote(path):
        return version(path)
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None  # a subdataset, a connection: nothing to compare
    return [status.st_size, status.st_mtime_ns]


def _same_remote(path: str, before: Any) -> bool:
    """Return False if the server says that the file is another or gone; its silence changes nothing."""
    with watched(path):
        for pause in (*_PAUSES, 0.0):
            answer = ask(path)
            if answer is None:
                return True
            if answer.status in (404, 410):
                return False
            if answer.version is not None:
                return bool(answer.version == before)
            time.sleep(pause)
    return True


def _parts(raster: RasterInput) -> List[str]:
    """Return the files of a virtual mosaic."""
    if not raster.path.lower().endswith(".vrt") and "<VRTDataset" not in raster.path:
        return []
    with open_dataset(raster) as dataset:
        files = [one for one in dataset.files if one != raster.path]
    remote = [one for one in files if http_address(one)][:_MOST_REMOTE_PARTS]
    return [one for one in files if not is_remote(one)] + remote
