"""Detection without PyTorch: images and videos in, verdicts with ordered components and heatmaps out.

>>> import skimage.data
>>> from forgerank.detect import Detector
>>> [report] = Detector().detect([skimage.data.astronaut()])
>>> [component.name for component in report.faces[0].components]
['nose', 'eye', 'eyebrow', 'lip', 'hair']
"""

from forgerank.detect.detector import Detector
from forgerank.detect.result import (
    Component,
    FaceReport,
    KeyFrame,
    LoadedImage,
    Moment,
    Report,
    Stretch,
    TrackReport,
    VideoReport,
)

__all__ = [
    "Component",
    "Detector",
    "FaceReport",
    "KeyFrame",
    "LoadedImage",
    "Moment",
    "Report",
    "Stretch",
    "TrackReport",
    "VideoReport",
]
