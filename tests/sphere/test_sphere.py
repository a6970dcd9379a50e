"""Training on the sphere: one table of optimizers crossed with properties, and all that surrounds a step."""

from __future__ import annotations

import copy
import io
import itertools
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import Optimizer, lr_scheduler

from scaleinv import geometry
from scaleinv.errors import StateError, UserError
from scaleinv.sphere import Sphere
from scaleinv.sphere.traits import traits_of

pytestmark = pytest.mark.numerics

#: without further arguments; columns, blocks and other cuts: test_cuts.py
GRANULARITIES = ("total", "group", "tensor", "row")
EPS = 1e-30  # of the norm layers: scale-invariant to the last digit
WIDTH, CLASSES, BATCH = 6, 4, 12


def norm_layer(x: Tensor) -> Tensor:
    """Batch norm without parameters."""
    centred = x - x.mean(0)
    return centred / (centred.square().mean(0) + EPS).sqrt()


class Net(nn.Module):
    """A residual MLP: ``inner`` is scale-invariant alone, ``stem`` and ``outer`` only together; frozen head."""

    def __init__(self, dtype: torch.dtype = torch.float64, seed: int = 0) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)

        def weight(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(shape, generator=g, dtype=torch.float64).to(dtype))

        self.stem, self.inner, self.outer = weight(WIDTH, 5), weight(WIDTH, WIDTH), weight(WIDTH, WIDTH)
        self.last = weight(WIDTH, WIDTH)
        self.register_buffer("head", 3 * torch.randn(CLASSES, WIDTH, generator=g, dtype=torch.float64).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        stream = x @ self.stem.T
        stream = stream + torch.relu(norm_layer(torch.relu(norm_layer(stream)) @ self.inner.T)) @ self.outer.T
        hidden = torch.relu(norm_layer(torch.relu(norm_layer(stream)) @ self.last.T))
        return hidden @ self.head.T

    def groups(self, granularity: str = "total") -> dict[str, list[nn.Parameter]]:
        if granularity in ("tensor", "row"):  # the joint group is left alone
            return {"inner": [self.inner], "last": [self.last]}
        return {"inner": [self.inner], "stream": [self.stem, self.outer], "last": [self.last]}

    def trained(self, granularity: str = "total") -> list[nn.Parameter]:
        return [p for tensors in self.groups(granularity).values() for p in tensors]


def data(dtype: torch.dtype = torch.float64, step: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1000 + step)
    return torch.randn(BATCH, 5, generator=g, dtype=torch.float64).to(dtype), torch.randint(
        CLASSES, (BATCH,), generator=g
    )


def loss_of(net: Callable[[Tensor], Tensor], step: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    x, y = data(dtype, step)
    return nn.functional.cross_entropy(net(x), y)


def train(net: Net, sphere: Optimizer, steps: Sequence[int], dtype: torch.dtype = torch.float64) -> list[float]:
    losses = []
    for step in steps:
        sphere.zero_grad()
        loss = loss_of(net, step, dtype)
        loss.backward()
        sphere.step()
        losses.append(loss.item())
    return losses


def flat(tensors: Sequence[Tensor]) -> np.ndarray:
    return np.concatenate([t.detach().double().numpy().ravel() for t in tensors])


Factory = Callable[[Any], Optimizer]
TINY = 1e-60  # eps of the optimizers: the update does not know the gradient's scale
#: every optimizer the law is known for, each with its momentum settings
OPTIMIZERS: dict[str, tuple[str, Factory]] = {
    "sgd": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0)),
    "sgdm": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9)),
    "sgdm-damped": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.8, dampening=0.5)),
    "nesterov": ("sgd", lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9, nesterov=True)),
    "adam": ("normalised", lambda p: torch.optim.Adam(p, lr=1.0, eps=TINY)),
    "amsgrad": ("normalised", lambda p: torch.optim.Adam(p, lr=1.0, eps=TINY, amsgrad=True)),
    "adamw": ("normalised", lambda p: torch.optim.AdamW(p, lr=1.0, eps=TINY, weight_decay=0.0)),
    "nadam": ("normalised", lambda p: torch.optim.NAdam(p, lr=1.0, eps=TINY)),
    "radam": ("normalised", lambda p: torch.optim.RAdam(p, lr=1.0, eps=TINY)),
    "adamax": ("normalised", lambda p: torch.optim.Adamax(p, lr=1.0, eps=TINY)),
    "rmsprop": ("normalised", lambda p: torch.optim.RMSprop(p, lr=1.0, eps=TINY)),
    "rmsprop-m": ("normalised", lambda p: torch.optim.RMSprop(p, lr=1.0, eps=TINY, momentum=0.9)),
    "adagrad": ("normalised", lambda p: torch.optim.Adagrad(p, lr=1.0, eps=TINY)),
}
if hasattr(torch.optim, "Muon"):
    OPTIMIZERS["muon"] = ("normalised", lambda p: torch.optim.Muon(p, lr=1.0, weight_decay=0.0))
CASES = [(name, kind) for name in OPTIMIZERS for kind in GRANULARITIES if (name, kind) != ("muon", "row")]
ELR = {"sgd": 3e-3, "normalised": 1e-3}


def build(name: str, granularity: str, net: Net, elr: Any = None, **options: Any) -> Sphere:
    law, factory = OPTIMIZERS[name]
    optimizer = factory(net.trained(granularity))
    return Sphere(
        optimizer, net.groups(granularity), ELR[law] if elr is None else elr, granularity=granularity, **options
    )


def sizes(sphere: Sphere) -> list[float]:
    """The norms that the sphere keeps: of every unit, of every row."""
    found: list[float] = []
    for unit in sphere.units:
        if sphere.granularity == "row":
            found += np.linalg.norm(unit.parameters[0].detach().double().numpy(), axis=1).tolist()
        else:
            found.append(float(np.linalg.norm(flat(unit.parameters))))
    return found


def radii(sphere: Sphere) -> list[float]:
    repeat = [len(u.parameters[0]) if sphere.granularity == "row" else 1 for u in sphere.units]
    return [u.radius for u, n in zip(sphere.units, repeat) for _ in range(n)]


# -- the table ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "granularity"), CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)], ids=["f32", "f64"])
def test_norms_return(name: str, granularity: str, dtype: torch.dtype, tolerance: float) -> None:
    net = Net(dtype)
    before = flat(net.trained(granularity))
    sphere = build(name, granularity, net)
    for step in range(6):
        train(net, sphere, [step], dtype)
        np.testing.assert_allclose(sizes(sphere), radii(sphere), rtol=tolerance)
    assert np.linalg.norm(flat(net.trained(granularity)) - before) > 1e-3  # it did move
    assert sphere.steps == 6


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_wrapping_does_not_change_the_function(name: str, granularity: str) -> None:
    net = Net()
    start = loss_of(net).item()
    kept = {n: p.detach().clone() for n, p in net.named_parameters()}
    sphere = build(name, granularity, net)
    assert loss_of(net).item() == pytest.approx(start, rel=1e-12)
    for key, parameter in net.named_parameters():
        if granularity == "row" and key in ("inner", "last"):
            assert float(parameter.detach().norm()) == pytest.approx(float(kept[key].norm()), rel=1e-14)
        else:
            assert torch.equal(parameter, kept[key])
    np.testing.assert_allclose(sizes(sphere), radii(sphere), rtol=1e-14)
    other = build(name, granularity, Net(), radius=2.5)
    assert {u.radius for u in other.units} == {2.5}
    np.testing.assert_allclose(sizes(other), 2.5, rtol=1e-14)


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_the_learning_rate_follows_the_law(name: str, granularity: str) -> None:
    law, factory = OPTIMIZERS[name]
    net = Net()
    assert traits_of(factory(net.trained(granularity))).law == law
    sphere = build(name, granularity, net, radius=3.0)
    train(net, sphere, [0])
    expected = ELR[law] * (9.0 if law == "sgd" else 3.0)
    assert [g["lr"] for g in sphere.optimizer.param_groups] == pytest.approx([expected] * len(sphere.units), rel=1e-15)
    assert sphere.elr == ELR[law]


@pytest.mark.parametrize(("name", "granularity"), [c for c in CASES if c[0] != "radam"])
def test_the_elr_alone_decides_the_path(name: str, granularity: str) -> None:
    """The same ELR on spheres of other radii: the same directions at every step. This is what the laws claim."""
    nets = [Net(), Net()]
    spheres = [build(name, granularity, net, radius=r) for net, r in zip(nets, (2.0, 8.0))]
    for step in range(8):
        losses = [train(net, sphere, [step])[0] for net, sphere in zip(nets, spheres)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    np.testing.assert_allclose(flat(nets[1].trained(granularity)), 4 * flat(nets[0].trained(granularity)), rtol=1e-8)


def test_radam_follows_the_law_only_once_rectified() -> None:
    """RAdam's first five updates are plain momentum, which grows with the gradient; the law holds from the sixth."""
    for scale, unrectified in ((1.0, True), (1e-3, True), (1.0, False), (1e-3, False)):
        weight = nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = torch.optim.RAdam([weight], lr=1.0, eps=TINY)
        for _ in range(5 if unrectified else 6):
            before = weight.detach().clone()
            weight.grad = torch.full((3,), scale, dtype=torch.float64)
            optimizer.step()
        moved = float((weight - before).detach().norm())
        assert (moved == pytest.approx(scale * math.sqrt(3), rel=1e-9)) is unrectified
        assert moved > 1e-2 or unrectified


def restore(blob: bytes, net: Net, sphere: Sphere) -> None:
    state = torch.load(io.BytesIO(blob), weights_only=True)
    net.load_state_dict(state["net"])
    sphere.load_state_dict(state["sphere"])


def saved(net: Net, sphere: Sphere) -> bytes:
    buffer = io.BytesIO()
    torch.save({"net": net.state_dict(), "sphere": sphere.state_dict()}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("name", "granularity"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_state_round_trips_bit_for_bit(name: str, granularity: str, dtype: torch.dtype) -> None:
    net = Net(dtype)
    sphere = build(name, granularity, net)
    train(net, sphere, range(3), dtype)
    blob = saved(net, sphere)
    losses = train(net, sphere, range(3, 7), dtype)

    again = Net(dtype, seed=5)  # another start: all that matters must come from the state
    resumed = build(name, granularity, again, elr=0.5)
    train(again, resumed, [9], dtype)
    restore(blob, again, resumed)
    assert resumed.steps == 3
    assert resumed.elr == ELR[sphere.law]
    assert [u.radius for u in resumed.units] == [u.radius for u in sphere.units]
    assert train(again, resumed, range(3, 7), dtype) == losses
    for a, b in zip(net.trained(granularity), again.trained(granularity)):
        assert torch.equal(a, b)


# -- an independent implementation -------------------------------------------------------------------------------------


def slow_sgd(
    net: Net, granularity: str, elr: float, steps: int, momentum: float, dampening: float, nesterov: bool
) -> tuple[list[float], list[np.ndarray], list[np.ndarray]]:
    """Projected SGD (Kodryan et al. 2022, eq. 6) with transported momentum, in numpy, one vector at a time."""
    net = copy.deepcopy(net)
    tensors = net.trained(granularity)
    shapes = [tuple(t.shape) for t in tensors]
    w = [t.detach().numpy().copy() for t in tensors]
    spheres: list[list[tuple[int, Any]]]  # every sphere as (tensor, rows) pieces
    if granularity == "total":
        spheres = [[(i, slice(None)) for i in range(len(w))]]
    elif granularity == "group":
        sizes_of_groups = [len(ts) for ts in net.groups().values()]
        starts = np.cumsum([0, *sizes_of_groups])
        spheres = [[(i, slice(None)) for i in range(a, b)] for a, b in itertools.pairwise(starts)]
    elif granularity == "tensor":
        spheres = [[(i, slice(None))] for i in range(len(w))]
    else:
        for i in range(len(w)):
            norms = np.sqrt((w[i] ** 2).sum(1))
            w[i] *= np.sqrt((norms**2).mean()) / norms[:, None]
        spheres = [[(i, slice(r, r + 1))] for i in range(len(w)) for r in range(shapes[i][0])]

    def piece(x: list[np.ndarray], sphere: list[tuple[int, Any]]) -> np.ndarray:
        return np.concatenate([x[i][rows].ravel() for i, rows in sphere])

    def put(x: list[np.ndarray], sphere: list[tuple[int, Any]], values: np.ndarray) -> None:
        for i, rows in sphere:
            n = x[i][rows].size
            x[i][rows] = values[:n].reshape(x[i][rows].shape)
            values = values[n:]

    rho = [float(np.sqrt((piece(w, s) ** 2).sum())) for s in spheres]
    buffer: list[np.ndarray] | None = None
    losses = []
    for step in range(steps):
        for t, values in zip(tensors, w):
            t.data = torch.from_numpy(values.copy())
        loss = loss_of(net, step)
        g = [t.numpy() for t in torch.autograd.grad(loss, tensors)]
        losses.append(loss.item())
        if momentum:
            buffer = (
                [gi.copy() for gi in g]
                if buffer is None
                else [momentum * b + (1 - dampening) * gi for b, gi in zip(buffer, g)]
            )
            direction = [gi + momentum * b for gi, b in zip(g, buffer)] if nesterov else buffer
        else:
            direction = g
        for sphere, r in zip(spheres, rho):
            x = piece(w, sphere) - elr * r**2 * piece(direction, sphere)
            x *= r / np.sqrt(x @ x)
            put(w, sphere, x)
        if buffer is not None:
            for sphere in spheres:
                x, b = piece(w, sphere), piece(buffer, sphere)
                projected = b - (b @ x) / (x @ x) * x
                put(buffer, sphere, projected * np.sqrt((b @ b) / (projected @ projected)))
    return losses, w, buffer or []


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize(
    ("momentum", "dampening", "nesterov"), [(0.0, 0.0, False), (0.9, 0.0, False), (0.8, 0.5, False), (0.9, 0.0, True)]
)
def test_equals_a_slow_implementation(granularity: str, momentum: float, dampening: float, nesterov: bool) -> None:
    net = Net()
    losses, weights, buffers = slow_sgd(net, granularity, 3e-3, 12, momentum, dampening, nesterov)
    optimizer = torch.optim.SGD(
        net.trained(granularity), lr=7.0, momentum=momentum, dampening=dampening, nesterov=nesterov
    )
    sphere = Sphere(optimizer, net.groups(granularity), 3e-3, granularity=granularity)
    np.testing.assert_allclose(train(net, sphere, range(12)), losses, rtol=1e-11)
    np.testing.assert_allclose(flat(net.trained(granularity)), np.concatenate([w.ravel() for w in weights]), atol=1e-11)
    if momentum:
        mine = [optimizer.state[p]["momentum_buffer"] for p in net.trained(granularity)]
        np.testing.assert_allclose(flat(mine), np.concatenate([b.ravel() for b in buffers]), atol=1e-11)


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if OPTIMIZERS[n][0] == "normalised"])
@pytest.mark.parametrize("granularity", ["total", "group"])
def test_equals_the_bare_optimizer_and_a_projection_by_hand(name: str, granularity: str) -> None:
    net, other = Net(), Net()
    sphere = build(name, granularity, net)
    units = [list(g) for g in other.groups().values()] if granularity == "group" else [other.trained()]
    rho = [np.linalg.norm(flat(u)) for u in units]
    bare = OPTIMIZERS[name][1]([{"params": u, "lr": 1e-3 * r} for u, r in zip(units, rho)])
    for step in range(8):
        a = train(net, sphere, [step])[0]
        b = train(other, bare, [step])[0]
        assert a == pytest.approx(b, rel=1e-10)
        with torch.no_grad():
            for unit, r in zip(units, rho):
                size = np.linalg.norm(flat(unit))
                for p in unit:
                    p.mul_(r / size)
                for key in ("exp_avg", "momentum_buffer") if sphere.law == "sgd" else ():
                    held = [bare.state[p][key] for p in unit if key in bare.state[p]]
                    if held:
                        x, v = flat(unit), flat(held)
                        c = (v @ x) / (x @ x)
                        stretch = np.linalg.norm(v) / np.linalg.norm(v - c * x)
                        for m, p in zip(held, unit):
                            m.sub_(c * p).mul_(stretch)


# -- identities (Kodryan et al. 2022, eqs. 7-9) ------------------------------------------------------------------------


def measured(net: Net, step: int, dtype: torch.dtype) -> tuple[list[float], list[float]]:
    """rho_i and the effective gradient norm of every group, in float64; leaves the gradients in place."""
    net.zero_grad()
    loss_of(net, step, dtype).backward()
    rho = [float(np.linalg.norm(flat(ts))) for ts in net.groups().values()]
    g = [float(np.linalg.norm(flat([t.grad for t in ts if t.grad is not None]))) for ts in net.groups().values()]
    return rho, [r * gi for r, gi in zip(rho, g)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["f64", "f32"])
@pytest.mark.parametrize("elr", [1e-3, 3e-2])
def test_identities_hold_step_by_step_on_the_sphere(dtype: torch.dtype, tolerance: float, elr: float) -> None:
    net = Net(dtype)
    sphere = Sphere(torch.optim.SGD(net.trained(), lr=1.0), net.groups(), elr)
    biggest = 0.0
    for step in range(15):
        before = [p.detach().clone() for p in net.trained()]
        rho, eg = measured(net, step, dtype)
        whole = float(np.linalg.norm(flat([p.grad for p in net.trained() if p.grad is not None])) * np.linalg.norm(rho))
        elrs = [elr * sum(r * r for r in rho) / r**2 for r in rho]
        ess, own = elr * whole, [e * g for e, g in zip(elrs, eg)]
        biggest = max(biggest, ess)
        sphere.step()
        after, _ = measured(net, step, dtype)
        elrs_after = [elr * sum(r * r for r in after) / r**2 for r in after]
        cosine = math.cos(geometry.angle([b.double() for b in before], [p.detach().double() for p in net.trained()]))
        assert cosine == pytest.approx(1 / math.sqrt(1 + ess**2), rel=tolerance)  # the gradient is tangent
        angle = float(geometry.angle([b.double() for b in before], [p.detach().double() for p in net.trained()]))
        assert math.tan(angle) == pytest.approx(ess, rel=10 * tolerance)  # the same, where the cosine says little
        assert sum(1 / e for e in elrs_after) == pytest.approx(1 / elr, rel=tolerance)  # eq. 7
        weights = [(1 / e) * elr for e in elrs]
        assert ess**2 == pytest.approx(sum(w * o * o for w, o in zip(weights, own)), rel=2 * tolerance)  # eq. 8
        for e, o, e_after in zip(elrs, own, elrs_after):
            assert e_after == pytest.approx(e * (1 + ess**2) / (1 + o**2), rel=2 * tolerance)  # eq. 9
    assert 0.01 < biggest < 30  # neither trivial nor absurd


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)], ids=["f64", "f32"])
def test_identities_hold_step_by_step_in_the_whole_space(dtype: torch.dtype, tolerance: float) -> None:
    lr, decay = 0.3, 0.02
    net = Net(dtype)
    optimizer = torch.optim.SGD(net.trained(), lr=lr, weight_decay=decay)
    for step in range(15):
        before = [p.detach().double().clone() for p in net.trained()]
        measured(net, step, dtype)
        g, rho = (
            np.linalg.norm(flat([p.grad for p in net.trained() if p.grad is not None])),
            np.linalg.norm(flat(before)),
        )
        optimizer.step()
        after = flat(net.trained())
        assert after @ after == pytest.approx((1 - lr * decay) ** 2 * rho**2 + lr**2 * g**2, rel=tolerance)
        z = lr * g * rho / ((1 - lr * decay) * rho**2)
        angle = float(geometry.angle(before, [p.detach().double() for p in net.trained()]))
        assert math.tan(angle) == pytest.approx(z, rel=10 * tolerance)


# -- momentum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["total", "group"])
def test_momentum_of_sgd_is_transported_exactly(granularity: str) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.trained(), lr=1.0, momentum=0.9)
    sphere = Sphere(optimizer, net.groups(), 0.05, granularity=granularity)
    units = [list(u.parameters) for u in sphere.units]
    turned = 0.0
    for step in range(8):
        before = [[p.detach().clone() for p in unit] for unit in units]
        old = [
            [optimizer.state[p]["momentum_buffer"].clone() if step else torch.zeros_like(p) for p in unit]
            for unit in units
        ]
        train(net, sphere, [step])
        for unit, x, b in zip(units, before, old):
            pushed = [0.9 * bi + p.grad for bi, p in zip(b, unit) if p.grad is not None]
            expected = geometry.parallel_transport(pushed, x, [p.detach() for p in unit])
            actual = [optimizer.state[p]["momentum_buffer"] for p in unit]
            np.testing.assert_allclose(flat(actual), flat(expected), atol=1e-12 * np.linalg.norm(flat(expected)))
            turned = max(turned, float(geometry.angle(x, [p.detach() for p in unit])))
    assert turned > 0.3  # large steps: a mere projection would differ


def test_other_averages_are_transported_to_second_order() -> None:
    errors = []
    for elr in (1e-2, 1e-3):
        net = Net()
        optimizer = torch.optim.SGD(net.trained(), lr=1.0, momentum=0.9, nesterov=True)
        sphere = Sphere(optimizer, net.groups(), elr)
        train(net, sphere, [0])
        x = [p.detach().clone() for p in net.trained()]
        old = [optimizer.state[p]["momentum_buffer"].clone() for p in net.trained()]
        train(net, sphere, [1])
        pushed = [0.9 * b + p.grad for b, p in zip(old, net.trained()) if p.grad is not None]
        expected = flat(geometry.parallel_transport(pushed, x, [p.detach() for p in net.trained()]))
        actual = flat([optimizer.state[p]["momentum_buffer"] for p in net.trained()])
        assert np.linalg.norm(actual) == pytest.approx(np.linalg.norm(expected), rel=1e-12)
        errors.append(np.linalg.norm(actual - expected) / np.linalg.norm(expected))
    assert errors[0] > 1e-8
    assert errors[1] < errors[0] / 50  # a tenth of the angle, a hundredth of the error


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_inputs_that_are_always_dark_do_not_throw_adam_about(kind: type[torch.optim.Optimizer]) -> None:
    """Their weights get gradients of the size of rounding errors, which Adam divides by themselves."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randn(64, 12, generator=draw)
    images[:, :4] = 0.5
    labels = torch.randint(3, (64,), generator=draw)
    net = nn.Sequential(nn.Linear(12, 16, bias=False), nn.BatchNorm1d(16, affine=False), nn.ReLU(), nn.Linear(16, 3))
    weight = net[0].weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=draw))
    sphere = Sphere(kind([weight], lr=1.0, weight_decay=0.0), {"w": [weight]}, 1e-3)
    for _ in range(60):
        before = weight.detach().clone()
        sphere.zero_grad()
        nn.functional.cross_entropy(net(images), labels).backward()
        sphere.step()
        assert float(geometry.angle([before], [weight.detach()])) < 0.05


def test_a_buffer_without_a_tangent_part_is_not_blown_up() -> None:
    weight = nn.Parameter(torch.full((3, 1), 2.0))  # rows of one number: nothing is tangent to a sphere of points
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.9)
    sphere = Sphere(optimizer, {"w": [weight]}, 1e-3, granularity="row")
    weight.grad = torch.tensor([[0.3], [0.1], [-0.7]])
    sphere.step()
    assert float(optimizer.state[weight]["momentum_buffer"].abs().max()) < 1e-6


# -- construction ------------------------------------------------------------------------------------------------------


def parameter(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype))


def test_param_groups_are_split_and_keep_their_options() -> None:
    a, b, c, d, free, bias = (parameter(3, 2, seed=i) for i in range(6))
    optimizer = torch.optim.SGD(
        [
            {"params": [a, free, b], "lr": 0.3, "momentum": 0.9},
            {"params": [c], "lr": 0.2, "momentum": 0.5},
            {"params": [bias, d], "lr": 0.1, "weight_decay": 0.0, "nesterov": False},
        ],
        lr=1.0,
    )
    sphere = Sphere(optimizer, {"ab": [a, b], "c": [c], "d": [d]}, 0.01, granularity="group")
    inner = optimizer.param_groups
    assert [[id(p) for p in g["params"]] for g in inner] == [[id(a), id(b)], [id(free)], [id(c)], [id(bias)], [id(d)]]
    assert [g["momentum"] for g in inner] == [0.9, 0.9, 0.5, 0, 0]
    assert [g["lr"] for g in sphere.param_groups] == [0.01, 0.3, 0.01, 0.1, 0.01]
    assert [[id(p) for p in g["params"]] for g in sphere.param_groups] == [[id(p) for p in g["params"]] for g in inner]
    for p in (a, b, c, d, free, bias):
        p.grad = torch.ones_like(p)
    kept = free.detach().clone()
    sphere.step()
    squares = [float(sum(p.detach().double().square().sum() for p in ps)) for ps in ([a, b], [c], [d])]
    expected = [0.01 * squares[0], 0.3, 0.01 * squares[1], 0.1, 0.01 * squares[2]]
    assert [g["lr"] for g in inner] == pytest.approx(expected, rel=1e-6)
    torch.testing.assert_close(free.detach(), kept - 0.3)


def test_one_sphere_over_several_param_groups() -> None:
    net, other = Net(), Net()
    names = ("stem", "inner"), ("outer", "last")
    plans = [[{"params": [getattr(n, k) for k in ks], "momentum": 0.9} for ks in names] for n in (net, other)]
    split = Sphere(torch.optim.SGD(plans[0], lr=1.0), net.groups(), 3e-3)
    whole = Sphere(torch.optim.SGD(other.trained(), lr=1.0, momentum=0.9), other.groups(), 3e-3)
    assert len(split.units) == 1
    assert len(split.param_groups) == 2
    np.testing.assert_allclose(train(net, split, range(5)), train(other, whole, range(5)), rtol=1e-12)
    split.param_groups[0]["lr"] = 1e-3
    with pytest.raises(UserError, match="two ELRs"):
        split.step()


def test_named_parameters_keep_their_names() -> None:
    net = Net()
    try:
        optimizer = torch.optim.SGD(net.named_parameters(), lr=0.1)
    except TypeError:
        pytest.skip("this torch takes no named parameters")
    sphere = Sphere(optimizer, {"inner": [net.inner]}, 1e-2)
    assert [g["param_names"] for g in optimizer.param_groups] == [["stem", "outer", "last"], ["inner"]]
    train(net, sphere, range(2))
    again = Net(seed=3)
    resumed = Sphere(torch.optim.SGD(again.named_parameters(), lr=0.1), {"inner": [again.inner]}, 1e-2)
    restore(saved(net, sphere), again, resumed)
    assert train(net, sphere, [2, 3]) == train(again, resumed, [2, 3])


def test_subclasses_are_recognised() -> None:
    class Mine(torch.optim.SGD):
        pass

    class Adam2(torch.optim.AdamW):
        pass

    class Lion(Optimizer):
        def __init__(self, params: Any) -> None:
            super().__init__(params, {"lr": 1.0})

        def step(self, closure: Any = None) -> None:
            for group in self.param_groups:
                for p in group["params"]:
                    p.sub_(group["lr"] * p.grad.sign())

    w = parameter(4, 3)
    assert traits_of(Mine([w], lr=1.0)).law == "sgd"
    assert traits_of(Adam2([w])).law == "normalised"
    assert traits_of(Lion([w])).law == "normalised"
    assert traits_of(torch.optim.Adadelta([w])).law is None


def test_an_unknown_optimizer_needs_its_law() -> None:
    w = parameter(4, 3)
    with pytest.raises(UserError, match="law of Rprop is not known"):
        Sphere(torch.optim.Rprop([w]), [w], 1e-2)
    sphere = Sphere(torch.optim.Rprop([w]), [w], 1e-2, law="normalised")
    assert sphere.law == "normalised"
    w.grad = torch.ones_like(w)
    sphere.step()
    assert float(w.detach().norm()) == pytest.approx(sphere.units[0].radius, rel=1e-6)
    with pytest.raises(UserError, match="unknown law 'adam'"):
        Sphere(torch.optim.Rprop([w]), [w], 1e-2, law="adam")


def refusals() -> dict[str, tuple[str, Callable[[], object]]]:
    w, v, bias = parameter(4, 3), parameter(4, 3, seed=1), parameter(4, seed=2)
    half = nn.Parameter(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).bfloat16())

    def sgd(*p: Tensor, **options: Any) -> torch.optim.SGD:
        return torch.optim.SGD(p, lr=0.1, **options)

    class Mine(torch.optim.LBFGS):
        pass

    table: dict[str, tuple[str, Callable[[], object]]] = {
        "weight decay": ("only sets another ELR", lambda: Sphere(sgd(w, weight_decay=1e-4), [w], 0.1)),
        "adamw": ("weight decay 0.01", lambda: Sphere(torch.optim.AdamW([w]), [w], 0.1)),
        "foreign tensor": ("not a parameter of the optimizer", lambda: Sphere(sgd(w), {"v": [v]}, 0.1)),
        "no group": ("at least one group", lambda: Sphere(sgd(w), {}, 0.1)),
        "empty group": ("no empty one", lambda: Sphere(sgd(w), {"a": []}, 0.1)),
        "twice": ("two groups", lambda: Sphere(sgd(w), {"a": [w], "b": [w]}, 0.1)),
        "a name": ("holds str 'w'", lambda: Sphere(sgd(w), {"a": "w"}, 0.1)),  # type: ignore[dict-item]
        "names": ("holds str 'weight'", lambda: Sphere(sgd(w), ["weight"], 0.1)),  # type: ignore[list-item]
        "elr 0": ("ELR 0.0 is not", lambda: Sphere(sgd(w), [w], 0.0)),
        "elr < 0": ("ELR -1.0 is not", lambda: Sphere(sgd(w), [w], -1.0)),
        "elr nan": ("ELR nan is not", lambda: Sphere(sgd(w), [w], math.nan)),
        "elr inf": ("ELR inf is not", lambda: Sphere(sgd(w), [w], lambda step: math.inf)),
        "elr text": ("ELR 'fast' is not a number", lambda: Sphere(sgd(w), [w], "fast")),  # type: ignore[arg-type]
        "granularity": ("unknown granularity 'filter'", lambda: Sphere(sgd(w), [w], 0.1, granularity="filter")),
        "check": ("unknown check", lambda: Sphere(sgd(w), [w], 0.1, check="never")),  # type: ignore[arg-type]
        "radius": ("radius -1", lambda: Sphere(sgd(w), [w], 0.1, radius=-1)),
        "joint tensor": ("one scale", lambda: Sphere(sgd(w, v), [[w, v]], 0.1, granularity="tensor")),
        "joint row": ("one scale", lambda: Sphere(sgd(w, v), [[w, v]], 0.1, granularity="row")),
        "row of a vector": ("needs tensors with rows", lambda: Sphere(sgd(bias), [bias], 0.1, granularity="row")),
        "half": ("keep the weights in float32", lambda: Sphere(sgd(half), [half], 0.1)),
        "lbfgs": ("LBFGS", lambda: Sphere(torch.optim.LBFGS([w]), [w], 0.1, law="sgd")),
        "own lbfgs": ("several times a step", lambda: Sphere(Mine([w]), [w], 0.1, law="sgd")),
        "not an optimizer": ("cannot be wrapped", lambda: Sphere(nn.Linear(2, 2), [w], 0.1)),  # type: ignore[arg-type]
        "twice wrapped": ("one Sphere", lambda: Sphere(Sphere(sgd(w), [w], 0.1), [w], 0.1, law="sgd")),
    }
    if hasattr(torch.optim, "Muon"):

        class Own(torch.optim.Muon):
            pass

        for kind in (torch.optim.Muon, Own):
            table[f"{kind.__name__} by rows"] = (
                "as a whole",
                lambda kind=kind: Sphere(kind([w], weight_decay=0.0), [w], 0.1, granularity="row"),
            )
    return table


@pytest.mark.parametrize("case", refusals())
def test_what_makes_no_sense_is_refused_in_one_line(case: str) -> None:
    match, attempt = refusals()[case]
    with pytest.raises(UserError, match=match) as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_refusing_leaves_optimizer_and_weights_alone() -> None:
    w, dead = parameter(4, 3), parameter(4, 3, seed=1)
    with torch.no_grad():
        dead[2] = 0
    kept = w.detach().clone()
    optimizer = torch.optim.SGD([w, dead], lr=0.1)
    with pytest.raises(StateError, match="row 2 of 'dead'"):
        Sphere(optimizer, {"w": [w], "dead": [dead]}, 0.1, granularity="row")
    assert torch.equal(w, kept)
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_groups_without_a_direction_are_refused(value: float, granularity: str) -> None:
    w, v = parameter(4, 3), nn.Parameter(torch.full((4, 3), value))
    with pytest.raises(StateError, match=r"tensor 0 of group 'v' has the norm (0.0|nan|inf)"):
        Sphere(torch.optim.SGD([w, v], lr=0.1), {"w": [w], "v": [v]}, 0.1, granularity=granularity)


@pytest.mark.parametrize("form", ["mapping", "list", "lists", "tensor", "mapping of a tensor", "generator"])
def test_groups_may_be_given_in_several_forms(form: str) -> None:
    w = parameter(4, 3)
    groups: dict[str, Any] = {
        "mapping": {"w": [w]},
        "list": [w],
        "lists": [[w]],
        "tensor": w,
        "mapping of a tensor": {"w": w},
        "generator": (p for p in [w]),
    }
    sphere = Sphere(torch.optim.SGD([w], lr=0.1), groups[form], 0.1)
    assert [[id(p) for p in unit.parameters] for unit in sphere.units] == [[id(w)]]
    assert "SGD, elr=0.1, law=sgd, total: total (rho" in repr(sphere)


def test_rows_of_convolutions() -> None:
    conv = nn.Parameter(torch.randn(5, 2, 3, 3, generator=torch.Generator().manual_seed(0)))
    total = float(conv.detach().norm())
    sphere = Sphere(torch.optim.SGD([conv], lr=0.1, momentum=0.9), [conv], 1e-2, granularity="row")
    assert sphere.units[0].radius == pytest.approx(total / math.sqrt(5), rel=1e-6)
    for seed in range(3):
        conv.grad = torch.randn(conv.shape, generator=torch.Generator().manual_seed(1 + seed))
        sphere.step()
        norms = conv.detach().double().flatten(1).norm(dim=1)
        np.testing.assert_allclose(norms, total / math.sqrt(5), rtol=1e-6)
        buffer = sphere.optimizer.state[conv]["momentum_buffer"].double().flatten(1)
        radial = (buffer * conv.detach().double().flatten(1)).sum(1)
        assert (radial.abs() < 1e-6 * norms * buffer.norm(dim=1)).all()


def test_large_tensors_stay_on_their_sphere() -> None:
    w = parameter(1500, 2000)
    sphere = Sphere(torch.optim.SGD([w], lr=0.1), [w], 1e-6)
    w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(1))
    for _ in range(3):
        sphere.step()
        assert float(w.detach().double().norm()) == pytest.approx(sphere.units[0].radius, rel=1e-6)


# -- the ELR as what is scheduled --------------------------------------------------------------------------------------

SCHEDULERS: dict[str, Callable[[Optimizer], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "step": lambda o: lr_scheduler.StepLR(o, 3, 0.1),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 6),
    "cosine floor": lambda o: lr_scheduler.CosineAnnealingLR(o, 6, eta_min=1e-4),
    "warm restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4),
    "linear": lambda o: lr_scheduler.LinearLR(o, 0.1, 1.0, 5),
    "to zero": lambda o: lr_scheduler.LinearLR(o, 1.0, 0.0, 5),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 1e-4, 1e-2, 3, cycle_momentum=False),
    "one cycle": lambda o: lr_scheduler.OneCycleLR(o, 1e-2, 10, cycle_momentum=False),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.ExponentialLR(o, 0.5)], [3]
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("tensor_lr", [False, True])
def test_schedulers_of_the_sphere_schedule_the_elr(name: str, tensor_lr: bool) -> None:
    net = Net()
    dummy = torch.optim.SGD([parameter(1)], lr=3e-3)
    reference = SCHEDULERS[name](dummy)
    optimizer = torch.optim.SGD(net.trained(), lr=torch.tensor(1.0) if tensor_lr else 1.0)
    sphere = Sphere(optimizer, net.groups(), 3e-3)
    schedule = SCHEDULERS[name](sphere)
    squared = sphere.units[0].radius ** 2
    seen = []
    for step in range(9):
        wanted = dummy.param_groups[0]["lr"]
        assert sphere.elr == pytest.approx(wanted, rel=1e-12)
        before = flat(net.trained())
        train(net, sphere, [step])
        rate = float(optimizer.param_groups[0]["lr"])
        assert rate == pytest.approx(wanted * squared, rel=1e-6 if tensor_lr else 1e-12, abs=1e-30)
        if wanted == 0:
            np.testing.assert_allclose(flat(net.trained()), before, rtol=1e-14)
        seen.append(wanted)
        dummy.step()
        reference.step()
        schedule.step()
    assert len({round(v, 9) for v in seen}) > 1


def test_plateau_schedules_the_elr() -> None:
    net = Net()
    sphere = Sphere(torch.optim.SGD(net.trained(), lr=1.0), net.groups(), 1e-2)
    schedule = lr_scheduler.ReduceLROnPlateau(sphere, factor=0.5, patience=0, min_lr=2e-3)
    elrs = []
    for step in range(5):
        train(net, sphere, [step])
        schedule.step(1.0)
        elrs.append(sphere.elr)
    assert elrs == pytest.approx([1e-2, 5e-3, 2.5e-3, 2e-3, 2e-3])
    train(net, sphere, [5])
    assert sphere.optimizer.param_groups[0]["lr"] == pytest.approx(2e-3 * sphere.units[0].radius ** 2)


def test_a_list_of_functions_schedules_wrapped_and_other_weights_apart() -> None:
    net, free = Net(), parameter(2)
    optimizer = torch.optim.SGD([{"params": net.trained()}, {"params": [free], "lr": 0.5}], lr=1.0)
    sphere = Sphere(optimizer, net.groups(), 1e-2)
    schedule = lr_scheduler.LambdaLR(sphere, [lambda t: 0.1**t, lambda t: 1.0])
    train(net, sphere, [0])
    schedule.step()
    train(net, sphere, [1])
    assert sphere.elr == pytest.approx(1e-3)
    assert optimizer.param_groups[1]["lr"] == 0.5
    sphere.param_groups[1]["lr"] = 0.25  # by hand
    train(net, sphere, [2])
    assert optimizer.param_groups[1]["lr"] == 0.25


@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("free", [False, True], ids=["wrapped", "others"])
def test_a_scheduler_of_the_wrapped_optimizer_is_refused(tensor_lr: bool, when: str, free: bool) -> None:
    net, other = Net(), parameter(2)
    plans = [{"params": net.trained()}, {"params": [other]}]
    optimizer = torch.optim.SGD(plans, lr=torch.tensor(1.0) if tensor_lr else 1.0)
    functions = [(lambda t: 1.0) if free else (lambda t: 0.5**t), (lambda t: 0.5**t) if free else (lambda t: 1.0)]
    if when == "before":
        schedule = lr_scheduler.LambdaLR(optimizer, functions)
        sphere = Sphere(optimizer, net.groups(), 1e-2)
    else:
        sphere = Sphere(optimizer, net.groups(), 1e-2)
        schedule = lr_scheduler.LambdaLR(optimizer, functions)
    train(net, sphere, [0])
    kept = flat(net.trained())
    schedule.step()
    with pytest.raises(UserError, match="attach the scheduler to the Sphere"):
        train(net, sphere, [1])
    np.testing.assert_array_equal(flat(net.trained()), kept)


def test_a_function_of_the_step() -> None:
    net = Net()
    sphere = Sphere(torch.optim.SGD(net.trained(), lr=1.0), net.groups(), lambda step: 1e-2 / (1 + step))
    for step in range(4):
        assert sphere.elr == 1e-2 / (1 + step)
        train(net, sphere, [step])
        assert sphere.optimizer.param_groups[0]["lr"] == pytest.approx(1e-2 / (1 + step) * sphere.units[0].radius ** 2)
    blob = saved(net, sphere)
    losses = train(net, sphere, range(4, 7))
    again = Net(seed=2)
    resumed = Sphere(torch.optim.SGD(again.trained(), lr=1.0), again.groups(), lambda step: 1e-2 / (1 + step))
    restore(blob, again, resumed)
    assert train(again, resumed, range(4, 7)) == losses
    resumed.param_groups[0]["lr"] = 1.0
    with pytest.raises(UserError, match="use one of the two"):
        train(again, resumed, [7])


def test_a_function_that_leaves_the_numbers_is_refused_before_the_step() -> None:
    net = Net()
    sphere = Sphere(torch.optim.SGD(net.trained(), lr=1.0), net.groups(), lambda step: 1e-2 if step < 1 else -1.0)
    train(net, sphere, [0])
    kept = flat(net.trained())
    with pytest.raises(UserError, match=r"ELR -1\.0"):
        train(net, sphere, [1])
    np.testing.assert_array_equal(flat(net.trained()), kept)


def test_scheduler_and_sphere_resume_together() -> None:
    def make(net: Net) -> tuple[Sphere, lr_scheduler.LRScheduler]:
        sphere = Sphere(torch.optim.Adam(net.trained(), lr=1.0), net.groups(), 1e-2)
        return sphere, lr_scheduler.CosineAnnealingLR(sphere, 10)

    def run(net: Net, sphere: Sphere, schedule: lr_scheduler.LRScheduler, steps: Sequence[int]) -> list[float]:
        losses = []
        for step in steps:
            losses += train(net, sphere, [step])
            schedule.step()
        return losses

    net = Net()
    sphere, schedule = make(net)
    run(net, sphere, schedule, range(4))
    blob, position = saved(net, sphere), schedule.state_dict()
    losses = run(net, sphere, schedule, range(4, 9))
    again = Net(seed=4)
    resumed, other = make(again)
    restore(blob, again, resumed)
    other.load_state_dict(position)
    assert run(again, resumed, other, range(4, 9)) == losses


# -- states that have no next step -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sgdm", "adam"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_stops_before_the_step(name: str, granularity: str, value: float) -> None:
    net = Net(torch.float32)
    sphere = build(name, granularity, net)
    train(net, sphere, range(2), torch.float32)
    loss_of(net, 2, torch.float32).backward()
    culprit = net.last if granularity in ("tensor", "row") else net.outer
    assert culprit.grad is not None
    culprit.grad[1, 2] = value
    kept, state = saved(net, sphere), copy.deepcopy(sphere.optimizer.state_dict()["state"])
    with pytest.raises(StateError) as caught:
        sphere.step()
    expected = "last" if granularity in ("tensor", "row") else "stream[1]"
    assert f"the gradient of {expected} (shape (6, 6)) is not finite at step 2" in str(caught.value)
    reference = torch.load(io.BytesIO(kept), weights_only=True)["net"]
    assert all(torch.equal(p, reference[n]) for n, p in net.named_parameters())
    for number, entries in sphere.optimizer.state_dict()["state"].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(state[number][k])) for k, v in entries.items())
    assert sphere.steps == 2
    train(net, sphere, [3], torch.float32)  # and one may train further


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_an_overflowing_step_is_taken_back(granularity: str, momentum: float) -> None:
    net, free = Net(torch.float32), parameter(3)
    optimizer = torch.optim.SGD([*net.trained(granularity), free], lr=0.1, momentum=momentum)
    sphere = Sphere(optimizer, net.groups(granularity), 1e36, granularity=granularity)
    loss_of(net, 0, torch.float32).backward()
    free.grad = torch.ones(3)
    kept = [p.detach().clone() for p in [*net.parameters(), free]]
    with pytest.raises(StateError, match=r"step 0 at ELR 1e\+36 leaves .* the weights are as they were before it"):
        sphere.step()
    assert all(torch.equal(a, b) for a, b in zip([*net.parameters(), free], kept))


def test_an_overflow_out_of_the_momentum_is_taken_back() -> None:
    w = parameter(4, 3)
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    sphere = Sphere(optimizer, [w], 1e-3)
    w.grad = torch.ones_like(w)
    sphere.step()
    optimizer.state[w]["momentum_buffer"].fill_(math.inf)
    kept = w.detach().clone()
    with pytest.raises(StateError, match="as they were"):
        sphere.step()
    assert torch.equal(w, kept)


def test_a_step_into_the_origin_is_taken_back() -> None:
    w, v = nn.Parameter(torch.tensor([2.0, 0.0])), parameter(3)
    sphere = Sphere(torch.optim.SGD([v, w], lr=1.0), {"v": [v], "w": [w]}, 0.5, granularity="group")
    v.grad, w.grad = torch.ones(3), torch.tensor([1.0, 0.0])  # lr = 0.5 * 4: exactly to zero; no gradient of a network
    kept = [v.detach().clone(), w.detach().clone()]
    with pytest.raises(StateError, match="leaves w with a zero or non-finite norm"):
        sphere.step()
    assert torch.equal(v, kept[0])
    assert torch.equal(w, kept[1])


def test_gradients_too_large_to_measure_are_named() -> None:
    w = parameter(4, 3)
    sphere = Sphere(torch.optim.SGD([w], lr=1.0), {"w": [w]}, 1e-3)
    w.grad = torch.full_like(w, 1e25)
    with pytest.raises(StateError, match="too large for its dtype"):
        sphere.step()


def test_the_deferred_check_waits_and_then_tells() -> None:
    w = parameter(4, 3)
    sphere = Sphere(torch.optim.SGD([w], lr=1.0), [w], 1e-3, check="deferred")
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 250):
        w.grad = torch.randn(w.shape, generator=generator)
        if step == 120:
            w.grad[0, 0] = math.nan
        if step < 200:
            sphere.step()
            continue
        with pytest.raises(StateError, match="before step 200"):
            sphere.step()
        break
    for look in ("check_now", "state_dict"):
        v = parameter(4, 3)
        other = Sphere(torch.optim.SGD([v], lr=1.0), [v], 1e-3, check="deferred")
        v.grad = torch.full_like(v, math.nan)
        other.step()
        with pytest.raises(StateError, match="zero or not finite"):
            getattr(other, look)()


def test_deferred_and_immediate_checks_give_the_same_numbers() -> None:
    nets = [Net(torch.float32), Net(torch.float32)]
    checks: Sequence[Any] = ("step", "deferred")
    losses = [train(n, build("sgdm", "total", n, check=c), range(10), torch.float32) for n, c in zip(nets, checks)]
    assert losses[0] == losses[1]


# -- the rest of an optimizer ------------------------------------------------------------------------------------------


def test_closures_are_called_once() -> None:
    net, other = Net(), Net()
    sphere, plain = build("sgd", "total", net), build("sgd", "total", other)
    calls = []

    def closure() -> float:
        calls.append(1)
        assert torch.is_grad_enabled()
        sphere.zero_grad()
        loss = loss_of(net)
        loss.backward()
        return loss.item()

    with torch.no_grad():
        value = sphere.step(closure)
    assert value == train(other, plain, [0])[0]
    assert len(calls) == 1
    np.testing.assert_array_equal(flat(net.trained()), flat(other.trained()))


def test_zero_grad() -> None:
    net = Net()
    sphere = build("sgd", "total", net)
    loss_of(net).backward()
    sphere.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in net.trained())
    sphere.zero_grad()
    assert all(p.grad is None for p in net.trained())


def test_tensors_without_gradient_stay_with_their_sphere() -> None:
    net = Net()
    net.inner.requires_grad_(False)
    sphere = build("sgdm", "total", net)
    direction = net.inner.detach() / net.inner.detach().norm()
    train(net, sphere, range(4))
    np.testing.assert_allclose(sizes(sphere), radii(sphere), rtol=1e-14)
    np.testing.assert_allclose(net.inner.detach() / net.inner.detach().norm(), direction, rtol=1e-13)
    sphere.zero_grad()
    sphere.step()  # no gradient at all: nothing moves
    np.testing.assert_allclose(sizes(sphere), radii(sphere), rtol=1e-14)


def test_add_param_group() -> None:
    net, free = Net(), parameter(3, dtype=torch.float64)
    sphere = build("sgdm", "total", net)
    train(net, sphere, [0])
    sphere.add_param_group({"params": [free], "lr": 0.25})
    assert [g["lr"] for g in sphere.param_groups] == [ELR["sgd"], 0.25]
    assert sphere.optimizer.param_groups[1]["momentum"] == 0.9
    kept = free.detach().clone()
    free.grad = torch.ones_like(free)
    loss_of(net, 1).backward()
    sphere.step()
    torch.testing.assert_close(free.detach(), kept - 0.25, rtol=1e-14, atol=0)
    with pytest.raises(ValueError, match="more than one parameter group"):
        sphere.add_param_group({"params": [net.inner]})
    train(net, sphere, [2])


def test_the_state_of_another_sphere_is_refused() -> None:
    net = Net()
    total, group = build("sgd", "total", net), build("sgd", "group", Net())
    with pytest.raises(UserError, match="another Sphere"):
        group.load_state_dict(total.state_dict())
    with pytest.raises(UserError, match="not the state of a Sphere"):
        group.load_state_dict(torch.optim.SGD(net.trained(), lr=1.0).state_dict())


def copied(pair: tuple[Net, Sphere], way: str) -> tuple[Net, Sphere]:
    return copy.deepcopy(pair) if way == "deepcopy" else pickle.loads(pickle.dumps(pair))


@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_copies_are_independent_and_equal(way: str, scheduled: bool, granularity: str) -> None:
    net = Net()
    sphere = build("adam", granularity, net)
    if scheduled:  # a scheduler replaces the method step of its optimizer by one that knows the original only
        lr_scheduler.LambdaLR(sphere, lambda t: 1.0)
    train(net, sphere, range(3))
    other, twin = copied((net, sphere), way)
    before = flat(net.trained(granularity))
    losses = train(other, twin, range(3, 6))
    np.testing.assert_array_equal(flat(net.trained(granularity)), before)
    assert sphere.steps == 3
    assert train(net, sphere, range(3, 6)) == losses
    np.testing.assert_array_equal(flat(net.trained(granularity)), flat(other.trained(granularity)))


FLAVOURS: dict[str, Mapping[str, Any]] = {
    "for-loop": {"foreach": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "tensor lr": {"lr": torch.tensor(1.0, dtype=torch.float64), "foreach": False},
}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_implementations_of_an_optimizer_agree(flavour: str, kind: Any, granularity: str) -> None:
    results = []
    for name in ("for-loop", flavour):
        net = Net()
        options = dict(FLAVOURS[name])
        rate = options.pop("lr", 1.0)
        if isinstance(rate, Tensor):
            rate = rate.clone()
        sphere = Sphere(
            kind(net.trained(granularity), lr=rate, **options), net.groups(granularity), 1e-3, granularity=granularity
        )
        results.append(train(net, sphere, range(6)))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


def test_grad_scaler() -> None:
    net, other = Net(torch.float32), Net(torch.float32)
    sphere, plain = build("sgdm", "total", net), build("sgdm", "total", other)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(4):
        sphere.zero_grad()
        scaler.scale(loss_of(net, step, torch.float32)).backward()
        scaler.step(sphere)
        scaler.update()
    train(other, plain, range(4), torch.float32)
    np.testing.assert_allclose(flat(net.trained()), flat(other.trained()), rtol=1e-4, atol=1e-6)
    kept = flat(net.trained())
    sphere.zero_grad()
    scaler.scale(loss_of(net, 4, torch.float32)).backward()
    assert net.inner.grad is not None
    net.inner.grad.fill_(math.inf)
    scaler.step(sphere)  # the scaler skips the step, and nothing is raised
    scaler.update()
    np.testing.assert_array_equal(flat(net.trained()), kept)
    assert sphere.steps == 4
    assert scaler.get_scale() == 512.0


def test_autocast() -> None:
    net = Net(torch.float32)
    sphere = build("sgdm", "total", net)
    x, y = data(torch.float32)
    for _ in range(3):
        sphere.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        sphere.step()
        np.testing.assert_allclose(sizes(sphere), radii(sphere), rtol=1e-6)


def test_compiled_model() -> None:
    net, other = Net(), Net()
    compiled = torch.compile(net, backend="aot_eager")
    sphere, plain = build("sgdm", "group", net), build("sgdm", "group", other)
    for step in range(4):
        sphere.zero_grad()
        loss = loss_of(compiled, step)
        loss.backward()
        sphere.step()
        assert loss.item() == pytest.approx(train(other, plain, [step])[0], rel=1e-10)


def test_hooks_and_profiler_names_of_torch_work() -> None:
    net = Net()
    sphere = build("sgd", "total", net)
    seen: list[int] = []
    sphere.register_step_post_hook(lambda optimizer, args, kwargs: seen.append(optimizer.steps))
    train(net, sphere, range(2))
    assert seen == [1, 2]


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-5, 1.0), st.floats(1e-2, 1e2), st.integers(0, 1000), st.sampled_from(["total", "group"]))
def test_any_rate_at_any_radius_stays_on_the_sphere_and_turns_by_atan_ess(
    elr: float, radius: float, seed: int, granularity: str
) -> None:
    net = Net(seed=seed)
    sphere = Sphere(torch.optim.SGD(net.trained(), lr=1.0), net.groups(), elr, granularity=granularity, radius=radius)
    before = [[p.detach().clone() for p in u.parameters] for u in sphere.units]
    train(net, sphere, [seed])
    for unit, old in zip(sphere.units, before):
        g = np.linalg.norm(flat([p.grad for p in unit.parameters if p.grad is not None]))
        assert np.linalg.norm(flat(unit.parameters)) == pytest.approx(radius, rel=1e-13)
        turned = float(geometry.angle(old, [p.detach() for p in unit.parameters]))
        assert turned == pytest.approx(math.atan(elr * radius * g), rel=1e-9)


def test_a_saved_elr_is_called_elr_and_old_states_are_read() -> None:
    """In ``param_groups`` a scheduler needs the name ``lr``; what is stored says what it is."""
    weight, other = (torch.nn.Parameter(torch.randn(4, generator=torch.Generator().manual_seed(k))) for k in (0, 1))
    sphere = Sphere(torch.optim.SGD([{"params": [weight]}, {"params": [other], "lr": 0.7}], lr=1.0), [weight], elr=0.2)
    state = sphere.state_dict()
    on, off = sorted(state["sphere"]["groups"], key=lambda group: "lr" in group)
    assert on["elr"] == 0.2
    assert "lr" not in on
    assert off["lr"] == 0.7
    for group in (state, {**state, "sphere": {**state["sphere"], "groups": []}}):
        if not group["sphere"]["groups"]:  # as versions before wrote it
            old = [{"lr" if k == "elr" else k: v for k, v in g.items()} for g in state["sphere"]["groups"]]
            group["sphere"]["groups"] = old
        again = Sphere(
            torch.optim.SGD([{"params": [weight]}, {"params": [other], "lr": 0.7}], lr=1.0), [weight], elr=0.5
        )
        again.load_state_dict(group)
        assert again.elr == 0.2
