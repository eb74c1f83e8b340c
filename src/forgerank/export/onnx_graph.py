"""The network as one ONNX graph, from the image to every output of the runtime."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from forgerank.detect.runtime import INPUT, ORDER_OUTPUT, OUTPUTS
from forgerank.files import writing
from forgerank.losses.mil import forgery_probability, similarity_map
from forgerank.model.network import Network

OPSET = 18
TOLERANCE = 1e-4  # largest allowed difference between torch and ONNX, in any output


class ExportGraph(nn.Module):
    """images (B, 3, S, S) in [0, 1] -> gap, P(x), component probabilities, component maps, similarity,
    and the order scores of a network with an order head.

    The maps are those of the localisation head where the network has one, else the class activation maps.
    """

    pairs: Tensor  # (n,) places of the token pairs in the flattened similarity
    share: Tensor  # (n-1,) k/n
    spread: Tensor  # (n-1,) n/(k(n-k))

    def __init__(self, network: Network, tau: float) -> None:
        super().__init__()
        self.network = network
        self.tau = tau
        config = network.config
        tokens = (config.input_size // config.stride) ** 2
        rows, columns = torch.triu_indices(tokens, tokens, offset=1)
        self.register_buffer("pairs", rows * tokens + columns)
        k = torch.arange(1, len(rows), dtype=torch.float64)
        self.register_buffer("share", k / len(rows))
        self.register_buffer("spread", len(rows) / (k * (len(rows) - k)))

    @property
    def outputs(self) -> list[str]:
        """Names, in order."""
        return [*OUTPUTS, ORDER_OUTPUT] if self.network.config.order_head else list(OUTPUTS)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `outputs` names them."""
        output = self.network(images)
        similarity = similarity_map(output.tokens).clamp(max=1)  # (B, N, N)
        gap = self._gap(similarity)
        maps = output.component_maps if output.mask_logits is None else output.mask_logits
        probability = forgery_probability(gap, self.tau)
        values = gap, probability, output.logits.sigmoid(), maps.sigmoid(), similarity
        return (*values, output.order_logits.sigmoid()) if self.network.config.order_head else values

    def _gap(self, similarity: Tensor) -> Tensor:
        """Eq. 7-8: max_k D(k) from the prefix sums of the sorted similarities, every k in 1..n-1."""
        u = similarity.flatten(1)[:, self.pairs].sort(dim=1).values  # (B, n), ascending
        # In float64: differences of long float32 sums are too inexact.
        sums = u.double().cumsum(dim=1)
        gaps = (sums[:, -1:] * self.share - sums[:, :-1]) * self.spread  # (B, n-1)
        return gaps.amax(dim=1).float()


def export_onnx(network: Network, tau: float, path: Path) -> float:
    """Write the graph with a dynamic batch size; returns its largest difference from torch in any output.

    Raises ValueError where that exceeds TOLERANCE, OutputError where the file cannot be written.
    """
    graph = ExportGraph(network.cpu(), tau).eval()
    size = network.config.input_size
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operator has no ONNX counterpart
    try:
        with writing(path), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            torch.onnx.export(
                graph,
                (example,),
                path,
                dynamo=True,
                external_data=False,
                verbose=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=graph.outputs,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            )
        with writing(path):
            _drop_notes(path)
        difference = max(
            _difference(graph, path, images) for images in (example, example[:1], example[[0, 1, 0]])
        )
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    if not difference <= TOLERANCE:
        raise ValueError(f"{path}: ONNX and torch differ by {difference:.2e}, more than {TOLERANCE:.0e}")
    return difference


def _drop_notes(path: Path) -> None:
    """Remove the exporter's metadata: stack traces, with paths of this machine."""
    model = onnx.load(path)
    graph = model.graph
    named = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    inner = (*model.functions, *(node for function in model.functions for node in function.node))
    for part in (model, graph, *named, *inner):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)


@torch.inference_mode()
def _difference(graph: ExportGraph, path: Path, images: Tensor) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    theirs = session.run(graph.outputs, {INPUT: images.numpy()})
    ours = (output.numpy() for output in graph(images))
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
