"""The face models inside the package: checked against their recorded hash, opened on ONNX Runtime."""

import hashlib
import json
from pathlib import Path

import onnxruntime as ort

from forgerank.files import os_reason
from forgerank.types import InputError

ASSETS = Path(__file__).resolve().parent.parent / "assets"


def open_embedded(name: str, *, assets: Path = ASSETS) -> ort.InferenceSession:
    """An ONNX Runtime session on the CPU, on one thread, for one of the files that `faces.json` lists.

    On several, models this small lose more in waiting than they gain. Raises InputError where the file is
    missing or is not the recorded one.
    """
    path = assets / name
    record = assets / "faces.json"
    try:
        recorded = json.loads(record.read_text(encoding="utf-8"))["files"][name]["sha256"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{record}: damaged list of the embedded models; reinstall forgerank") from None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot read the embedded model ({os_reason(error)})") from None
    if hashlib.sha256(content).hexdigest() != recorded:
        raise InputError(f"{path}: not the recorded model (its SHA-256 differs); reinstall forgerank")
    return ort.InferenceSession(content, session_options(1), providers=["CPUExecutionProvider"])


def session_options(threads: int) -> ort.SessionOptions:
    """Options for a model that runs on so many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options
