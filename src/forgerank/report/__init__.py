"""Reports for machines (JSON), eyes (heatmaps) and readers (HTML)."""
