"""Recompute BatchNorm's running statistics, or rescale them together with the weights, so that eval mode fits them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: by BN layer the root mean square of every channel that enters it
Sizes = Mapping[_BatchNorm, Tensor]


@torch.no_grad()
def entering_sizes(model: nn.Module, see: Callable[[], None]) -> Sizes:
    """Measure what enters the BN layers in train mode while ``see`` passes a batch; leave the network as it was."""
    found: dict[_BatchNorm, Tensor] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        x = inputs[0].double()
        found[layer] = x.square().mean([d for d in range(x.ndim) if d != 1]).sqrt()

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, _BatchNorm)]
    try:
        if hooks:
            with mode(model, True), fresh_bn_statistics(model):
                see()
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def rescale_statistics(model: nn.Module, see: Callable[[], None], before: Sizes) -> None:
    """Scale running means by the factor by which their inputs have grown since ``before``, variances by its square.

    The factor is measured channel by channel: rows may have factors of their own, and not every BN layer follows a
    rescaled weight (those in the shortcuts of ResNet-18 see what is normalised already).
    """
    for layer, now in entering_sizes(model, see).items():
        mean, variance, then = layer.running_mean, layer.running_var, before[layer]
        if mean is not None and variance is not None:
            factor = torch.where((then > 0) & (now > 0), now / then, torch.ones_like(then))  # 0: nothing enters
            mean.copy_(mean * factor)
            variance.copy_(variance * factor**2)


@contextmanager
def mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Put the network into train or eval mode within; afterwards every module is in the mode it was in."""
    flags = [(m, m.training) for m in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def fresh_bn_statistics(model: nn.Module) -> Iterator[None]:
    """Have BN layers average the statistics of the batches they see within; afterwards everything is as before."""
    layers = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    saved = [([b.clone() for b in m.buffers()], m.momentum) for m in layers]
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # cumulative average
        yield
    finally:
        for layer, (buffers, momentum) in zip(layers, saved):
            layer.momentum = momentum
            for buffer, value in zip(layer.buffers(), buffers):
                buffer.copy_(value)


def has_bn_statistics(model: nn.Module) -> bool:
    """Tell whether eval mode differs from train mode by running statistics."""
    return any(isinstance(m, _BatchNorm) and m.track_running_stats for m in model.modules())
