"""Metrics of scores and sequences against the truth, on arrays; as a torchmetrics `Metric` in `torchmetric`.

>>> from forgerank.metrics.detection import auc
>>> auc([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.8])  # real, real, forged, forged
0.75
"""
