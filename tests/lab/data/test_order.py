"""Batch order: every image once, no batch of one, a function of (seed, epoch) alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.lab.data import batches, eval_batches


@settings(deadline=None)
@given(st.integers(2, 300), st.integers(2, 70), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_every_image_once_and_no_batch_of_one(n: int, batch_size: int, seed: int, epoch: int) -> None:
    for parts in (batches(n, batch_size, seed=seed, epoch=epoch), eval_batches(n, batch_size)):
        joined = torch.cat(parts)
        assert joined.dtype == torch.int64
        assert torch.equal(joined.sort().values, torch.arange(n))
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 2
        assert all(size == min(batch_size, n) for size in sizes[:-1])
        assert sizes[-1] <= batch_size + 1
    assert torch.equal(torch.cat(eval_batches(n, batch_size)), torch.arange(n))


def test_cifar_at_128_has_391_batches_as_the_papers() -> None:
    parts = batches(50_000, 128, seed=0, epoch=0)
    assert len(parts) == 391
    assert len(parts[-1]) == 80


def test_a_last_image_joins_the_batch_before() -> None:
    assert [len(b) for b in batches(129, 64, seed=0, epoch=0)] == [64, 65]
    assert [len(b) for b in batches(130, 64, seed=0, epoch=0)] == [64, 64, 2]
    assert [len(b) for b in eval_batches(5, 128)] == [5]


def test_the_order_is_pinned() -> None:
    # the order is part of what a run is: a change here breaks the resumption of every run made before it
    assert torch.cat(batches(10, 4, seed=7, epoch=3)).tolist() == PINNED


def test_no_two_epochs_or_seeds_share_an_order() -> None:
    keys = [(s, e) for s in (0, 1, 2, 2**32, 2**63, 2**64 - 1) for e in range(20)]
    orders = {tuple(torch.cat(batches(40, 8, seed=s, epoch=e)).tolist()) for s, e in keys}
    assert len(orders) == len(keys)


def test_the_permutation_is_uniform() -> None:
    # chi-squared of the 24 orders of 4 images over 4800 epochs, 23 degrees of freedom: mean 23, sd sqrt(46)
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(4800):
        order = tuple(torch.cat(batches(4, 4, seed=1, epoch=epoch)).tolist())
        counts[order] = counts.get(order, 0) + 1
    chi2 = sum((count - 200) ** 2 / 200 for count in counts.values())
    assert len(counts) == 24
    assert abs(chi2 - 23) < 4 * 46**0.5


@pytest.mark.parametrize(
    ("n", "batch_size", "seed", "epoch", "word"),
    [(1, 8, 0, 0, "1 image"), (0, 8, 0, 0, "0 image"), (8, 1, 0, 0, "batch size 1"), (8, 0, 0, 0, "batch size 0"),
     (8, 4, -1, 0, "seed -1"), (8, 4, 0, -1, "index -1"), (8, 4, 2**64, 0, "seed")],
)  # fmt: skip
def test_bad_input(n: int, batch_size: int, seed: int, epoch: int, word: str) -> None:
    with pytest.raises(UserError, match=word):
        batches(n, batch_size, seed=seed, epoch=epoch)


PINNED = [6, 4, 8, 9, 0, 2, 5, 3, 1, 7]
