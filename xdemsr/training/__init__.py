"""Training of the terrain networks, from fine elevation rasters alone."""
