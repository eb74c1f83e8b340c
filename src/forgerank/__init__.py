"""forgerank: which parts of a face were forged, in what order, and where."""

__version__ = "0.1.0"
