"""A model inside ``FullyShardedDataParallel`` gets the answer of the model itself, and stays as it is."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import distributed, nn

from scaleinv import find_symmetries, make_scale_invariant

pytestmark = [
    pytest.mark.skipif(not distributed.is_available(), reason="torch is built without distributed"),
    pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"),
]


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _plain() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8, bias=False), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))


def _wrapped(original: bool) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    net, cpu = _plain(), torch.device("cpu")
    net[0] = FullyShardedDataParallel(net[0], use_orig_params=original, device_id=cpu)
    return FullyShardedDataParallel(net, use_orig_params=original, device_id=cpu)


@pytest.mark.parametrize("original", [False, True], ids=["flat parameters", "original parameters"])
def test_a_sharded_model_is_answered_as_itself(alone: None, original: bool) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    expected, model = find_symmetries(_plain(), x), _wrapped(original)
    before, output = [p.detach().clone() for p in model.parameters()], model(x)
    found = find_symmetries(model, x)
    assert found.verdict == "clear"
    for key in ("single", "row", "joint", "rescaling", "dead", "fixed", "shapes", "norms"):
        assert getattr(found, key) == getattr(expected, key), key
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    assert torch.equal(model(x), output)


def test_a_sharded_model_is_converted_without_its_wrappers(alone: None) -> None:
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    converted = make_scale_invariant(_wrapped(True), x)
    assert type(converted) is nn.Sequential
    assert converted.conversion.complete
    assert [name for name, p in converted.named_parameters() if p.requires_grad] == ["0.weight"]
