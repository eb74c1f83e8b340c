"""What is made once, before training: faces cut out of videos, packs, shards, points, autoencoders.

>>> import numpy as np
>>> from forgerank.data.prepare.autoencoder import Autoencoder, AutoencoderConfig, reconstruct
>>> crops = np.zeros((2, 32, 32, 3), np.uint8)
>>> reconstruct(Autoencoder(AutoencoderConfig(size=32)), crops).shape
(2, 32, 32, 3)
"""
