"""Photographs in, forged sequences with known ground truth out: components and whole faces.

>>> import numpy as np, skimage.data
>>> from forgerank.faces.analyze import FaceAnalyzer
>>> from forgerank.forge.chain import forge_image
>>> from forgerank.forge.photos import Photo
>>> image = skimage.data.astronaut()[0:224, 110:334]
>>> photo = Photo.prepare(image, FaceAnalyzer().analyze(image)[0].landmarks)
>>> forged = forge_image(photo, ["lip", "eye"], np.random.default_rng(0), lambda: ("itself", photo))
>>> forged.components, forged.image.shape[2], forged.suffix
(('lip', 'eye'), 3, '.jpg')
"""
