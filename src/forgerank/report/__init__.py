"""Reports: JSON for programs, a self-contained HTML page for readers, and heatmaps.

>>> from forgerank.detect import Detector
>>> from forgerank.report.builder import ReportBuilder
>>> builder = ReportBuilder(Detector())
>>> builder.fail("notes.txt", "not an image")
>>> '"path": "notes.txt"' in builder.json(), "notes.txt: not an image" in builder.html()
(True, True)
"""
