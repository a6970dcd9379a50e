"""Random crop and flip against every crop and flip there is."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from scaleinv.errors import UserError
from scaleinv.lab.data import augment, load_dataset

PAD = (-1.5, -2.0, -2.5)


def images(n: int, h: int = 10, w: int = 12) -> torch.Tensor:
    return torch.randn(n, 3, h, w, generator=torch.Generator().manual_seed(0))


def candidates(image: torch.Tensor) -> dict[tuple[int, int, bool], torch.Tensor]:
    """Every (row shift, column shift, flip) of one image, the slow way."""
    c, h, w = image.shape
    padded = torch.stack([F.pad(image[i], (4, 4, 4, 4), value=PAD[i]) for i in range(c)])
    crops = {(r, s): padded[:, r : r + h, s : s + w] for r in range(9) for s in range(9)}
    return {(*key, flip): crop.flip(-1) if flip else crop for key, crop in crops.items() for flip in (False, True)}


def test_each_result_is_one_of_the_162_and_all_are_equally_likely() -> None:
    x = images(8)
    table = [candidates(image) for image in x]
    counts: Counter[tuple[int, int, bool]] = Counter()
    steps = 250
    for step in range(steps):
        for image, options in zip(augment(x, seed=3, step=step, pad_value=PAD), table):
            matches = [
                key
                for key, option in options.items()
                if image[0, 4, 5] == option[0, 4, 5] and torch.equal(image, option)
            ]
            assert len(matches) == 1
            counts[matches[0]] += 1
    expected = 8 * steps / 162
    chi2 = sum((counts[key] - expected) ** 2 / expected for key in table[0])
    assert abs(chi2 - 161) < 4 * math.sqrt(2 * 161)


def test_a_function_of_seed_and_step() -> None:
    x = images(16)
    first = augment(x, seed=1, step=5, pad_value=PAD)
    assert torch.equal(first, augment(x, seed=1, step=5, pad_value=PAD))
    assert not torch.equal(first, augment(x, seed=1, step=6, pad_value=PAD))
    assert not torch.equal(first, augment(x, seed=5, step=1, pad_value=PAD))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_format_is_kept(memory_format: torch.memory_format) -> None:
    x = images(4)
    out = augment(x.contiguous(memory_format=memory_format), seed=0, step=0, pad_value=PAD)
    assert out.stride() == x.contiguous(memory_format=memory_format).stride()
    assert torch.equal(out, augment(x, seed=0, step=0, pad_value=PAD))


def test_the_input_is_left_alone_and_digits_work() -> None:
    data = load_dataset("digits", subset=64, with_test=False)
    before = data.train_images.clone()
    out = augment(data.train_images, seed=0, step=0, pad_value=data.pad_value)
    assert torch.equal(before, data.train_images)
    assert out.shape == before.shape
    assert out.stride() == before.stride()
    assert out.min() == data.pad_value[0]


def test_bad_input() -> None:
    with pytest.raises(UserError, match=r"3 channel\(s\) got 1 pad value"):
        augment(images(2), seed=0, step=0, pad_value=(0.0,))
    with pytest.raises(UserError, match="index -1"):
        augment(images(2), seed=0, step=-1, pad_value=PAD)
