"""ONNX Runtime session of the exported network: aligned crops in, every output in one pass."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from forgerank.limits import lacking
from forgerank.types import Image, InputError
from forgerank.weights.description import Weights

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, SessionOptions

INPUT = "images"
OUTPUTS = ("gap", "probability", "component_probabilities", "component_maps", "similarity")
ORDER_OUTPUT = "order_scores"  # only of networks with an order head

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Outputs for B crops; L components, N tokens, maps of h x w."""

    gap: Float  # (B,) max_k D(k), the forgery gap of Eq. 7-8
    probability: Float  # (B,) P(x) of Eq. 9, 0..1, not calibrated
    component_probabilities: Float  # (B, L) sigmoid(f), 0..1
    component_maps: Float  # (B, L, h, w), 0..1
    similarity: Float  # (B, N, N), S of Eq. 4, 0..1
    order_scores: (
        Float  # (B, L) decide the order, 0..1; the probabilities where the network has no order head
    )


_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def check_device(device: str) -> str:
    """ONNX Runtime's name for a device. Raises InputError for one that this installation cannot use."""
    import onnxruntime as ort

    if device not in _PROVIDERS:
        raise InputError(f"device {device}: there are {', '.join(_PROVIDERS)}")
    if _PROVIDERS[device] not in ort.get_available_providers():
        advice = 'pip install "forgerank[gpu]"; it replaces onnxruntime, see docs/service.md'
        raise InputError(f"device {device}: this needs onnxruntime-gpu: {advice}")
    return _PROVIDERS[device]


def runtime_version() -> str:
    """The version of ONNX Runtime."""
    import onnxruntime as ort

    return str(ort.__version__)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def order_output(session: "InferenceSession") -> str:
    """The name of the output that decides the order: an order head's, else the component probabilities."""
    names = [output.name for output in session.get_outputs()]
    return ORDER_OUTPUT if ORDER_OUTPUT in names else "component_probabilities"


def open_session(
    content: bytes, options: "SessionOptions", name: str, provider: str = "CPUExecutionProvider"
) -> "InferenceSession":
    """The session of an exported network; nothing is printed.

    Raises InputError, one line that begins with `name`, where the content is no ONNX network with the
    expected inputs and outputs.
    """
    import onnxruntime as ort

    options.log_severity_level = 4  # what fails raises
    with onnx_errors(name, "load"):
        session = ort.InferenceSession(
            content, options, providers=[provider], enable_fallback=0
        )  # falling back would print lines of its own
    names = {output.name for output in session.get_outputs()}
    inputs = [value.name for value in session.get_inputs()]
    if inputs != [INPUT] or not names.issuperset(OUTPUTS):
        raise InputError(f"{name}: not a forgerank network (inputs {inputs}, outputs {sorted(names)})")
    return session


class Runtime:
    """A loaded network; runs at most `batch_size` crops at once on `threads` cores (default: all usable).

    `device` is "cpu", or "cuda" for the first NVIDIA GPU.
    """

    def __init__(
        self, weights: Weights, *, threads: int | None = None, batch_size: int = 8, device: str = "cpu"
    ) -> None:
        """Raises InputError where the file is no ONNX network with the expected inputs and outputs, and for
        a device that is not there.
        """
        import onnxruntime as ort

        provider = check_device(device)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        self._session = open_session(weights.content, options, str(weights.path), provider)
        if provider not in self._session.get_providers():  # it went to the CPU without a word
            raise InputError(f"device {device}: ONNX Runtime finds no GPU that it can use")
        self._path = weights.path
        self._outputs = [*OUTPUTS, order_output(self._session)]
        self.input_size = weights.metadata.input_size
        self.labels = len(weights.metadata.labels)
        self._batch_size = batch_size

    def run(self, crops: Sequence[Image]) -> Prediction:
        """At least one aligned crop, each (input_size, input_size, 3) uint8 RGB -> outputs for all.

        Raises InputError for a network that cannot take them, or whose answers cannot be used.
        """
        with onnx_errors(str(self._path), "run"):
            parts = [
                self._session.run(self._outputs, {INPUT: _to_tensor(crops[start : start + self._batch_size])})
                for start in range(0, len(crops), self._batch_size)
            ]
            prediction = Prediction(*(np.concatenate(output) for output in zip(*parts, strict=True)))
        if prediction.component_probabilities.shape[1:] != (self.labels,):
            raise InputError(
                f"{self._path}: the network answers for {prediction.component_probabilities.shape[-1]} "
                f"components, its description names {self.labels}"
            )
        if not _usable(prediction, len(crops)):
            raise InputError(f"{self._path}: not a forgerank network (shapes or values of its outputs)")
        return prediction


def _usable(prediction: Prediction, count: int) -> bool:
    """Whether the outputs of `count` crops have the shapes and ranges that `Prediction` states."""
    labels, side = prediction.component_probabilities.shape[-1], prediction.component_maps.shape[-1]
    shapes = {
        "gap": (count,),
        "probability": (count,),
        "component_probabilities": (count, labels),
        "component_maps": (count, labels, side, side),
        "similarity": (count, side * side, side * side),
        "order_scores": (count, labels),
    }
    fits = all(getattr(prediction, name).shape == shape for name, shape in shapes.items())
    finite = fits and all(np.isfinite(getattr(prediction, name)).all() for name in shapes)
    probabilities = prediction.component_probabilities
    return bool(finite and probabilities.min() >= 0.0 and probabilities.max() <= 1.0)


@contextmanager
def onnx_errors(name: str, action: str) -> Iterator[None]:
    """What ONNX Runtime raises over a network, called `name`, becomes an InputError, one line.

    What the system had too little of (`lacking`) is no fault of the network, and stays as it is.
    """
    try:
        yield
    except Exception as error:  # ONNX Runtime's errors share no other base class
        if lacking(error):
            raise
        raise InputError(f"{name}: ONNX Runtime cannot {action} it ({_shortened(error)})") from error


def _shortened(error: Exception) -> str:
    """The message of a library on one line, of at most 160 characters."""
    return " ".join(str(error).split())[:160]


def _to_tensor(crops: Sequence[Image]) -> Float:
    batch = np.stack(crops).astype(np.float32) / np.float32(255.0)
    return np.ascontiguousarray(batch.transpose(0, 3, 1, 2))  # (B, 3, S, S)
