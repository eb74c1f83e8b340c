"""Activation checkpointing and sharding (FSDP), for networks that are too large for one accelerator."""

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
    """The repeated blocks of a network: the members of every outermost nn.Sequential or nn.ModuleList.

    In timm's networks these are the residual blocks, or the stages where blocks are nested twice; also the
    layers of the transformers. A member with a single layer is left out: it has no inner activations to save.
    """
    for child in network.children():
        if isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from (block for block in child if len(list(_layers(block))) > 1)
        else:
            yield from blocks(child)


def _layers(block: nn.Module) -> Iterator[nn.Module]:
    return (module for module in block.modules() if any(True for _ in module.parameters(recurse=False)))


def recompute_blocks(network: nn.Module) -> None:
    """Activation checkpointing, in place: only the input of each block is kept, and the backward pass runs
    the block's forward pass again. Gradients and running statistics stay the same.
    """
    for block in blocks(network):
        contexts = partial(_contexts, block)
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, context_fn=contexts)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _statistics_kept(block)


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Keep batch normalisation from updating its statistics again in the second forward pass."""
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
    """Shard the weights over the processes of `mesh` (FSDP2), in place, unless they are already."""
    if isinstance(network, FSDPModule):
        return
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if weight.ndim == 0:
                # FSDP cannot shard a scalar; a state dict with a scalar loads into a vector of length 1.
                vector = nn.Parameter(weight.detach().reshape(1), requires_grad=weight.requires_grad)
                setattr(module, name, vector)
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def own_tensors(network: nn.Module) -> list[Tensor]:
    """Weights and buffers, of sharded ones the part that this process holds."""
    tensors: list[Tensor] = [*network.parameters(), *network.buffers()]
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors]
