"""Inference without PyTorch: `Detector().detect(images) -> list[Report]`."""

from forgerank.detect.detector import Detector
from forgerank.detect.result import (
    Component,
    FaceReport,
    KeyFrame,
    LoadedImage,
    Moment,
    Report,
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
    "TrackReport",
    "VideoReport",
]
