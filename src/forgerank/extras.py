"""What the optional extras bring, and one line of advice where one is missing."""

import re
from importlib import import_module
from pathlib import Path

from forgerank.types import InputError

# extra -> module that stands for it, name that a person knows it by
EXTRAS = {
    "train": ("torch", "PyTorch"),
    "forge": ("cv2", "OpenCV"),
    "demo": ("skimage", "scikit-image"),
    "data": ("pyarrow", "PyArrow"),
    "video": ("av", "PyAV"),
    "serve": ("fastapi", "FastAPI"),
    "web": ("skimage", "scikit-image"),
    "scan": ("pyarrow", "PyArrow"),
    "cluster": ("ray", "Ray"),
    "heif": ("pillow_heif", "pillow-heif"),
    "c2pa": ("c2pa", "c2pa-python"),
    "paper": ("pytorch_grad_cam", "Grad-CAM"),
}

# What a small run takes beside the library, most of it for code that is loaded later. Without it, code and
# threads fail to start at places where PyTorch and Python crash instead of raising an error.
_TORCH_BYTES = 3 << 29


class MissingExtraError(InputError):
    """An optional part of the installation is not there; `str()` names the pip command."""


def require(extra: str) -> None:
    """Check that an extra (a key of EXTRAS) is installed.

    Raises MissingExtraError, one line with the pip command, where it is not. A library that is there but
    broken raises its own ImportError: installing it again would not help. Of PyTorch it also checks that it
    has memory to work with: InputError where it has not.
    """
    module, name = EXTRAS[extra]
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtraError(f'this needs {name}: pip install "forgerank[{extra}]"') from None
    if module == "torch":
        _check_memory(name, _TORCH_BYTES)


def _check_memory(name: str, needed: int) -> None:
    """Raises InputError where a limit of this process leaves less than `needed` bytes (on Linux alone).

    That of a container is none of these: no allocation fails there, the system ends the process.
    """
    try:
        import resource

        status = Path("/proc/self/status").read_text()
    except (ImportError, OSError):
        return
    limits = (("ulimit -v", resource.RLIMIT_AS, "VmSize"), ("ulimit -d", resource.RLIMIT_DATA, "VmData"))
    for command, kind, field in limits:
        most = resource.getrlimit(kind)[0]
        found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
        if most == resource.RLIM_INFINITY or found is None:
            continue
        left = most - 1024 * int(found[1])
        if left < needed:
            raise InputError(
                f"too little memory: {command} leaves {max(0, left) >> 20} MB beside {name}, which needs "
                f"{needed >> 20} MB at least"
            )
