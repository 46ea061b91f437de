"""Model packages (``.dlpk``): what the other parts use of :mod:`.opening` and :mod:`.writing`."""

from __future__ import annotations

from .opening import ModelPackage, open_package
from .store import PackageFile
from .writing import write_package

__all__ = ["ModelPackage", "PackageFile", "open_package", "write_package"]
