"""Steps of fixed size, trained radii and gains: against the formulas, and against autograd through the same form."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.sphere import table
from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv import Sphere, StateError, UserError, geometry

pytestmark = pytest.mark.numerics


def parameter(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype))


def noise(w: Tensor, seed: int) -> Tensor:
    return torch.randn(w.shape, generator=torch.Generator().manual_seed(1000 + seed), dtype=w.dtype)


class Homemade(Optimizer):
    """An optimizer that the package does not know; its update depends on the weights."""

    def __init__(self, params: Any, lr: float = 1.0) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                p.data.sub_(group["lr"] * (p.grad * (1 + p.data.norm()) + 0.1 * p.data.roll(1)))


FACTORIES = {
    **{name: make for name, (_, make) in table.OPTIMIZERS.items()},
    "muon": lambda p: torch.optim.Muon(p, lr=1.0, weight_decay=0.0),
    "homemade": Homemade,
}


@pytest.mark.parametrize("elr", [1e-4, 0.05, 1.0, 3.0])
@pytest.mark.parametrize("granularity", ["tensor", "row", "column"])
@pytest.mark.parametrize("name", FACTORIES)
def test_the_angle_is_the_elr(name: str, granularity: str, elr: float) -> None:
    if name == "muon" and granularity != "tensor":
        pytest.skip("refused")
    w = parameter(6, 5)
    start = w.detach().clone()
    sphere = Sphere(FACTORIES[name]([w]), [w], elr, granularity=granularity, normalise_update=True)
    assert torch.equal(w.detach(), start)  # pieces keep their norms
    for k in range(4):
        before = w.detach().clone()
        w.grad = noise(w, k) * 10.0 ** (k - 8)  # its size does not matter
        sphere.step()
        for old, new in zip(pieces(before, granularity), pieces(w.detach(), granularity)):
            # an unknown optimizer's update is a difference, of weights in float64
            near = 1e-4 if name == "homemade" else 1e-10
            assert float(geometry.angle([old], [new])) == pytest.approx(elr, rel=near)
            assert float(new.norm()) == pytest.approx(float(old.norm()), rel=1e-14)


def pieces(w: Tensor, granularity: str) -> list[Tensor]:
    return [w] if granularity == "tensor" else list(w if granularity == "row" else w.T)


@pytest.mark.parametrize("name", ["momentum", "adam", "muon"])
def test_the_published_form(name: str) -> None:
    w, other = parameter(6, 5), parameter(6, 5)
    sphere = Sphere(FACTORIES[name]([w]), [w], 0.05, normalise_update="published", granularity="tensor")
    radius = other.detach().norm()
    shadow = nn.Parameter(torch.zeros_like(other))
    bare = FACTORIES[name]([shadow])
    for k in range(5):
        w.grad = noise(w, k)
        shadow.grad = noise(w, k)
        sphere.step()
        with torch.no_grad():
            shadow.zero_()
            bare.step()
            update = -shadow
            x = other - 0.05 * radius * update / update.norm()
            x *= radius / x.norm()
            if name == "momentum":  # averaged gradients are carried along, which the papers' own forms leave out
                b = bare.state[shadow]["momentum_buffer"]
                size = b.norm()
                b.sub_((b * x).sum() / x.square().sum() * x)
                b.mul_(size / b.norm())
            other.copy_(x)
        torch.testing.assert_close(w.detach(), other.detach(), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("how", [True, "published"])
@pytest.mark.parametrize("granularity", ["tensor", "row"])
def test_an_update_of_zero_turns_nothing(how: Any, granularity: str) -> None:
    w = parameter(6, 5)
    sphere = Sphere(torch.optim.SGD([w], lr=1.0), [w], 0.1, normalise_update=how, granularity=granularity)
    w.grad = noise(w, 1)
    w.grad[:3] = 0
    kept = w.detach().clone()
    sphere.step()
    if granularity == "row":
        torch.testing.assert_close(w.detach()[:3], kept[:3], rtol=1e-15, atol=0)
    assert not torch.allclose(w.detach()[3:], kept[3:])
    w.grad = torch.zeros_like(w)
    kept = w.detach().clone()
    sphere.step()
    torch.testing.assert_close(w.detach(), kept, rtol=1e-15, atol=0)
    w.grad = -w.detach().clone()  # all radial
    sphere.step()
    if how is True:
        torch.testing.assert_close(w.detach(), kept, rtol=1e-14, atol=0)


def test_other_weights_are_stepped_as_ever_and_the_schedule_acts_at_once() -> None:
    w, free = parameter(6, 5), parameter(3, seed=1)
    sphere = Sphere(torch.optim.SGD([w, free], lr=0.5), [w], 0.1, normalise_update=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(sphere, [lambda t: 0.5**t, lambda t: 1.0])
    for k in range(3):
        before, kept = w.detach().clone(), free.detach().clone()
        w.grad, free.grad = noise(w, k), noise(free, k)
        sphere.step()
        schedule.step()
        assert float(geometry.angle([before], [w.detach()])) == pytest.approx(0.1 * 0.5**k, rel=1e-10)
        torch.testing.assert_close(free.detach(), kept - 0.5 * free.grad)


def test_a_failed_step_leaves_the_weights() -> None:
    w = parameter(6, 5)
    for options in ({"normalise_update": True}, {"learn_radius": 1e-2}):
        v = nn.Parameter(w.detach().clone())

        class Broken(torch.optim.SGD):
            def step(self, closure: Any = None) -> Any:
                raise RuntimeError("out of memory")

        sphere = Sphere(Broken([v], lr=1.0), [v], 0.1, granularity="row", **options)
        v.grad = noise(v, 0)
        kept = v.grad.clone()
        with pytest.raises(RuntimeError, match="out of memory"):
            sphere.step()
        assert torch.equal(v, w)
        assert torch.equal(v.grad, kept)


@pytest.mark.parametrize("granularity", ["tensor", "row", "column"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_learned_radii_are_those_of_autograd(name: str, granularity: str) -> None:
    """Against x = exp(s) u/|u| with u on the unit sphere and s trained by the same optimizer."""
    w = parameter(6, 5)
    dims = {"tensor": (0, 1), "row": (1,), "column": (0,)}[granularity]
    norms = w.detach().norm(dim=dims, keepdim=True)
    u, s = nn.Parameter(w.detach() / norms), nn.Parameter(norms.log())
    law, make = table.OPTIMIZERS[name]
    sphere = Sphere(make([w]), [w], 1e-2, granularity=granularity, learn_radius=0.05)
    bare = make([{"params": [u], "lr": 1e-2}, {"params": [s], "lr": 0.05}])
    x = parameter(7, 5, seed=5).detach()

    def loss(weight: Tensor) -> Tensor:
        return torch.tanh(x @ weight.T).square().mean() + 0.1 * weight.sum()

    for _ in range(6):
        sphere.zero_grad()
        bare.zero_grad()
        loss(w).backward()
        loss(s.exp() * u / u.norm(dim=dims, keepdim=True)).backward()
        gradient = w.grad.clone()
        if True:  # of a parametrised direction autograd gives the tangent part alone, of the plain one all of it
            inside = (gradient * u).sum(dim=dims, keepdim=True)
            u.grad = s.exp().detach() * gradient
        torch.testing.assert_close(s.grad, s.exp().detach() * inside)
        sphere.step()
        with torch.no_grad():
            bare.step()
            u.mul_(1 / u.norm(dim=dims, keepdim=True))
            if law == "sgd" and name == "momentum":
                b = bare.state[u]["momentum_buffer"]
                size = b.norm(dim=dims, keepdim=True)
                b.sub_((b * u).sum(dim=dims, keepdim=True) * u)
                b.mul_(size / b.norm(dim=dims, keepdim=True))
        assert torch.equal(w.grad, gradient)
        torch.testing.assert_close(w.detach(), (s.exp() * u).detach(), rtol=1e-11, atol=1e-12)
    assert float((s.detach() - norms.log()).abs().max()) > 1e-3
    torch.testing.assert_close(sphere.learned.values()[0].flatten(), s.detach().exp().flatten())  # type: ignore[union-attr]
    assert sphere.param_groups[-1]["lr"] == 0.05  # a rate of its own, to be scheduled


def test_a_radius_beyond_the_numbers_is_taken_back() -> None:
    w = parameter(4, 3, dtype=torch.float32)
    sphere = Sphere(torch.optim.SGD([w], lr=1.0), [w], 1e-2, granularity="row", learn_radius=1e4)
    kept = w.detach().clone()
    for sign in (-1, 1):  # to infinity, to zero
        w.grad = sign * 100 * w.detach()
        with pytest.raises(StateError, match="a trained radius to zero or beyond the numbers"):
            sphere.step()
        assert torch.equal(w, kept)
        torch.testing.assert_close(sphere.radius_of(0), kept.norm(dim=1))


def test_gains_beside_a_direction_have_rates_of_their_own() -> None:
    """torch's weight_norm: the direction on spheres row by row, the gains at a plain rate."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.utils.parametrizations.weight_norm(nn.Linear(5, 4, bias=False))
    gains, direction = layer.parametrizations.weight.original0, layer.parametrizations.weight.original1
    optimizer = torch.optim.SGD([{"params": [direction]}, {"params": [gains], "lr": 0.3}], lr=1.0)
    sphere = Sphere(optimizer, {"direction": [direction]}, 1e-2, granularity="row")
    kept = gains.detach().clone()
    layer(torch.ones(2, 5)).square().sum().backward()
    sphere.step()
    torch.testing.assert_close(gains.detach(), kept - 0.3 * gains.grad)
    np.testing.assert_allclose(direction.detach().norm(dim=1), sphere.units[0].radius, rtol=1e-6)


def test_what_makes_no_sense_is_refused() -> None:
    w = parameter(4, 3)
    for match, options in (
        ("normalise_update='yes'", {"normalise_update": "yes"}),
        ("learn_radius -1", {"learn_radius": -1.0}),
        ("learn_radius fast", {"learn_radius": "fast"}),
        ("learn_radius nan", {"learn_radius": math.nan}),
        ("goes with neither", {"normalise_update": True, "projection": "folded"}),
        ("goes with neither", {"learn_radius": 0.1, "projection": "folded"}),
    ):
        with pytest.raises(UserError, match=match):
            Sphere(torch.optim.SGD([w], lr=1.0), [w], 0.1, **options)
    with pytest.raises(UserError, match="no matrices"):
        Sphere(torch.optim.Muon([w], lr=1.0, weight_decay=0.0), [w], 0.1, learn_radius=0.1)


@pytest.mark.parametrize("options", [{"normalise_update": True}, {"learn_radius": 0.05}], ids=["hyperball", "learned"])
@pytest.mark.parametrize("name", ["momentum", "adam", "homemade"])
def test_states_resume_bit_for_bit(name: str, options: dict[str, Any]) -> None:
    if name == "homemade" and "learn_radius" in options:
        pytest.skip("its law is not known")
    w, again = parameter(6, 5), parameter(6, 5, seed=4)
    sphere = Sphere(FACTORIES[name]([w]), [w], 0.05, granularity="row", **options)
    resumed = Sphere(FACTORIES[name]([again]), [again], 0.05, granularity="row", **options)
    for k in range(3):
        w.grad = noise(w, k)
        sphere.step()
    with torch.no_grad():
        again.copy_(w)
    resumed.load_state_dict(copy.deepcopy(sphere.state_dict()))  # torch's optimizers share what they load
    for k in range(3, 6):
        for p, one in ((w, sphere), (again, resumed)):
            p.grad = noise(p, k)
            one.step()
    assert torch.equal(w, again)
