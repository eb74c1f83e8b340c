"""Inference without PyTorch: `Detector().detect(images) -> list[Report]`."""

from forgerank.infer.detector import Detector
from forgerank.infer.result import Component, FaceReport, Picture, Report

__all__ = ["Component", "Detector", "FaceReport", "Picture", "Report"]
