"""Rasters: windows, the processing grid, reading and writing."""
