"""Draw what a step sees, from (seed, epoch or step) alone: which images make a batch, and how each is augmented."""

from collections.abc import Sequence

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.lab import random as _random

PADDING = 4  #: pixels on each side


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


def batches(n: int, batch_size: int, *, seed: int, epoch: int) -> list[Tensor]:
    """Shuffle the images of one epoch into batches, int64 index tensors of shape (b,).

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


def eval_batches(n: int, batch_size: int) -> list[Tensor]:
    """Cut 0..n-1 in order into the batches of an exact pass, int64 indices of shape (b,); last batch as in `batches`.

    >>> [b.tolist() for b in eval_batches(5, 2)]
    [[0, 1], [2, 3, 4]]
    """
    sizes = _sizes(n, batch_size)
    return list(torch.split(torch.arange(n, device="cpu"), sizes))


def augment(images: Tensor, *, seed: int, step: int, pad_value: Sequence[float]) -> Tensor:
    """Crop each image at random after padding by 4 pixels, flipped left to right with probability 1/2.

    ``images``: normalised, (B, C, H, W); the result has the same shape, dtype, device and memory format. ``pad_value``:
    the value of black per channel after normalisation, `Dataset.pad_value` (padding before normalisation, as usually
    done, pads with black; 0 after it would be the mean grey). Shifts and flips are a function of (seed, step) alone,
    so a resumed run sees the images of an uninterrupted one.

    Raises `UserError` if ``pad_value`` has another number of channels, or seed or step is negative.

    >>> from scaleinv.lab.data import load_dataset
    >>> data = load_dataset("digits")
    >>> augment(data.train_images[:32], seed=0, step=0, pad_value=data.pad_value).shape
    torch.Size([32, 1, 8, 8])
    """
    b, c, h, w = images.shape
    if len(pad_value) != c:
        raise UserError(f"augmentation of {c} channel(s) got {len(pad_value)} pad value(s): give one for each")
    random = _random.words(_random.AUGMENT, seed, step, b)
    shifts = 2 * PADDING + 1
    both = torch.from_numpy(_random.below(2 * shifts * shifts, random))  # one draw: flip, rows, columns
    flip, rows, columns = both % 2 == 1, both // 2 % shifts, both // 2 // shifts
    padded = images.new_empty(b, h + 2 * PADDING, w + 2 * PADDING, c)
    padded[:] = images.new_tensor(pad_value)
    padded[:, PADDING : PADDING + h, PADDING : PADDING + w] = images.permute(0, 2, 3, 1)
    across = torch.arange(w, device="cpu").expand(b, w)
    across = torch.where(flip[:, None], across.flip(1), across) + columns[:, None]
    down = torch.arange(h, device="cpu") + rows[:, None]
    # pixels as rows of a (B * H' * W', C) table: one gather makes every crop and flip
    image = torch.arange(b, device="cpu")[:, None, None]
    flat = (image * (h + 2 * PADDING) + down[:, :, None]) * (w + 2 * PADDING) + across[:, None]
    taken = padded.view(-1, c).index_select(0, flat.flatten().to(images.device))
    out = taken.view(b, h, w, c).permute(0, 3, 1, 2)  # channels_last, as it comes from the gather
    wanted = torch.empty_like(images)
    return out if out.stride() == wanted.stride() else wanted.copy_(out)
