"""forgerank: which parts of a face were forged, in what order, and where.

>>> import skimage.data
>>> from forgerank import Detector
>>> len(Detector().detect(skimage.data.astronaut()).faces)
1
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forgerank.api import Detector as Detector

__version__ = "0.1.0"

# ONNX Runtime sends reports on its use to its maker and keeps an identity of this machine, unless this is set
# before it is imported; no module of forgerank is imported before this one.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_FROM_API = ("Detector",)  # loaded when first asked for: importing the package costs nothing


def __getattr__(name: str) -> Any:
    if name in _FROM_API:
        return getattr(import_module("forgerank.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FROM_API]
