"""Examples taken by number lie in memory as indexing lays them out: other layouts may give other bits."""

from __future__ import annotations

import pytest
import torch

from scaleinv.lab.splits import taken

SHAPES = [(9,), (9, 4), (9, 1, 4, 4), (9, 3, 4, 4), (9, 3, 1, 1), (9, 1, 1, 1), (1, 3, 2, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_layout_is_that_of_indexing(shape: tuple[int, ...]) -> None:
    plain = torch.randn(shape)
    layouts = [plain, plain.expand(2, *shape)[1], torch.randn(*shape, 2)[..., 0]]
    if plain.ndim == 4:
        layouts.append(plain.contiguous(memory_format=torch.channels_last))
    for tensor in layouts:
        for indices in (torch.tensor([0, 0]), torch.randperm(len(tensor)), slice(0, 1)):
            wanted, found = tensor[indices], taken(tensor, indices)
            assert found.stride() == wanted.stride()
            assert torch.equal(found, wanted)
