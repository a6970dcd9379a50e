"""From standard to scale-invariant."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from tests import cases
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.errors import UserError
from scaleinv.lab.models import build_model
from scaleinv.symmetry import find_symmetries, make_scale_invariant


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet18"])
def test_standard_becomes_si_exactly(name: str) -> None:
    shape = (3, 8, 8)
    si, standard = (
        build_model(name, classes=10, variant=v, in_shape=shape, width=4, generator=torch.Generator().manual_seed(5))
        for v in ("si", "standard")
    )
    before = {k: v.clone() for k, v in standard.state_dict().items()}
    x = cases.normal(16, *shape)
    got = make_scale_invariant(standard, x)
    assert got.conversion.complete
    assert list(got.state_dict()) == list(si.state_dict())
    assert all(torch.equal(v, got.state_dict()[k]) for k, v in si.state_dict().items())
    assert [p.requires_grad for p in got.parameters()] == [p.requires_grad for p in si.parameters()]
    assert torch.equal(got(x), si(x))
    assert all(torch.equal(v, before[k]) for k, v in standard.state_dict().items())
    assert got.conversion.found.groups == find_symmetries(si, x, defect=False).groups


class _PlainBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(inputs), nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(outputs), nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        active = functional.relu(self.bn1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        return self.conv2(functional.relu(self.bn2(self.conv1(active)))) + skip


class _PlainResNet(nn.Module):
    """Pre-activation without the extra norms: nothing reads the last stream but the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(_PlainBlock(4, 4), _PlainBlock(4, 6), _PlainBlock(6, 6))
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


LAST = {"blocks.1.shortcut.weight", "blocks.1.conv2.weight", "blocks.2.conv2.weight"}


def test_a_plain_preactivation_resnet_says_what_it_lacks() -> None:
    torch.manual_seed(0)
    got = make_scale_invariant(_PlainResNet(), cases.normal(8, 3, 8, 8)).conversion
    assert not got.complete
    assert set(got.kept) == LAST
    assert not got.inserted
    assert "keeps a scale" in str(got)
    assert "insert_norms=True looks for norms that take these scales away" in str(got)


def test_no_norm_is_looked_for_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """One search; the answer about the result is that of a search of its own."""
    searches = []

    def counted(*args: object, **kwargs: object) -> object:
        searches.append(1)
        return find_symmetries(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setitem(make_scale_invariant.__globals__, "find_symmetries", counted)
    torch.manual_seed(0)
    x = cases.normal(8, 3, 8, 8)
    for net in (
        _PlainResNet(),
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)),
    ):
        searches.clear()
        got = make_scale_invariant(net, x)
        assert len(searches) == 1
        again = find_symmetries(got, x, defect=False)
        said = got.conversion.found
        for key in ("single", "joint", "rescaling", "dead", "fixed", "frozen", "shapes"):
            assert getattr(said, key) == getattr(again, key), key
        assert said.norms == pytest.approx(again.norms)


def test_insert_norms_puts_one_norm_behind_the_last_stream() -> None:
    torch.manual_seed(0)
    plain, x = _PlainResNet(), cases.normal(8, 3, 8, 8)
    got = make_scale_invariant(plain, x, insert_norms=True)
    assert got.conversion.complete
    assert got.conversion.inserted == (("blocks.2", "BatchNorm2d(6) without affine parameters"),)
    assert frozenset(LAST) in {frozenset(g) for g in got.conversion.found.joint}
    kept = {k for k in plain.state_dict() if "bn" not in k}
    assert kept <= set(got.state_dict())
    again = pickle.loads(pickle.dumps(copy.deepcopy(got)))
    assert torch.equal(again(x), got(x))
    assert find_symmetries(again, x, defect=False).joint == got.conversion.found.joint


@pytest.mark.numerics
def test_dead_biases_are_removed_and_a_post_activation_resnet_is_complete() -> None:
    torch.manual_seed(0)
    got = make_scale_invariant(cases.PostResNet(), cases.normal(6, 3, 8, 8), 3.0)
    assert got.conversion.complete
    assert got.fc.weight.norm() == pytest.approx(3.0, rel=1e-6)
    got = make_scale_invariant(cases.bn_mlp(), cases.normal(10, 6))
    assert set(got.conversion.biases_removed) == {"0.bias", "3.bias"}
    assert got[0].bias is None


def test_a_net_without_norms_keeps_its_scales_and_says_why() -> None:
    torch.manual_seed(0)
    got = make_scale_invariant(cases.no_symmetry(), cases.normal(10, 6)).conversion
    assert set(got.kept) == {"0.weight", "0.bias"}
    assert "no norm removes its scale" in got.kept["0.weight"]


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_head_norm_is_positive(norm: float) -> None:
    with pytest.raises(UserError, match="not a positive number"):
        make_scale_invariant(cases.bn_mlp(), cases.normal(10, 6), norm)
