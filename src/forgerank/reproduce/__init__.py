"""The tables and figures of the paper (Hong, Hsu, Liu, CVPR 2024): its runs, their metrics, plots.

>>> from forgerank.reproduce.tables import mean_and_deviation
>>> mean_and_deviation([0.70, 0.72, 0.74])  # Fixed-Acc of three seeds
(0.72, 0.020000000000000018)
"""
