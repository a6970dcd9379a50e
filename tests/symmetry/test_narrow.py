"""Rows of J from a part of the inputs are rows of J, and only where the part does not depend on the rest."""

from __future__ import annotations

import pytest
import torch
from tests.cases import normal, tokens
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.symmetry import find_symmetries, narrow, search
from scaleinv.symmetry.jacobian import cotangent, factor_rows
from scaleinv.symmetry.probe import Probe, map_tensors


class Causal(nn.Module):
    """A small language model; ``causal`` says whether a token sees later ones, ``mixed`` whether samples meet."""

    def __init__(self, causal: bool = True, mixed: bool = False) -> None:
        super().__init__()
        self.causal, self.mixed = causal, mixed
        self.table, self.head = nn.Embedding(20, 12), nn.Linear(12, 20, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({k: nn.Linear(12, 12, bias=k == "v") for k in ("q", "k", "v", "o", "u", "d")})
            for _ in range(3)
        )

    def forward(self, ids: Tensor) -> Tensor:
        h = self.table(ids)
        for b in self.blocks:
            y = functional.layer_norm(h, (12,))
            h = h + b["o"](
                functional.scaled_dot_product_attention(b["q"](y), b["k"](y), b["v"](y), is_causal=self.causal)
            )
            h = h + b["d"](torch.relu(b["u"](functional.layer_norm(h, (12,)))))
        if self.mixed:
            h = h - h.mean(0, keepdim=True)
        result: Tensor = self.head(functional.layer_norm(h, (12,)))
        return result


def _probe(model: nn.Module, inputs: Tensor) -> tuple[Probe, Tensor]:
    probe = Probe(model, inputs, dtype=torch.float32, eps=1e-14)
    return probe, torch.ones_like(probe.value(), dtype=torch.float64)


@pytest.mark.parametrize(
    ("causal", "mixed", "sizes"),
    [
        (True, False, ((0, 3, 1), (1, 10, 4))),
        (False, False, ((0, 3, 1),)),
        (True, True, ((1, 10, 4),)),
        (False, True, ()),
    ],
)
def test_what_is_cut_depends_on_what_meets(causal: bool, mixed: bool, sizes: tuple[tuple[int, int, int], ...]) -> None:
    torch.manual_seed(0)
    found = narrow.narrowed(*_probe(Causal(causal, mixed), tokens(20, 3, 10)))
    assert (() if found is None else found.cut.sizes) == sizes


def test_a_row_of_the_part_is_a_row_of_all() -> None:
    torch.manual_seed(0)
    probe, mask = _probe(Causal(), tokens(20, 3, 10))
    part = narrow.narrowed(probe, mask)
    assert part is not None
    assert int(part.region.sum()) == int(part.inside.sum()) == 4 * 20
    u = cotangent(part.mask, torch.Generator().manual_seed(1))
    factors = torch.ones(len(probe.tensors), requires_grad=True)
    whole = factor_rows(probe.outputs(list(factors.unbind())), factors, [part.widened(u)])
    with probe.on(map_tensors(probe.given, part.cut.of)):
        own = factor_rows(probe.outputs(list(factors.unbind())), factors, [u])
    torch.testing.assert_close(own, whole, rtol=1e-3, atol=1e-4 * float(whole.abs().max()))


def test_batches_that_a_norm_mixes_are_not_cut() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    assert narrow.narrowed(*_probe(net, normal(12, 6))) is None


def test_the_answer_is_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model, ids = Causal(), tokens(20, 3, 10)
    taken: list[object] = []

    def noted(*args: Probe | Tensor) -> narrow.Narrowed | None:
        taken.append(narrow.narrowed(*args))  # type: ignore[arg-type]
        return taken[-1]  # type: ignore[return-value]

    monkeypatch.setattr(search, "narrowed", noted)
    with_part = find_symmetries(model, ids, precision="single", defect=False)
    assert taken[0] is not None
    monkeypatch.setattr(search, "narrowed", lambda *args: None)
    without = find_symmetries(model, ids, precision="single", defect=False)
    double = find_symmetries(model, ids, precision="double", defect=False)
    assert with_part.evidence["dtype"] == "float32, tested in float64"
    for key in ("single", "joint", "rescaling", "dead", "fixed", "verdict"):
        assert getattr(with_part, key) == getattr(without, key) == getattr(double, key), key
    assert len(with_part.joint) == 1
    assert len(with_part.rescaling) == 3 * 3


def test_cotangents_of_many_outputs_have_full_rank() -> None:
    """A product of two random vectors sees every direction, as a Gaussian one does."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(200_000, dtype=torch.float64)
    mask[::7] = 0
    us = torch.stack([cotangent(mask, generator) for _ in range(12)])
    assert float(us[:, ::7].abs().max()) == 0.0
    columns = torch.randn(200_000, 8, generator=generator, dtype=torch.float64)
    columns[:, 7] = columns[:, :3].sum(1)  # rank 7
    singular = torch.linalg.svdvals(us @ columns)
    assert int((singular > 1e-10 * singular[0]).sum()) == 7
