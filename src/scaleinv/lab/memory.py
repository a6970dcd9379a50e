"""Ask before training whether the memory is there, and keep what training has freed with the process.

Every step allocates and frees the same activations. By default the C library gives large pieces back to the system at
once, and gets them anew page by page: a quarter to a half of the processor's time for images of CIFAR-10's size
(``benchmarks/freed_memory.py``).
"""

import ctypes
import functools
import sys
from contextlib import suppress
from fractions import Fraction

import torch
from torch import Tensor, nn

from scaleinv.lab.config import RunConfig
from scaleinv.lab.models import build_model
from scaleinv.runfolder.memory import require

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_TOP, _PIECE = 2**30, 2**25  # bytes; 2^25 is the most that may be asked for
_FLOAT = 4  # bytes
_STEP = 4  # of the widths; every normalization takes it
#: weights, gradients, those of the epoch before, and the update
_COPIES = 4
#: more of them by optimizer: momentum, or the averages of Adam
_STATES = {"adam": 2, "adamw": 2}


@functools.cache
def keep_freed_memory() -> None:
    """Keep it from now on, where the C library is glibc; elsewhere nothing happens. No number depends on it.

    >>> keep_freed_memory()
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _PIECE)
        mallopt(_TRIM_THRESHOLD, _TOP)


def require_memory(config: RunConfig, in_shape: tuple[int, ...], classes: int, examples: int, runs: int = 1) -> None:
    """Raise UserError where ``runs`` runs at a time of a network of the package need more memory than is free."""
    if config.width is None or config.device != "cpu":
        return
    kind = config.model, config.variant, config.normalization
    weights, active = needed_numbers(*kind, config.width, in_shape, classes)
    states = _STATES.get(config.optimizer, 1 if config.momentum else 0)
    batch = examples if config.gradient == "full" else min(config.batch_size, examples)
    size = _FLOAT * (weights * (_COPIES + states) + active * batch)
    told = f"{config.model} of width {config.width} with batches of {batch}"
    told += f", {runs} runs at a time," if runs > 1 else ""
    require(size * runs, told, "take a smaller --width or --batch-size" + (", or fewer --workers" if runs > 1 else ""))


def needed_numbers(
    model: str, variant: str, norm: str, width: int, in_shape: tuple[int, ...], classes: int
) -> tuple[int, int]:
    """Count the weights of a network and the activations its backward pass keeps of one image; nothing of it is built.

    Weights are a polynomial of degree two in the width, activations of degree one: they follow exactly from networks of
    three small widths.

    >>> needed_numbers("convnet", "si", "batch", 32, (3, 32, 32), 10)[0]
    390506
    """
    low, middle, high = (_counted(model, variant, norm, _STEP * k, in_shape, classes) for k in (1, 2, 3))
    t = Fraction(width - _STEP, _STEP)
    # Newton's form
    weights = low[0] + t * (middle[0] - low[0]) + t * (t - 1) / 2 * (high[0] - 2 * middle[0] + low[0])
    return int(weights), int(low[1] + t * (middle[1] - low[1]))


@functools.cache
def _counted(model: str, variant: str, norm: str, width: int, shape: tuple[int, ...], classes: int) -> tuple[int, int]:
    net = build_model(
        model,
        variant=variant,
        in_shape=shape,
        classes=classes,
        width=width,
        norm=norm,
        generator=torch.Generator().manual_seed(0),
    )
    kept = [0]

    def add(_: nn.Module, __: object, output: Tensor) -> None:
        kept[0] += output[0].numel()

    layers = [layer for layer in net.modules() if not list(layer.children())]
    weights = sum(p.numel() for p in net.parameters())
    for layer in layers:
        layer.register_forward_hook(add)
    net.to("meta")(torch.empty(2, *shape, device="meta"))
    return weights, kept[0]
