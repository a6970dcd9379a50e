"""Around a step: zero weights, copies in float32, groups that come later, foreign states, averages, backward passes."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.sphere import table
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from scaleinv import Sphere, StateError, UserError
from scaleinv.sphere import Cut, StepInBackward, ema_on_spheres

pytestmark = pytest.mark.numerics


def parameter(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype))


def noise(w: Tensor, seed: int) -> Tensor:
    return torch.randn(w.shape, generator=torch.Generator().manual_seed(1000 + seed)).to(w.dtype)


def sgd(*params: Tensor, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(params, lr=0.1, **options)


# -- weights that are zero ---------------------------------------------------------------------------------------------


def test_zero_weights_are_refused_with_the_remedy() -> None:
    w = nn.Parameter(torch.zeros(4, 4))
    for granularity in ("total", "tensor", "row"):
        with pytest.raises(
            StateError, match=r"wrap after the first step, initialise it otherwise, or pass zero='wait'"
        ):
            Sphere(sgd(w), [w], 1e-3, granularity=granularity)
    with pytest.raises(UserError, match=r"waits for its first direction.*give radius="):
        Sphere(sgd(w), [w], 1e-3, zero="wait")
    with pytest.raises(UserError, match="unknown zero 'skip'"):
        Sphere(sgd(w), [w], 1e-3, zero="skip")  # type: ignore[arg-type]


@pytest.mark.parametrize("projection", ["exact", "folded", "literal"])
@pytest.mark.parametrize("options", [{}, {"normalise_update": True}, {"granularity": "row"}], ids=str)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_zero_weights_wait_for_their_first_direction(options: dict[str, Any], projection: Any, momentum: float) -> None:
    if projection == "folded" and options:
        pytest.skip("refused")
    w, v = nn.Parameter(torch.zeros(4, 3)), parameter(4, 3)
    chosen = {"granularity": "tensor", **options}
    sphere = Sphere(
        sgd(w, v, momentum=momentum), {"w": [w], "v": [v]}, 1e-3, zero="wait", radius={"w": 2.0},
        projection=projection, **chosen,
    )  # fmt: skip
    rows = chosen["granularity"] == "row"
    w.grad, v.grad = torch.zeros_like(w), noise(v, 0)
    v.grad -= v.detach() * (v.grad * v.detach()).sum() / v.detach().square().sum()
    sphere.step()
    assert not w.any()  # still waits
    assert sphere.units[0].waits
    again = copy.deepcopy(sphere.state_dict())
    sphere.load_state_dict(again)
    w.grad, v.grad = noise(w, 1), torch.zeros_like(v)
    sphere.step()
    assert not sphere.units[0].waits
    norms = w.detach().norm(dim=1) if rows else w.detach().norm()
    np.testing.assert_allclose(norms, 2.0, rtol=1e-6)
    direction = -w.grad / (w.grad.norm(dim=1, keepdim=True) if rows else w.grad.norm())
    torch.testing.assert_close(w.detach() / 2.0, direction)
    for k in range(2, 5):
        w.grad = noise(w, k)
        w.grad -= w.detach() * (w.grad * w.detach()).sum() / w.detach().square().sum()
        sphere.step()
        np.testing.assert_allclose(w.detach().norm(dim=1) if rows else w.detach().norm(), 2.0, rtol=1e-6)


# -- half precision ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_small_steps_are_not_lost_in_half_precision(dtype: torch.dtype) -> None:
    """A thousand steps of 1e-5 of the weights each: bfloat16 alone would round every one of them away."""
    w = parameter(16, 16, dtype=dtype)
    start = w.detach().float()
    sphere = Sphere(sgd(w), [w], 1e-5, normalise_update=True, masters=True)
    for _ in range(1000):
        w.grad = torch.ones_like(w)
        w.grad[0] = -1
        sphere.step()
    turned = float(torch.nn.functional.cosine_similarity(start.flatten(), w.detach().float().flatten(), 0))
    assert math.acos(turned) == pytest.approx(0.01, rel=0.3)
    master = sphere.masters.of([w])[0]  # type: ignore[union-attr]
    assert float(master.detach().norm()) == pytest.approx(sphere.units[0].radius, rel=1e-6)
    sphere.zero_grad()
    assert w.grad is None


def test_half_precision_without_copies_is_refused() -> None:
    w, full = parameter(4, 4, dtype=torch.bfloat16), parameter(4, 4)
    with pytest.raises(UserError, match="masters=True"):
        Sphere(sgd(w), [w], 1e-3)
    with pytest.raises(UserError, match="no parameter of the optimizer is in half precision"):
        Sphere(sgd(full), [full], 1e-3, masters=True)
    eight = nn.Parameter(torch.ones(4, 4).to(torch.float8_e4m3fn), requires_grad=False)
    with pytest.raises(UserError, match="float32 or float64 are needed"):
        Sphere(sgd(eight), [eight], 1e-3, masters=True)
    zero = nn.Parameter(torch.zeros(4, 4, dtype=torch.bfloat16))
    optimizer = sgd(zero, momentum=0.9)
    with pytest.raises(StateError, match="no direction"):
        Sphere(optimizer, [zero], 1e-3, masters=True)
    assert optimizer.param_groups[0]["params"][0] is zero  # as before


def test_copies_take_over_a_state_and_other_weights_get_copies_too() -> None:
    w, free = parameter(4, 4, dtype=torch.bfloat16), parameter(3, seed=1, dtype=torch.bfloat16)
    adam = torch.optim.Adam([w, free], lr=1e-3)
    w.grad, free.grad = noise(w, 0), noise(free, 0)
    adam.step()
    sphere = Sphere(adam, [w], 1e-2, masters=True)
    master, other = sphere.masters.of([w, free])  # type: ignore[union-attr]
    assert (master.dtype, other.dtype) == (torch.float32, torch.float32)
    assert adam.state[master]["exp_avg"].dtype == torch.float32
    assert sphere.param_groups[0]["params"][0] is w
    w.grad, free.grad = noise(w, 1), noise(free, 1)
    sphere.step()
    assert adam.state[master]["step"] == 2
    assert torch.equal(free.detach(), other.detach().bfloat16())
    sphere.add_param_group({"params": [late := parameter(2, seed=3, dtype=torch.bfloat16)], "lr": 1e-2})
    late.grad = torch.ones_like(late)
    sphere.step()
    assert sphere.masters.of([late])[0].dtype == torch.float32  # type: ignore[union-attr]


# -- groups that come later --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("granularity", ["total", "tensor", "row"])
def test_groups_are_added_later(granularity: str) -> None:
    w, late, free = parameter(4, 3), parameter(5, 3, seed=1), parameter(2, seed=2)
    sphere = Sphere(sgd(w, momentum=0.9), [w], 1e-2, granularity=granularity)
    w.grad = noise(w, 0)
    sphere.step()
    sphere.add_param_group({"params": [free, late], "groups": {"late": [late]}, "elr": 3e-3, "radius": 2.0, "lr": 0.25})
    assert [g["lr"] for g in sphere.param_groups] == [1e-2, 0.25, 3e-3]
    for k in range(1, 4):
        for p in (w, late, free):
            p.grad = noise(p, k)
        kept = free.detach().clone()
        sphere.step()
        if k == 1:
            torch.testing.assert_close(free.detach(), kept - 0.25 * free.grad)
    norms = late.detach().norm(dim=1) if granularity == "row" else late.detach().norm()
    np.testing.assert_allclose(norms, 2.0, rtol=1e-6)
    wanted = 3e-3 * 4.0
    assert sphere.optimizer.param_groups[2]["lr"] == pytest.approx(wanted)
    state = copy.deepcopy(sphere.state_dict())
    sphere.load_state_dict(state)
    assert len(sphere.units) == 2


def test_groups_that_do_not_fit_are_not_added() -> None:
    w, late = parameter(4, 3), parameter(5, 3, seed=1)
    sphere = Sphere(sgd(w, momentum=0.9), [w], 1e-2, granularity="tensor")
    zero = nn.Parameter(torch.zeros(2, 2))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("in the Sphere already", {"groups": [w]}),
        ("not among 'params'", {"params": [parameter(2)], "groups": [late]}),
        ("weight decay 0.1", {"groups": [late], "weight_decay": 0.1}),
        ("no direction", {"groups": [zero]}),
        ("do not divide", {"groups": [late], "granularity": "block", "split": 2}),
        ("name these under 'groups'", {"params": [late], "elr": 1e-2}),
        ("ELR -1", {"groups": [late], "elr": -1}),
    ]
    for match, group in cases:
        with pytest.raises((UserError, StateError), match=match):
            sphere.add_param_group(group)
        assert len(sphere.optimizer.param_groups) == len(sphere.param_groups) == len(sphere.units) == 1
    w.grad = noise(w, 0)
    sphere.step()
    sphere.add_param_group({"groups": {"late": [late]}, "granularity": Cut(split=5)})
    assert sphere.units[1].cut == Cut(split=5)


# -- states of something else ------------------------------------------------------------------------------------------


def test_states_of_another_layout_are_refused_before_anything_changes() -> None:
    def make(*shapes: tuple[int, ...], **options: Any) -> tuple[list[nn.Parameter], Sphere]:
        ps = [parameter(*s, seed=i) for i, s in enumerate(shapes)]
        options.setdefault("granularity", "tensor")
        sphere = Sphere(sgd(*ps, momentum=0.9), ps, 1e-2, **options)
        for p in ps:
            p.grad = noise(p, 1)
        sphere.step()
        return ps, sphere

    ps, sphere = make((4, 6), (6, 4))
    others: dict[str, tuple[str, Sphere]] = {
        "shapes": ("another layout: .* shapes", make((4, 4), (6, 4))[1]),
        "order": ("another layout", make((6, 4), (4, 6))[1]),
        "granularity": ("another Sphere", make((4, 6), (6, 4), granularity="row")[1]),
        "blocks": ("another Sphere", make((4, 6), (6, 4), granularity="block", split=2)[1]),
        "learned": ("another Sphere", make((4, 6), (6, 4), learn_radius=0.1)[1]),
    }
    kept = copy.deepcopy(sphere.state_dict())
    for match, other in others.values():
        with pytest.raises(UserError, match=match) as error:
            sphere.load_state_dict(other.state_dict())
        assert "\n" not in str(error.value)
        now = sphere.state_dict()
        assert now["sphere"] == kept["sphere"]
        for number, entries in now["optimizer"]["state"].items():
            assert torch.equal(entries["momentum_buffer"], kept["optimizer"]["state"][number]["momentum_buffer"])
    old = copy.deepcopy(others["shapes"][1].state_dict())
    del old["sphere"]["layout"]  # as versions before wrote it
    with pytest.raises(UserError, match=r"momentum_buffer has the shape \(4, 4\) where a weight of the shape \(4, 6\)"):
        sphere.load_state_dict(old)
    fewer = copy.deepcopy(kept)
    fewer["optimizer"]["param_groups"][0]["params"].append(7)
    with pytest.raises(UserError, match=r"param groups of \[2, 1\] tensors, here \[1, 1\]"):
        sphere.load_state_dict(fewer)
    three = make((4, 6), (6, 4), granularity="block", split=2)[1]
    with pytest.raises(UserError, match="in pieces"):
        make((4, 6), (6, 4), granularity=Cut(split=1))[1].load_state_dict(
            {**three.state_dict(), "sphere": {**three.state_dict()["sphere"], "granularity": "block"}}
        )
    sphere.load_state_dict(kept)
    assert ps[0].grad is not None


# -- averages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"granularity": "row"}, {"granularity": "row", "learn_radius": 0.05}], ids=str)
@pytest.mark.parametrize("half", [False, True], ids=["f32", "bf16"])
def test_an_average_stays_on_the_spheres(options: dict[str, Any], half: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8))
    if half:
        net = net.bfloat16()
    w = net[0].weight
    sphere = Sphere(sgd(*net.parameters()), [w], 0.02, masters=half, **options)
    mean = AveragedModel(net, multi_avg_fn=ema_on_spheres(sphere, 0.5), use_buffers=True)
    plain = None
    for k in range(6):
        for p in net.parameters():
            p.grad = noise(p, k)
        sphere.step()
        mean.update_parameters(net)
        bias = net[0].bias.detach().float()
        plain = bias if plain is None else 0.5 * plain + 0.5 * bias
    averaged = mean.module[0].weight.detach().float()
    rows = "granularity" in options
    radius = sphere.radius_of(0)
    norms = averaged.norm(dim=1) if rows else averaged.norm()
    np.testing.assert_allclose(norms, radius, rtol=1e-2 if half else 1e-6)
    assert not torch.allclose(averaged, w.detach().float())
    torch.testing.assert_close(mean.module[0].bias.detach().float(), plain, rtol=2e-2 if half else 1e-6, atol=1e-2)
    with pytest.raises(UserError, match=r"decay 1\.5"):
        ema_on_spheres(sphere, 1.5)


# -- in the backward pass ----------------------------------------------------------------------------------------------


def test_joint_groups_wait_for_all_their_gradients_and_states_resume() -> None:
    a, b, c = (parameter(3, 3, seed=i, dtype=torch.float64) for i in range(3))
    make = table.OPTIMIZERS["momentum"][1]
    steps = StepInBackward({"ab": [a, b], "c": [c]}, make, 1e-2)
    plain = [nn.Parameter(p.detach().clone()) for p in (a, b, c)]
    sphere = Sphere(make(plain), {"ab": plain[:2], "c": plain[2:]}, 1e-2, granularity="group")
    x = torch.randn(3, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    for _ in range(4):
        (torch.tanh(a @ x) + torch.tanh(b @ (c @ x))).square().sum().backward()
        sphere.zero_grad()
        (torch.tanh(plain[0] @ x) + torch.tanh(plain[1] @ (plain[2] @ x))).square().sum().backward()
        sphere.step()
    for p, q in zip((a, b, c), plain):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-13, atol=1e-14)
    with pytest.raises(UserError, match="'total' needs the gradients of all weights at once"):
        StepInBackward([a], make, 1e-2, granularity="total")
    with pytest.raises(UserError, match="the state is of 1 optimizers, here are 2"):
        steps.load_state_dict({"optimizers": steps.state_dict()["optimizers"][:1]})
    state = copy.deepcopy(steps.state_dict())
    kept = [p.detach().clone() for p in (a, b, c)]
    results = []
    for _ in range(2):
        with torch.no_grad():
            for p, k in zip((a, b, c), kept):
                p.copy_(k)
        steps.load_state_dict(copy.deepcopy(state))
        (torch.tanh(a @ x) + torch.tanh(b @ (c @ x))).square().sum().backward()
        results.append(table.flat([a, b, c]))
    np.testing.assert_array_equal(*results)
