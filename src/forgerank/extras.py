"""What the optional extras bring, and one line of advice where one is missing."""

from importlib import import_module

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


class MissingExtraError(InputError):
    """An optional part of the installation is not there; `str()` names the pip command."""


def require(extra: str) -> None:
    """Check that an extra (a key of EXTRAS) is installed.

    Raises MissingExtraError, one line with the pip command, where it is not. A library that is there but
    broken raises its own ImportError: installing it again would not help.
    """
    module, name = EXTRAS[extra]
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise MissingExtraError(f'this needs {name}: pip install "forgerank[{extra}]"') from None
