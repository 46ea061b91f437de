"""Stands in for the build backend of a source archive, so that pip hands over the archive without building it.

pip asks a source archive for its metadata before it lets it be downloaded, which starts the project's build. Only a
file of the archive is wanted here, so this backend answers with the least that pip accepts.
"""

from __future__ import annotations

import os
import re
from typing import Any, List


def get_requires_for_build_wheel(config_settings: Any = None) -> List[str]:
    """Nothing has to be installed for a build that does not take place."""
    return []


def prepare_metadata_for_build_wheel(metadata_directory: str, config_settings: Any = None) -> str:
    """Write name and version, as the archive's own PKG-INFO gives them, and return the folder's name."""
    with open("PKG-INFO", encoding="utf-8") as stream:
        header = stream.read().split("\n\n")[0]
    name, version = (re.search(rf"^{key}: (.+)$", header, re.MULTILINE) for key in ("Name", "Version"))
    if name is None or version is None:
        raise ValueError("PKG-INFO names no name or version")
    folder = f"{name.group(1).replace('-', '_')}-{version.group(1)}.dist-info"
    os.makedirs(os.path.join(metadata_directory, folder))
    with open(os.path.join(metadata_directory, folder, "METADATA"), "w", encoding="utf-8") as stream:
        stream.write(f"Metadata-Version: 2.1\nName: {name.group(1)}\nVersion: {version.group(1)}\n")
    return folder
