"""Image in, faces out: detection, mesh, alignment, component regions and quality."""
