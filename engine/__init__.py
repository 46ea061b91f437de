"""The engine: all the work on rasters, networks and packages, without QGIS.

The modules that QGIS's side imports (``jobs``, ``events``, ``errors``, ``client``, ``environment`` and ``package``)
use the standard library alone and run on Python 3.9 and newer. Everything else runs in the engine's own environment.
"""

__version__ = "0.1.0"

# Raised whenever a message on the pipe between QGIS and the engine changes its meaning.
PROTOCOL = 1
