"""Networks that are too large for one accelerator: blocks computed twice, or spread over processes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """What networks repeat: the members of every outermost nn.Sequential or nn.ModuleList.

    In timm's networks these are the residual blocks, or the stages where blocks are nested twice; beside them
    the layers of the transformers. A member with a single layer is none: there is nothing inside it to save.
    """
    for child in network.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from (block for block in child if len(list(_layers(block))) > 1)
        else:
            yield from blocks(child)


def _layers(block: nn.Module) -> Iterator[nn.Module]:
    return (module for module in block.modules() if any(True for _ in module.parameters(recurse=False)))


def recompute_blocks(network: nn.Module) -> None:
    """Activation checkpointing, in place: of each block only the input is kept for the backward pass, which
    runs its forward pass again. Gradients and running statistics are what they would be without.
    """
    for block in blocks(network):
        contexts = partial(_contexts, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Batch normalisation has taken its statistics in the first forward pass: not in the second, too."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    kept = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    counts = [None if count is None else count.clone() for _, _, count in kept]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for (norm, momentum, tracked), count in zip(kept, counts, strict=True):
            norm.momentum = momentum
            if tracked is not None and count is not None:
                tracked.copy_(count)


def shard_blocks(network: nn.Module, mesh: DeviceMesh) -> None:
    """Spread the weights over the processes of `mesh` (FSDP2), in place; nothing where they are already."""
    if isinstance(network, FSDPModule):
        return
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim == 0:
                # A number cannot be spread, a vector of one can; torch reads one as the other.
                vector = nn.Parameter(weight.detach().reshape(1), requires_grad=weight.requires_grad)
                setattr(module, name, vector)
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def own_tensors(network: nn.Module) -> list[Tensor]:
    """Weights and buffers as this process holds them: its part of each where they are spread."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
