"""forgerank: which parts of a face were forged, in what order, and where.

>>> import skimage.data
>>> from forgerank import Detector
>>> len(Detector().detect(skimage.data.astronaut()).faces)
1
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from forgerank.api import Detector as Detector

__version__ = "0.1.0"

_FROM_API = ("Detector",)  # loaded when first asked for: importing the package costs nothing


def __getattr__(name: str) -> Any:
    if name in _FROM_API:
        return getattr(import_module("forgerank.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FROM_API]
