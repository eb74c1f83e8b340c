"""Evaluation of networks on data sets: scores, metrics with intervals, calibration.

`evaluate.evaluate` does all of it for a file of weights. Its steps: `scorers.predict` scores the images,
`protocols.summarize` computes every metric.

>>> import numpy as np
>>> from forgerank.evaluation.protocols import summarize
>>> from forgerank.evaluation.scorers import Predictions
>>> scores, labels = np.array([[0.1], [0.4], [0.3], [0.8]]), np.array([[0], [0], [1], [1]])
>>> people, sources = ["a", "b", "c", "d"], ["web"] * 4
>>> predictions = Predictions(scores[:, 0], scores, scores, labels, labels, people, sources)
>>> summarize(predictions, order="first_to_last", resamples=10)["metrics"]["auc"]["value"]
0.75
"""
