"""Base classes that the framework-specific halves of raster functions derive from."""
