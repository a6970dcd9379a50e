"""Slices of fused tensors that trade their scales: q and k, v and the output, gate and up, each layout of a library."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.cases import normal
from tests.kinds import Fn, built
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.symmetry import find_symmetries

X = normal(2, 5, 12)


def _attention(q: Tensor, k: Tensor, v: Tensor, heads: int, **options: Any) -> Tensor:
    q, k, v = (t.unflatten(-1, (-1, q.shape[-1] // heads)).transpose(1, 2) for t in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2)


def mha(s: Any, x: Tensor) -> Tensor:
    return s.m(x, x, x)[0]


def thirds(s: Any, x: Tensor) -> Tensor:
    """timm: qkv in thirds."""
    return s.o(_attention(*s.qkv(x).chunk(3, -1), heads=3))


def head_by_head(s: Any, x: Tensor) -> Tensor:
    """GPT-NeoX and BLOOM: q, k and v of one head stand together."""
    q, k, v = (t.flatten(-2) for t in s.qkv(x).unflatten(-1, (3, 3, 4)).unbind(-2))
    return s.o(_attention(q, k, v, heads=3))


def fewer_heads(s: Any, x: Tensor) -> Tensor:
    """Grouped queries in one matrix: two heads of q to each of k and v."""
    q, k, v = s.qkv(x).split([12, 6, 6], -1)
    return s.o(_attention(q, k, v, heads=4, enable_gqa=True))


def two_in_one(s: Any, x: Tensor) -> Tensor:
    """Cross-attention: k and v in one matrix."""
    return s.o(_attention(s.q(x), *s.kv(x.flip(1)).chunk(2, -1), heads=3))


def gated(s: Any, x: Tensor) -> Tensor:
    """Phi-3: gate and up in one matrix."""
    gate, up = s.up(x).chunk(2, -1)
    return s.o(functional.silu(gate) * up)


CASES: dict[str, tuple[Any, dict[str, Any], set[str], set[str]]] = {
    "nn.MultiheadAttention": (
        mha,
        {"m": lambda: nn.MultiheadAttention(12, 3, batch_first=True)},
        {
            "m.in_proj_bias[12:24]",
            "m.in_proj_weight[0:12]^+1, m.in_proj_bias[0:12]^+1, m.in_proj_weight[12:24]^-1",
            "m.in_proj_weight[24:36]^+1, m.in_proj_bias[24:36]^+1, m.out_proj.weight^-1",
        },
        {"m.out_proj.bias"},
    ),
    "thirds": (
        thirds,
        {"qkv": lambda: nn.Linear(12, 36), "o": lambda: nn.Linear(12, 12)},
        {
            "qkv.bias[12:24]",
            "qkv.weight[0:12]^+1, qkv.bias[0:12]^+1, qkv.weight[12:24]^-1",
            "qkv.weight[24:36]^+1, qkv.bias[24:36]^+1, o.weight^-1",
        },
        {"o.bias"},
    ),
    "head by head": (
        head_by_head,
        {"qkv": lambda: nn.Linear(12, 36, bias=False), "o": lambda: nn.Linear(12, 12)},
        {
            "qkv.weight[0:4,12:16,24:28]^+1, qkv.weight[4:8,16:20,28:32]^-1",
            "qkv.weight[8:12,20:24,32:36]^+1, o.weight^-1",
        },
        {"o.bias"},
    ),
    "fewer heads of k and v": (
        fewer_heads,
        {"qkv": lambda: nn.Linear(12, 24, bias=False), "o": lambda: nn.Linear(12, 12)},
        {"qkv.weight[0:12]^+1, qkv.weight[12:18]^-1", "qkv.weight[18:24]^+1, o.weight^-1"},
        {"o.bias"},
    ),
    "k and v in one": (
        two_in_one,
        {f: lambda f=f: nn.Linear(12, 24 if f == "kv" else 12, bias=f == "o") for f in ("q", "kv", "o")},
        {"kv.weight[0:12]^+1, q.weight^-1", "kv.weight[12:24]^+1, o.weight^-1"},
        {"o.bias"},
    ),
    "gate and up": (
        gated,
        {"up": lambda: nn.Linear(12, 16), "o": lambda: nn.Linear(8, 3)},
        {"up.weight[8:16]^+1, up.bias[8:16]^+1, o.weight^-1"},
        {"up.weight", "up.bias", "o.bias"},  # of up the gate has a scale of its own
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_slices_trade(name: str) -> None:
    forward, parts, expected, fixed = CASES[name]
    model, inputs = built(lambda: Fn(forward, **{key: make() for key, make in parts.items()}), X)()
    found = find_symmetries(model, inputs, defect=False)
    assert found.verdict == "clear"
    assert {str(trade) for trade in found.sliced} == expected
    assert set(found.fixed) == fixed
    for trade in found.sliced:  # and they do
        with torch.no_grad():
            for p in model.parameters():  # a bias of zero would hide what it does
                p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        named = dict(model.named_parameters())
        before = model(*inputs)
        with torch.no_grad():
            for part, exponent in trade.exponents:
                views = [named[part.name]]
                if part.dim is not None:
                    views = [named[part.name].narrow(part.dim, a, b - a) for a, b in part.ranges]
                for view in views:
                    view.mul_(3.0**exponent)
        assert torch.allclose(model(*inputs), before, rtol=1e-4, atol=1e-5)


def test_a_plain_network_has_no_slices_that_trade() -> None:
    model, inputs = built(
        lambda: nn.Sequential(nn.Linear(12, 36), nn.ReLU(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 24)), X
    )()
    found = find_symmetries(model, inputs, defect=False)
    assert found.sliced == ()
    assert len(found.rescaling) == 2


@pytest.mark.parametrize("what", ["tokens", "features"])
def test_what_the_inputs_leave_out_is_no_slice(what: str) -> None:
    """Half of a table's rows, or of the features, is not in use here: what is seen of it is not a slice of its own."""
    if what == "tokens":
        ids = torch.tensor([[1, 3, 5], [3, 3, 1], [5, 1, 1], [5, 5, 3]])
        model, inputs = built(
            lambda: Fn(lambda s, i: s.o(torch.relu(s.w(i).sum(1))), w=nn.Embedding(20, 8), o=nn.Linear(8, 3)), ids
        )()
    else:
        x = normal(9, 6) * torch.tensor([1.0, 1, 1, 0, 0, 0])
        model, inputs = built(
            lambda: Fn(lambda s, x: s.o(torch.relu(s.w(x))), w=nn.Linear(6, 8, bias=False), o=nn.Linear(8, 3)), x
        )()
    found = find_symmetries(model, inputs, defect=False)
    assert found.rescaling == ({"w.weight": 1, "o.weight": -1},)
    assert found.sliced == ()
    assert found.partial == ()
