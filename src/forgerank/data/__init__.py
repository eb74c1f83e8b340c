"""Data sets of faces, and the way from an annotated image to a batch of tensors.

`formats` reads data sets, `prepare` makes what is needed once before training, `check` looks for defects and
leakage. Here lie samples and clips, sources that forge on the fly, augmentation, and batches.

>>> import numpy as np
>>> from forgerank.data.augmentation import to_tensors
>>> from forgerank.data.sample import LabelledImage
>>> from forgerank.faces.align import TEMPLATE
>>> face = LabelledImage(np.zeros((96, 96, 3), np.uint8), TEMPLATE * 96, sequence=(4, 2), mask=None)
>>> to_tensors(face, size=64, length=5).image.shape
(64, 64, 3)
"""
