"""Faces of an image: detection, landmarks, alignment, component regions and quality; tracks in a video.

>>> import skimage.data
>>> from forgerank.faces.analyze import FaceAnalyzer
>>> [face] = FaceAnalyzer().analyze(skimage.data.astronaut())
>>> face.landmarks.shape, round(face.quality.size / 10)
((468, 2), 9)
"""
