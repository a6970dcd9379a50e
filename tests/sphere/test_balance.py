"""Balanced and folded steps of SGD: the literal path up to rounding, and what becomes of it where they do not fit."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.sphere import table
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from scaleinv import Sphere, StateError, UserError
from scaleinv.sphere import passes
from scaleinv.sphere.balance import Balance

pytestmark = pytest.mark.numerics

EPS = 1e-30


class Free(nn.Module):
    """A network of scale-invariant tensors: rows in front of batch norm."""

    def __init__(self, dtype: torch.dtype = torch.float64, eps: float = EPS) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.a, self.b = (
            nn.Parameter(torch.randn(s, generator=draw, dtype=torch.float64).to(dtype)) for s in ((8, 5), (6, 8))
        )
        self.register_buffer("head", torch.randn(6, generator=draw, dtype=torch.float64).to(dtype))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        for w in (self.a, self.b):
            x = x @ w.T
            x = x - x.mean(0)
            x = torch.tanh(x / (x.square().mean(0) + self.eps).sqrt())
        return x @ self.head

    def train_with(self, sphere: Sphere, steps: range) -> None:
        for step in steps:
            draw = torch.Generator().manual_seed(step)
            x = torch.randn(16, 5, generator=draw, dtype=torch.float64).to(self.a.dtype)
            sphere.zero_grad()
            (self(x) - x[:, 0]).square().mean().backward()
            sphere.step()


def wrap(net: Free, projection: Any, momentum: float = 0.9, elr: float = 3e-3, **options: Any) -> Sphere:
    keys = {k: options.pop(k) for k in ("dampening", "foreach", "fused") if k in options}
    optimizer = torch.optim.SGD([net.a, net.b], lr=1.0, momentum=momentum, **keys)
    options.setdefault("granularity", "tensor")
    return Sphere(optimizer, {"a": [net.a], "b": [net.b]}, elr, projection=projection, **options)


@pytest.mark.parametrize("granularity", ["total", "tensor"])
@pytest.mark.parametrize(
    ("momentum", "dampening"), [(0.0, 0.0), (0.9, 0.0), (0.8, 0.5), (0.9, 1.0)], ids=["0", "0.9", "damped", "all"]
)
@pytest.mark.parametrize("projection", ["exact", "folded"])
def test_the_path_is_the_literal_one(projection: str, momentum: float, dampening: float, granularity: str) -> None:
    options = {"momentum": momentum, "dampening": dampening, "granularity": granularity}
    net, other = Free(), Free()
    sphere, literal = wrap(net, projection, **options), wrap(other, "literal", **options)
    net.train_with(sphere, range(40))
    other.train_with(literal, range(40))
    np.testing.assert_allclose(table.flat([net.a, net.b]), table.flat([other.a, other.b]), rtol=0, atol=1e-10)
    assert np.linalg.norm(table.flat([net.a]) - table.flat([Free().a])) > 0.1
    for unit in sphere.units:
        assert np.linalg.norm(table.flat(unit.parameters)) == pytest.approx(unit.radius, rel=1e-13)
    if momentum and projection == "exact":
        mine, theirs = (
            table.flat([one.optimizer.state[p]["momentum_buffer"] for u in one.units for p in u.parameters])
            for one in (sphere, literal)
        )
        np.testing.assert_allclose(mine, theirs, atol=1e-10 * np.linalg.norm(theirs))


def test_a_balanced_step_is_one_step_of_sgd_and_no_multiplication(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes it cheap: with tangent gradients nothing passes over the weights but the step itself."""
    net = Free()
    sphere = wrap(net, "folded", correct_every=1000)
    net.train_with(sphere, range(2))

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a pass over the weights")

    for name in ("_foreach_mul_", "_foreach_add_", "_foreach_copy_", "_foreach_norm"):
        monkeypatch.setattr(torch, name, forbidden)
    net.train_with(sphere, range(2, 8))
    assert sphere.steps == 8


def test_the_averaged_gradient_of_folded_steps_is_transported_apart_from_a_known_radial_part() -> None:
    net, other = Free(), Free()
    sphere, literal = wrap(net, "folded", correct_every=1000), wrap(other, "literal")
    net.train_with(sphere, range(6))
    other.train_with(literal, range(6))
    for i, (p, q) in enumerate(((net.a, other.a), (net.b, other.b))):
        b = sphere.optimizer.state[p]["momentum_buffer"]
        radial = sphere._balances[i].carried.radial
        assert radial < 0
        assert float((b * p.detach()).sum() / p.detach().square().sum()) == pytest.approx(radial, rel=1e-10)
        torch.testing.assert_close(
            (b - radial * p).detach(), literal.optimizer.state[q]["momentum_buffer"], rtol=1e-9, atol=1e-12
        )


def test_drift_of_folded_steps_is_measured_and_put_right() -> None:
    net = Free(torch.float32, eps=1e-5)  # of the norm layers: not quite scale-invariant
    sphere = wrap(net, "folded", elr=1e-2, correct_every=8)
    biggest = 0.0
    for step in range(200):
        net.train_with(sphere, range(step, step + 1))
        off = max(abs(np.linalg.norm(table.flat(u.parameters)) / u.radius - 1) for u in sphere.units)
        biggest = max(biggest, off)
        if (step + 1) % 8 == 0:
            assert off < 1e-6
    assert 0 < sphere.drift < 1e-3
    assert biggest < 1e-3


def test_weights_with_a_scale_are_not_folded_and_are_exact_all_the_same() -> None:
    def one(projection: str, **options: Any) -> tuple[nn.Parameter, Sphere]:
        w = nn.Parameter(torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
        return w, Sphere(torch.optim.SGD([w], lr=1.0, momentum=0.9), [w], 3e-3, projection=projection, **options)

    def step(w: nn.Parameter, sphere: Sphere, k: int) -> None:
        w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(50 + k), dtype=w.dtype)
        sphere.step()

    w, sphere = one("exact")
    v, literal = one("literal")
    for k in range(20):
        step(w, sphere, k)
        step(v, literal, k)
    torch.testing.assert_close(w.detach(), v.detach(), rtol=0, atol=1e-11)
    w, sphere = one("folded")
    kept = w.detach().clone()
    with pytest.raises(UserError, match=r"radial part .* use projection='exact'"):
        step(w, sphere, 0)
    assert torch.equal(w, kept)
    assert sphere.steps == 0
    # a radial part that comes later shows as drift, is put right and told
    w, sphere = one("folded", correct_every=4)
    for k in range(4):
        w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(50 + k), dtype=w.dtype)
        if k == 0:
            w.grad -= w.detach() * (w.grad * w.detach()).sum() / w.detach().square().sum()
        if k < 3:
            sphere.step()
    with pytest.raises(StateError, match=r"drifted by .* within 4 steps and was put right"):
        sphere.step()
    assert float(w.detach().norm()) == pytest.approx(sphere.units[0].radius, rel=1e-14)


@pytest.mark.parametrize("projection", ["exact", "folded"])
@pytest.mark.parametrize("what", ["no gradient", "a large step", "a hook", "maximize"])
def test_steps_that_do_not_fit_are_taken_by_the_general_way(projection: str, what: str) -> None:
    net, other = Free(), Free()
    sphere, literal = wrap(net, projection), wrap(other, "literal")

    def both(steps: range) -> None:
        net.train_with(sphere, steps)
        other.train_with(literal, steps)

    both(range(4))
    if what == "no gradient":
        for n in (net, other):
            n.b.requires_grad_(False)
            n.b.grad = None
        both(range(4, 6))
        for n in (net, other):
            n.b.requires_grad_(True)
    elif what == "a large step":
        for one in (sphere, literal):
            for g in one.param_groups:
                g["lr"] = 5.0
        both(range(4, 5))
        for one in (sphere, literal):
            for g in one.param_groups:
                g["lr"] = 3e-3
    elif what == "a hook":
        seen: list[float] = []
        sphere.optimizer.register_step_pre_hook(lambda o, a, k: seen.append(o.param_groups[0]["weight_decay"]))
        both(range(4, 6))
        assert seen == [0, 0]  # who looks finds the settings that were made
    else:
        for one in (sphere, literal):
            for g in one.optimizer.param_groups:
                g["maximize"] = True
        both(range(4, 6))
        for one in (sphere, literal):
            for g in one.optimizer.param_groups:
                g["maximize"] = False
    both(range(6, 10))
    np.testing.assert_allclose(table.flat([net.a, net.b]), table.flat([other.a, other.b]), rtol=0, atol=1e-9)


def test_settings_are_the_users_again_after_the_step() -> None:
    net = Free()
    sphere = wrap(net, "exact")
    before = [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in sphere.optimizer.param_groups]
    net.train_with(sphere, range(3))
    assert [{k: v for k, v in g.items() if k not in ("params", "lr")} for g in sphere.optimizer.param_groups] == before
    assert sphere.optimizer.param_groups[0]["lr"] == pytest.approx(3e-3 * sphere.units[0].radius ** 2)


def test_folded_states_resume_bit_for_bit() -> None:
    net, again = Free(torch.float32), Free(torch.float32)
    sphere, resumed = wrap(net, "folded", correct_every=4), wrap(again, "folded", correct_every=4)
    net.train_with(sphere, range(6))
    again.load_state_dict(net.state_dict())
    resumed.load_state_dict(copy.deepcopy(sphere.state_dict()))
    net.train_with(sphere, range(6, 15))
    again.train_with(resumed, range(6, 15))
    assert torch.equal(net.a, again.a)
    assert sphere.drift == resumed.drift > 0


def test_a_schedule_to_zero_and_a_vanishing_gradient() -> None:
    for projection in ("exact", "folded"):
        net = Free()
        sphere = wrap(net, projection)
        net.train_with(sphere, range(3))
        for g in sphere.param_groups:
            g["lr"] = 0.0
        kept = net.a.detach().clone()
        net.train_with(sphere, range(3, 5))
        torch.testing.assert_close(net.a.detach(), kept, rtol=1e-14, atol=0)
        for p in (net.a, net.b):
            p.grad = torch.zeros_like(p)
        sphere.step()
        assert bool(torch.isfinite(net.a).all())


def test_folding_is_refused_where_it_would_not_be_exact() -> None:
    w = nn.Parameter(torch.ones(4, 4))
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("not of Adam", torch.optim.Adam([w]), {}),
        ("Nesterov", torch.optim.SGD([w], lr=0.1, momentum=0.9, nesterov=True), {}),
        ("each of its pieces", torch.optim.SGD([w], lr=0.1), {"granularity": "row"}),
        ("correct_every=0", torch.optim.SGD([w], lr=0.1), {"correct_every": 0}),
        ("unknown projection", torch.optim.SGD([w], lr=0.1), {"projection": "quick"}),
    ]
    for match, optimizer, options in cases:
        with pytest.raises(UserError, match=match):
            Sphere(optimizer, [w], 0.1, **{"projection": "folded", **options})


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_no_copy_of_the_weights_is_made_for_steps_of_sgd(momentum: float) -> None:
    for projection in ("exact", "folded"):
        net = Free()
        sphere = wrap(net, projection, momentum)
        net.train_with(sphere, range(3))
        assert sphere._kept is None
    net = Free()
    sphere = wrap(net, "literal", momentum)
    net.train_with(sphere, range(3))
    assert (sphere._kept is None) == (momentum == 0)  # a short plain step cannot end at the origin


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e25])
@pytest.mark.parametrize("projection", ["exact", "folded"])
def test_bad_gradients_stop_before_the_step(projection: str, bad: float) -> None:
    net = Free(torch.float32)
    sphere = wrap(net, projection)
    net.train_with(sphere, range(3))
    kept, state = copy.deepcopy(net.state_dict()), copy.deepcopy(sphere.optimizer.state_dict()["state"])
    net.b.grad[1, 1] = bad  # type: ignore[index]
    with pytest.raises(StateError, match=r"(the gradient of b .* not finite|too large).* at step 3"):
        sphere.step()
    assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items())
    if projection == "exact":
        for number, entries in sphere.optimizer.state_dict()["state"].items():
            assert torch.equal(entries["momentum_buffer"], state[number]["momentum_buffer"])
    net.train_with(sphere, range(3, 6))


@pytest.mark.parametrize("layout", ["contiguous", "channels last", "one of each", "with gaps"])
def test_products_are_accurate_in_any_layout(layout: str) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(40, 30, 9, 9, generator=draw) for _ in range(2))
    if layout != "contiguous":
        a = a.contiguous(memory_format=torch.channels_last)
    if layout == "channels last":
        b = b.contiguous(memory_format=torch.channels_last)
    if layout == "with gaps":
        a, b = a[::2], b[::2]
    found = passes.products([a], [b])
    x, y = a.double(), b.double()
    wanted = [float((x * x).sum()), float((x * y).sum()), float((y * y).sum())]
    scale = math.sqrt(wanted[0] * wanted[2])
    # rounding of a float32 sum of so many terms, one after another, walks: four standard deviations, on any processor
    rounding = 4 * math.sqrt(passes.CHUNK) * torch.finfo(torch.float32).eps / 2
    assert found == pytest.approx(tuple(wanted), abs=rounding * scale)
    assert passes.products([a])[0] == pytest.approx(wanted[0], rel=rounding)


def test_large_tensors_stay_on_their_sphere_over_many_steps() -> None:
    w = nn.Parameter(torch.randn(600, 500, generator=torch.Generator().manual_seed(0)))
    sphere = Sphere(torch.optim.SGD([w], lr=0.1, momentum=0.9), [w], 1e-9, projection="folded", correct_every=10)
    for k in range(60):
        g = torch.randn(w.shape, generator=torch.Generator().manual_seed(1 + k))
        w.grad = g - w.detach() * float((g.double() * w.detach().double()).sum() / w.detach().double().square().sum())
        sphere.step()
    assert float(w.detach().double().norm()) == pytest.approx(sphere.units[0].radius, rel=1e-6)
    assert 0 < sphere.drift < 1e-5


def test_a_unit_alone_can_be_balanced() -> None:
    w = nn.Parameter(torch.ones(3, 3))
    sphere = Sphere(torch.optim.SGD([w], lr=0.1), [w], 0.1, granularity="row")
    assert isinstance(sphere._balances[0], Balance)
    assert not sphere._balances[0].possible


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("layout", ["gradients in another order", "weights with gaps"])
def test_layouts_that_a_fused_step_reads_wrong_are_stepped_otherwise(layout: str, momentum: float) -> None:
    def one(projection: str) -> Tensor:
        start = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        if layout == "weights with gaps":
            w = nn.Parameter(torch.cat([start, start], 1)[:, :4])
        else:
            w = nn.Parameter(start.contiguous(memory_format=torch.channels_last))
        sphere = Sphere(torch.optim.SGD([w], lr=1.0, momentum=momentum), [w], 1e-3, projection=projection)
        for k in range(5):
            w.grad = torch.randn(w.shape, generator=torch.Generator().manual_seed(1 + k), dtype=w.dtype)
            w.grad -= w.detach() * (w.grad * w.detach()).sum() / w.detach().square().sum()
            if layout == "weights with gaps":
                w.grad = w.grad.contiguous()
            sphere.step()
        return w.detach()

    for projection in ("exact", "folded"):
        torch.testing.assert_close(one(projection), one("literal"), rtol=1e-12, atol=1e-13)


def test_a_step_in_pieces_has_the_bits_of_the_fused_step() -> None:
    draw = torch.Generator().manual_seed(0)
    shape = (passes.CHUNK + 77, 3)
    x, g, b = (torch.randn(shape, generator=draw) for _ in range(3))
    for momentum in (0.0, 0.9):
        p = nn.Parameter(x.clone())
        p.grad = g
        optimizer = torch.optim.SGD([p], lr=0.1, momentum=momentum, weight_decay=0.03, fused=True)
        if momentum:
            optimizer.state[p]["momentum_buffer"] = b.clone()
        optimizer.step()
        mine, buffers = x.clone(), [b.clone()] if momentum else []
        settings = {"lr": 0.1, "weight_decay": 0.03, "momentum": momentum, "dampening": 0.0}
        whole, kept = x.clone(), [buffer.clone() for buffer in buffers]
        assert passes.step_of_sgd([whole], [g], kept, measure=False, **settings) == 0
        assert torch.equal(whole, p.detach())
        size = passes.step_of_sgd([mine], [g], buffers, measure=True, **settings)
        assert torch.equal(mine, p.detach())
        assert size == passes.products([mine])[0]
        if momentum:
            assert torch.equal(buffers[0], optimizer.state[p]["momentum_buffer"])
            there, carried = x.clone(), b.clone()
            passes.step_of_sgd([there], [g], [carried], measure=True, carry=0.7, **settings)
            assert torch.equal(there, mine)
            assert torch.equal(carried, buffers[0].add(mine, alpha=0.7))


def test_exact_steps_make_the_averaged_gradient_tangent_in_their_own_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    w = nn.Parameter(torch.randn(40, 30, generator=torch.Generator().manual_seed(0)))
    sphere = Sphere(torch.optim.SGD([w], lr=1.0, momentum=0.9), [w], 1e-9)
    asked = []
    monkeypatch.setattr(torch, "_foreach_add_", lambda *args, **kwargs: asked.append(args))
    for step in range(4):
        draw = torch.randn(w.shape, generator=torch.Generator().manual_seed(step))
        w.grad = draw - w.detach() * (draw * w.detach()).sum() / w.detach().square().sum()
        asked.clear()
        sphere.step()
        assert len(asked) == (step == 0)  # the optimizer makes the average in the first one


def test_parameters_beside_the_spheres_are_stepped_once_and_hooks_of_all_optimizers_are_called() -> None:
    net, free, plain = Free(), nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([net.a, net.b, free], lr=0.1, momentum=0.9)
    alone = torch.optim.SGD([plain], lr=0.1, momentum=0.9)
    sphere = Sphere(optimizer, [net.a, net.b], 1e-3)
    groups = optimizer.param_groups
    for step in range(3):
        net(torch.randn(16, 5, generator=torch.Generator().manual_seed(step), dtype=torch.float64)).sum().backward()
        for p in (free, plain):
            p.grad = torch.full((3,), 0.5)
        sphere.step()
        sphere.zero_grad()
        alone.step()
    torch.testing.assert_close(free.detach(), plain.detach(), rtol=1e-6, atol=0)
    assert optimizer.param_groups is groups
    seen: list[int] = []
    handle = register_optimizer_step_post_hook(lambda o, a, k: seen.append(len(o.param_groups)))
    try:
        net.train_with(sphere, range(3, 4))
    finally:
        handle.remove()
    assert len(groups) in seen  # the wrapped optimizer's own step, with all its groups


def test_strides_of_single_slices_do_not_matter() -> None:
    plain = torch.ones(6, 4, 1, 1)
    same = plain.as_strided(plain.shape, (4, 1, 4, 4))
    other = torch.ones(6, 4, 2, 2)
    assert plain.stride() != same.stride()
    assert passes.alike([plain], [same])
    assert not passes.alike([other], [other.contiguous(memory_format=torch.channels_last)])
    assert not passes.alike([plain[::2]], [plain[::2]])
    assert not passes.alike([plain], [plain.double()])
