"""Fuzz targets, one a module: what any bytes may do to each part of the package that reads them."""
