"""What is done differently in large models gives the same answer: on small ones, with the limits moved."""

from __future__ import annotations

import pytest
import torch
from tests.cases import CASES, Case
from torch import nn

from scaleinv.symmetry import find_symmetries, jacobian, parts, probe, settle, verify
from scaleinv.symmetry.precision import SINGLE

_NAMES = ("batch norm mlp", "tied", "qkv", "gpt", "post-norm", "pre-norm", "fused", "layer norm")
_CHOSEN = [case for case in CASES if any(word in case.name for word in _NAMES)] or CASES[:8]


@pytest.mark.parametrize("case", _CHOSEN, ids=lambda case: case.name)
def test_the_ways_of_large_models(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise by tiles, sums piece by piece, no gradient of the largest tensors, all claims at once."""
    plain = find_symmetries(*case.build(), defect=False)
    for module, name, value in (
        (settle, "_TOO_LARGE", 30), (probe, "_TILE", 37), (jacobian, "_CHUNK", 16), (verify, "EACH_BELOW", 0),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    large = find_symmetries(*case.build(), defect=False)
    assert large.verdict == plain.verdict == "clear"
    for key in ("single", "joint", "rescaling", "dead", "fixed", "row", "partial", "sliced"):
        assert getattr(large, key) == getattr(plain, key), key


def test_rows_in_single_precision_are_made_together() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 4))
    own = probe.Probe(net, torch.randn(5, 6), dtype=torch.float32)
    factors = torch.ones(len(own.tensors), requires_grad=True)
    outputs = own.outputs(list(factors.unbind()))
    us = [torch.randn(len(outputs), generator=torch.Generator().manual_seed(k)) for k in range(6)]
    rows = jacobian.factor_rows(outputs, factors, us)
    alone = [torch.autograd.grad(outputs, factors, u, retain_graph=True)[0].double() for u in us]
    torch.testing.assert_close(rows, torch.stack(alone), rtol=1e-4, atol=1e-5)
    assert jacobian._batch(outputs, factors, us[:2]) is not None


def test_slices_of_matrices_and_others_have_the_norms_they_have() -> None:
    for shape in ((5,), (4, 6), (3, 4, 2, 2)):
        t = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
        for d, norms in enumerate(parts._norms(t)):
            expected = t.movedim(d, 0).reshape(shape[d], -1).norm(dim=1).double()
            torch.testing.assert_close(norms, expected, rtol=1e-5, atol=0)


class Slight(nn.Module):
    """A matrix whose gradient is nearly orthogonal to it, as those of large matrices are by chance."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.w, self.o, self.share = nn.Linear(6, 8, bias=False), nn.Linear(8, 3), share

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h: torch.Tensor = self.w(x)
        free = nn.functional.layer_norm(h, (8,))
        out: torch.Tensor = self.o(free + self.share * torch.tanh(h))
        return out


@pytest.mark.parametrize(("share", "single"), [(1e-5, False), (1e-6, False), (0.0, True)])
def test_a_slope_that_single_precision_barely_sees_is_confirmed_in_double(share: float, single: bool) -> None:
    torch.manual_seed(0)
    net, x = Slight(share), torch.randn(9, 6)
    found = find_symmetries(net, x, precision="single", defect=False)
    assert found.verdict == "clear"
    assert ("w.weight" in found.single) is single
    assert ("w.weight" in found.fixed) is not single


def test_small_slopes_need_no_search_in_double() -> None:
    torch.manual_seed(0)
    net, x = Slight(1e-4), torch.randn(9, 6)
    found = find_symmetries(net, x, precision="single", defect=False)
    assert found.evidence["dtype"] == "float32, tested in float64"
    assert found.fixed == ("w.weight", "o.weight", "o.bias")
    cosine = found.evidence["smallest_other_cosine"]
    assert SINGLE.zero < cosine < 10 * SINGLE.zero
