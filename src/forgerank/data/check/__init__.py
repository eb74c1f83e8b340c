"""Checks of data sets: missing and damaged files, published counts, leakage and near-duplicates.

>>> from forgerank.data.check.near_duplicates import nearest_earlier
>>> nearest_earlier([0b1011, 0b1111], ranks=[0, 1], distance=4)  # the second image's hash differs in one bit
{1: (0, 1)}
"""
