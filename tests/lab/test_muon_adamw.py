"""Muon for matrices and AdamW for the rest, as one optimizer: the same numbers as torch's two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import scaleinv as si
from scaleinv.lab.muon import MuonAdamW
from scaleinv.lab.optimizers import named_optimizer
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of

pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
SHAPES = ((6, 4), (5, 3, 2, 2), (5,), (4, 6))


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]


def grad(params: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.randn(*p.shape, generator=generator)


def both(params: list[nn.Parameter]) -> MuonAdamW:
    groups = [{"params": params[:3], "use_muon": True, "weight_decay": 0.1}, {"params": params[3:], "lr": 0.003}]
    return MuonAdamW(groups, lr=0.01)


def test_it_does_what_the_two_do() -> None:
    ours, theirs = weights(), weights()
    flat = nn.Parameter(theirs[1].detach().flatten(1).clone())
    optimizer = both(ours)
    muon = torch.optim.Muon([theirs[0], flat], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [{"params": [theirs[2]], "weight_decay": 0.1}, {"params": [theirs[3]], "lr": 0.003, "weight_decay": 0.0}],
        lr=0.01,
    )
    for step in range(5):
        grad(ours, step)
        grad(theirs, step)
        assert theirs[1].grad is not None
        flat.grad = theirs[1].grad.flatten(1)
        for one in (optimizer, muon, adamw):
            one.step()
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1].flatten(1), flat)
    assert torch.equal(ours[2], theirs[2])
    assert torch.equal(ours[3], theirs[3])


def test_its_state_goes_on_bit_for_bit() -> None:
    straight, stopped = weights(), weights()
    first, before = both(straight), both(stopped)
    for step in range(6):
        grad(straight, step)
        first.step()
    for step in range(3):
        grad(stopped, step)
        before.step()
    after = both(stopped)
    after.load_state_dict(before.state_dict())
    for step in range(3, 6):
        grad(stopped, step)
        after.step()
    for a, b in zip(straight, stopped):
        assert torch.equal(a, b)
    assert after.state[stopped[1]]["momentum_buffer"].shape == stopped[1].shape


def test_channels_last_filters_are_trained_alike() -> None:
    plain, last = weights()[1], weights()[1]
    last.data = last.data.to(memory_format=torch.channels_last)
    one, other = (MuonAdamW([{"params": [p], "use_muon": True}], lr=0.01) for p in (plain, last))
    for step in range(3):
        for p, optimizer in ((plain, one), (last, other)):
            p.grad = torch.randn(*p.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    assert torch.equal(plain, last)


def test_a_rate_and_a_closure_reach_both() -> None:
    params = weights()
    optimizer = both(params)
    grad(params, 0)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = [p.detach().clone() for p in params]
    assert optimizer.step(lambda: 3.5) == 3.5
    assert all(torch.equal(p, b) for p, b in zip(params, before))


def test_its_groups_have_traits_of_their_own() -> None:
    optimizer = both(weights())
    assert traits_of(optimizer).law == "normalised"
    assert [traits_of(optimizer, group).matrix_wise for group in optimizer.param_groups] == [True, False]
    with pytest.raises(si.UserError, match="row"):
        Sphere(optimizer, [optimizer.param_groups[0]["params"][0]], 0.1, granularity="row")


def test_it_is_a_setting_of_the_lab(tmp_path: Path) -> None:
    assert named_optimizer(MuonAdamW) == ("MuonAdamW", {})
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(96, 12, generator=generator), torch.arange(96) % 3
    problem = si.classification(net, train=(images, labels))
    options = {"epochs": 3, "workers": 1, "quiet": True, "device": "cpu", "optimizer": "MuonAdamW", "other_lr": 0.01}
    sweep = si.sweep(problem, elr="0.01,0.1", out=tmp_path / "a", **options)
    again = si.sweep(problem, elr="0.01,0.1", out=tmp_path / "b", **options)
    for one, other in zip(sweep.runs, again.runs):
        assert one.config["optimizer"] == "MuonAdamW"
        loss = one.series("online", "total", "loss")[1]
        assert loss.tolist() == other.series("online", "total", "loss")[1].tolist()
        # Muon turns every matrix by the same angle for one ELR: 0.2 sqrt(max(A, B)) sqrt(min(A, B)) of each rate
        rho = one.series("online", "total", "rho")[1]
        assert rho == pytest.approx(rho[0], rel=1e-5)
    first, second = (run.series("online", "total", "ess")[1] for run in sweep.runs)
    assert (second > first).all()


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
