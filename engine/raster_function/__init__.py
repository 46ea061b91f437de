"""The host of Python raster functions: the custom inference code of packages, driven as ArcGIS drives it.

Runs in a worker process of its own, after consent and confined (:mod:`..workers.sandbox`). ``stand_ins`` holds modules
that published functions import from ArcGIS.
"""
