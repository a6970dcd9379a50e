"""Which images make which batch: shuffled for training, as they stand for exact passes."""

from __future__ import annotations

import torch

from scaleinv.errors import UserError
from scaleinv.lab import random as _random


def _sizes(n: int, batch_size: int) -> list[int]:
    if n < 2:
        raise UserError(f"{n} image(s) make no batch: batch normalization needs two; use a larger subset")
    if batch_size < 2:
        raise UserError(f"batch size {batch_size} is too small: batch normalization needs two images in a batch")
    full, rest = divmod(n, batch_size)
    sizes = [batch_size] * full
    if rest == 1 and full:
        sizes[-1] += 1  # an image alone has no batch variance
    elif rest:
        sizes.append(rest)
    return sizes


def batches(n: int, batch_size: int, *, seed: int, epoch: int) -> list[torch.Tensor]:
    """The shuffled batches of one epoch, as int64 index tensors of shape (b,).

    The order is the argsort of n Philox words with the key (seed, epoch), so epoch e needs no epoch before it, a
    resumed run sees the order of an uninterrupted one, and different (seed, epoch) never share a stream. The last
    partial batch is kept; if it has one image only, that image joins the batch before it.

    Raises `UserError` if n < 2, batch_size < 2, or seed or epoch is outside [0, 2^64).

    >>> [len(b) for b in batches(10, 4, seed=0, epoch=0)]
    [4, 4, 2]
    >>> [len(b) for b in batches(9, 4, seed=0, epoch=0)]
    [4, 5]
    """
    sizes = _sizes(n, batch_size)
    order = torch.from_numpy(_random.permutation(_random.BATCHES, seed, epoch, n))
    return list(torch.split(order, sizes))


def eval_batches(n: int, batch_size: int) -> list[torch.Tensor]:
    """The batches of an exact pass: 0..n-1 in order, int64 index tensors of shape (b,); last batch as in `batches`.

    >>> [b.tolist() for b in eval_batches(5, 2)]
    [[0, 1], [2, 3, 4]]
    """
    sizes = _sizes(n, batch_size)
    return list(torch.split(torch.arange(n), sizes))
