"""Rows, columns, blocks, experts, parts of tensors: what a cut is, what the doctor's claims allow, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaleinv import Sphere, UserError, find_symmetries
from scaleinv.sphere import Cut

pytestmark = pytest.mark.numerics


def parameter(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))


def sgd(*params: Tensor, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(params, lr=0.1, **options)


def random_steps(sphere: Sphere, weight: nn.Parameter, steps: int = 4) -> None:
    for k in range(steps):
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(50 + k), dtype=weight.dtype)
        sphere.step()


@pytest.mark.parametrize(
    ("shape", "cut", "norms"),
    [
        ((3, 8, 6), Cut(dim=None, leading=1), lambda w: w.norm(dim=(1, 2))),  # experts
        ((3, 8, 6), Cut(leading=1), lambda w: w.norm(dim=2)),  # their rows
        ((3, 8, 6), Cut(dim=1, leading=1), lambda w: w.norm(dim=1)),  # their columns
        ((3, 8, 6), Cut(split=2, leading=1), lambda w: w.reshape(3, 2, 4, 6).norm(dim=(2, 3))),  # their halves
        ((12, 5), Cut(split=3), lambda w: w.reshape(3, 4, 5).norm(dim=(1, 2))),  # a fused qkv
        ((5, 12), Cut(dim=1, split=4), lambda w: w.reshape(5, 4, 3).norm(dim=(0, 2))),  # heads of an output projection
        ((4, 3, 5, 5), Cut(dim=1), lambda w: w.square().sum((0, 2, 3)).sqrt()),  # input channels of a convolution
    ],
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_piece_keeps_its_norm(
    shape: tuple[int, ...], cut: Cut, norms: Callable[[Tensor], Tensor], momentum: float
) -> None:
    w = parameter(*shape)
    whole = float(w.detach().norm())
    sphere = Sphere(sgd(w, momentum=momentum), [w], 1e-2, granularity=cut)
    start = w.detach().clone()
    random_steps(sphere, w)
    found = norms(w.detach()).flatten()
    assert tuple(cut.pieces(shape)) == tuple(norms(start).shape)
    np.testing.assert_allclose(found, whole / len(found) ** 0.5, rtol=1e-14)
    assert float((w.detach() - start).norm()) > 0.1
    if momentum:
        buffer = sphere.optimizer.state[w]["momentum_buffer"]
        assert float(sphere._rulers[0].dot([buffer], [w.detach()]).abs().max()) < 1e-12


class Function(nn.Module):
    """A network out of a function."""

    def __init__(self, f: Callable[[Any, Tensor], Tensor], **parts: Any) -> None:
        super().__init__()
        self.f = f
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x: Tensor) -> Tensor:
        return self.f(self, x)


def dictionary() -> tuple[nn.Module, Tensor]:
    """A sparse autoencoder's decoder, normalised by columns."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Function(
            lambda s, x: torch.relu(s.enc(x)) @ F.normalize(s.dec, dim=0).t(),
            enc=nn.Linear(6, 12),
            dec=nn.Parameter(torch.randn(6, 12)),
        )
        return model, torch.randn(40, 6)


def fused() -> tuple[nn.Module, Tensor]:
    """A fused qkv with a norm of every head's query and key: of the 24 rows the first 16 are free, in blocks of 4."""

    def forward(s: Any, x: Tensor) -> Tensor:
        q, k, v = s.qkv(x).unflatten(-1, (3, 2, 4)).unbind(-3)
        q, k = F.rms_norm(q, (4,)), F.rms_norm(k, (4,))
        scores = torch.einsum("nhd,mhd->hnm", q, k).softmax(-1)
        return s.head(torch.einsum("hnm,mhd->nhd", scores, v).flatten(1))

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Function(forward, qkv=nn.Linear(6, 24, bias=False), head=nn.Linear(8, 3)), torch.randn(10, 6)


@pytest.mark.parametrize("through", ["the model's own tensors", "parameters()"])
def test_rows_are_refused_where_columns_were_found(through: str) -> None:
    model, x = dictionary()
    found = find_symmetries(model, x)
    groups = found.parameters(model) if through == "parameters()" else {"dec": [model.dec]}
    before, kept = model(x).detach(), model.dec.detach().clone()
    optimizer = sgd(model.dec)
    for granularity in ("row", "block"):
        split = 3 if granularity == "block" else None
        with pytest.raises(UserError, match=r"each column .dimension 1. of 'dec' .* use granularity 'column'") as error:
            Sphere(optimizer, groups, 1e-3, granularity=granularity, split=split)
        assert "\n" not in str(error.value)
        assert torch.equal(model.dec, kept)
    Sphere(optimizer, groups, 1e-3, granularity="column")
    assert float((model(x) - before).detach().norm() / before.norm()) < 1e-6
    # who wants the rows fixed all the same, says so
    other, _ = dictionary()
    find_symmetries(other, x)
    Sphere(sgd(other.dec), [other.dec], 1e-3, granularity="row", claimed=False)
    np.testing.assert_allclose(other.dec.detach().norm(dim=1), float(kept.norm()) / 6**0.5, rtol=1e-6)


def test_columns_are_refused_where_rows_or_nothing_was_found() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8, bias=False),
                            nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))  # fmt: skip
    find_symmetries(net, torch.randn(20, 5, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(UserError, match=r"each row .dimension 0. of '0\.weight'.*use granularity 'row'"):
        Sphere(sgd(net[0].weight), [net[0].weight], 1e-3, granularity="column")
    Sphere(sgd(net[0].weight), [net[0].weight], 1e-3, granularity=Cut(split=4))  # unions of free rows
    with pytest.raises(UserError, match=r"the whole tensor of '3\.weight'.*use granularity 'tensor'"):
        Sphere(sgd(net[3].weight), [net[3].weight], 1e-3, granularity="row")
    with pytest.raises(UserError, match=r"nothing of '6\.weight'"):
        Sphere(sgd(net[6].weight), [net[6].weight], 1e-3, granularity="row")
    # a step of fixed size leaves the pieces at norms of their own, so that the network stays as it is
    Sphere(sgd(net[6].weight), [net[6].weight], 1e-3, granularity="row", normalise_update=True)


def test_the_blocks_that_the_doctor_names_are_a_cut() -> None:
    model, x = fused()
    part = find_symmetries(model, x).partial[0]
    assert (part.name, part.dim) == ("qkv.weight", 0)
    w = model.qkv.weight
    with pytest.raises(UserError, match=r"the blocks 0:4, .*use granularity Cut\(dim=0, ranges=...\) with them"):
        Sphere(sgd(w), [w], 1e-3, granularity="block", split=3)
    with pytest.raises(UserError, match="the blocks"):
        Sphere(sgd(w), [w], 1e-3, granularity=Cut(ranges=((0, 4), (4, 20))))
    before, values = model(x).detach(), w.detach()[16:].clone()
    sphere = Sphere(sgd(w), [w], 1e-3, granularity=Cut(dim=part.dim, ranges=part.blocks))
    assert float((model(x) - before).detach().norm() / before.norm()) < 1e-6
    assert torch.equal(w.detach()[16:], values)
    norms = w.detach()[:16].reshape(4, -1).norm(dim=1)
    w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(3))
    wanted = values - 0.1 * w.grad[16:]  # the free part is trained at the lr of its tensor
    sphere.step()
    torch.testing.assert_close(w.detach()[16:], wanted)
    torch.testing.assert_close(w.detach()[:16].reshape(4, -1).norm(dim=1), norms)
    sphere.param_groups[0]["rest_lr"] = 0.0
    kept = w.detach()[16:].clone()
    sphere.step()
    torch.testing.assert_close(w.detach()[16:], kept, rtol=1e-6, atol=1e-7)


def refusals() -> dict[str, tuple[str, dict[str, Any]]]:
    return {
        "no split": ("needs split=", {"granularity": "block"}),
        "split that does not divide": ("do not divide into 5 equal blocks", {"granularity": "block", "split": 5}),
        "split 0": ("needs split=", {"granularity": "block", "split": 0}),
        "split of rows": ("is for granularity 'block'", {"granularity": "row", "split": 2}),
        "columns of three": ("shape", {"granularity": Cut(dim=2)}),
        "no word": ("is no name and no Cut", {"granularity": None}),
        "a text": ("are whole numbers", {"granularity": Cut(split="2")}),  # type: ignore[arg-type]
        "negative": ("count from 0", {"granularity": Cut(dim=-1)}),
        "both": ("give one of the two", {"granularity": Cut(split=2, ranges=((0, 2),))}),
        "overlap": ("ascending order", {"granularity": Cut(ranges=((0, 3), (2, 4)))}),
        "outside": ("ascending order", {"granularity": Cut(ranges=((0, 9),))}),
        "unknown": ("choose one of: total, group, tensor, row, column, block", {"granularity": "filter"}),
        "mapping without a group": ("does not name group 'w'", {"granularity": {}}),
        "mapping with another": ("names 'x', which is no group", {"granularity": {"w": "row", "x": "row"}}),
        "total in a mapping": ("one sphere for all", {"granularity": {"w": "total"}}),
        "split of another": ("split names 'x'", {"granularity": "block", "split": {"x": 2}}),
        "radius of another": ("radius names 'x'", {"radius": {"x": 2.0}}),
    }


@pytest.mark.parametrize("case", refusals())
def test_cuts_that_do_not_fit_are_refused_in_one_line(case: str) -> None:
    match, options = refusals()[case]
    w = parameter(4, 6)
    kept, optimizer = w.detach().clone(), sgd(w)
    with pytest.raises(UserError, match=match) as error:
        Sphere(optimizer, {"w": [w]}, 1e-3, **options)
    assert "\n" not in str(error.value)
    assert torch.equal(w, kept)
    assert len(optimizer.param_groups) == 1


def test_two_spheres_for_one_tensor_are_refused() -> None:
    w = parameter(4, 6)
    optimizer = sgd(w)
    with pytest.raises(UserError, match="stands in two groups"):
        Sphere(optimizer, {"a": [w], "b": [w]}, 1e-3)
    view = nn.Parameter(w.detach()[:2])
    with pytest.raises(UserError, match="views of the same memory"):
        Sphere(sgd(w, view), {"a": [w], "b": [view]}, 1e-3)
    halves = [nn.Parameter(w.detach()[:2]), nn.Parameter(w.detach()[2:])]
    Sphere(sgd(*halves), halves, 1e-3)  # one memory, no number twice
    first = Sphere(optimizer, [w], 1e-3)
    with pytest.raises(UserError, match="wrapped by a Sphere already; pass all groups to one Sphere"):
        Sphere(optimizer, [w], 1e-3)
    second = Sphere(sgd(w), [w], 1e-3)
    w.grad = torch.ones_like(w)
    kept = w.detach().clone()
    with pytest.raises(UserError, match="lies on two spheres"):
        first.step()
    assert torch.equal(w, kept)
    second.step()
