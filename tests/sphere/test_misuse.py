"""Misuse of Sphere: one line with the remedy, before anything has changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scaleinv import Sphere, StateError, UserError, find_symmetries


def weight(*shape: int, dtype: torch.dtype = torch.float32) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype))


def sgd(*params: Tensor, **options: Any) -> torch.optim.SGD:
    return torch.optim.SGD(params, lr=0.1, **options)


def stepped(sphere: Sphere, *params: nn.Parameter, steps: int = 2) -> Sphere:
    for step in range(steps):
        for p in params:
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step)).to(p.dtype)
        sphere.step()
    return sphere


def other_dimension(net: nn.Sequential) -> None:
    find_symmetries(net, torch.randn(8, 4))
    Sphere(sgd(*net.parameters()), {"w": [net[0].weight]}, 1e-3, granularity="column")


def other_layout(net: nn.Sequential) -> None:
    sphere = Sphere(sgd(net[0].weight), [net[0].weight], 1e-3, granularity="group")
    other = weight(6, 5)
    sphere.load_state_dict(Sphere(sgd(other), [other], 1e-3, granularity="group").state_dict())


def of(net: nn.Sequential, *groups: str, decay: float = 0.0, **options: Any) -> None:
    named = {name: [net[0].weight] for name in groups or ("w",)}
    Sphere(sgd(*net.parameters(), weight_decay=decay), named, 1e-3, **options)


#: the list of the package's page on spheres, and what is told
WRAPPED: dict[str, tuple[Callable[[nn.Sequential], None], str]] = {
    "a dimension that the claim does not name": (other_dimension, "use granularity 'row', or pass claimed=False"),
    "blocks that do not divide": (lambda n: of(n, granularity="block", split=4), "choose a split that divides them"),
    "a tensor on two spheres": (lambda n: of(n, "a", "b"), "name each tensor once"),
    "weight decay": (lambda n: of(n, decay=0.1), "put weight_decay=0 for the wrapped tensors"),
    "half precision": (lambda n: of(n.bfloat16()), "pass masters=True"),
    "a state of another layout": (other_layout, "load it into a Sphere over the same tensors"),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_what_cannot_be_wrapped_is_told_in_one_line_and_weights_are_untouched(case: str) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))
    misuse, remedy = WRAPPED[case]
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with pytest.raises(UserError, match=remedy) as told:
        misuse(net)
    assert "\n" not in str(told.value)
    for name, p in net.named_parameters():
        assert torch.equal(p.detach(), before[name].to(p.dtype))


#: what becomes of an optimizer or a weight after wrapping
LATER: dict[str, tuple[Callable[[Sphere, nn.Linear], Any], str]] = {
    "a group added to the wrapped optimizer": (
        lambda s, net: s.optimizer.add_param_group({"params": [weight(3)]}),
        "has 3 param groups, the Sphere knows 2; add groups by Sphere.add_param_group",
    ),
    "a group taken from it": (lambda s, net: s.optimizer.param_groups.pop(), "has 1 param groups, the Sphere knows 2"),
    "weight decay set later": (
        lambda s, net: s.optimizer.param_groups[0].update(weight_decay=0.1),
        "weight decay 0.1 on group 'total'.* put weight_decay=0",
    ),
    "a model in half precision": (
        lambda s, net: net.bfloat16(),
        "convert the model first and wrap it with masters=True",
    ),
    "a sparse gradient": (
        lambda s, net: setattr(net.weight, "grad", torch.ones(4, 4).to_sparse()),
        "build the layer with sparse=False",
    ),
}


@pytest.mark.parametrize("case", LATER)
def test_what_changes_after_wrapping_is_told_before_the_step(case: str) -> None:
    net = nn.Linear(4, 4)
    sphere = stepped(Sphere(sgd(*net.parameters(), momentum=0.9), [net.weight], 1e-3), net.weight, net.bias)
    misuse, remedy = LATER[case]
    misuse(sphere, net)
    before, state = net.weight.detach().clone(), copy.deepcopy(sphere.optimizer.state[net.weight])
    with pytest.raises(UserError, match=remedy) as told:
        sphere.step()
    assert "\n" not in str(told.value)
    assert torch.equal(net.weight, before)
    assert torch.equal(sphere.optimizer.state[net.weight]["momentum_buffer"], state["momentum_buffer"])
    assert sphere.steps == 2


@pytest.mark.parametrize("bad", [0.0, float("nan")])
@pytest.mark.parametrize("projection", ["exact", "literal"])
def test_weights_overwritten_with_what_has_no_direction_are_named(projection: Any, bad: float) -> None:
    w = weight(4, 4)
    sphere = stepped(Sphere(sgd(w), {"w": [w]}, 1e-3, granularity="group", projection=projection), w)
    with torch.no_grad():
        w.fill_(bad)
    w.grad = torch.zeros(4, 4)
    with pytest.raises(StateError, match=r"\bw\b"):
        sphere.step()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"elr": True}, "ELR True is not a number"),
        ({"radius": True}, "radius True is not a positive number"),
        ({"correct_every": 0}, "correct_every=0"),
        ({"groups": None}, "groups=None: give a mapping"),
        ({"groups": 5}, "groups=5: give a mapping"),
    ],
    ids=str,
)
def test_arguments_of_other_types_are_refused(options: dict[str, Any], match: str) -> None:
    w = weight(4, 4)
    with pytest.raises(UserError, match=match):
        Sphere(sgd(w), **{"groups": [w], "elr": 1e-3, **options})
    assert torch.equal(w, weight(4, 4))


def test_expanded_and_differentiable_weights_are_refused() -> None:
    view = nn.Parameter(torch.ones(1, 4).expand(4, 4))
    with pytest.raises(UserError, match=r"expanded view of fewer numbers; pass a copy: tensor.contiguous\(\)"):
        Sphere(sgd(view), [view], 1e-3)
    w = weight(4, 4)
    for kind in (torch.optim.SGD, torch.optim.Adam):
        with pytest.raises(UserError, match="differentiable=True"):
            Sphere(kind([w], lr=0.1, differentiable=True), [w], 1e-3)


@pytest.mark.parametrize("options", [{}, {"granularity": "row"}, {"normalise_update": True}], ids=str)
def test_sparse_gradients_without_momentum_are_stepped(options: dict[str, Any]) -> None:
    table, dense = nn.Embedding(6, 3, sparse=True), nn.Embedding(6, 3)
    dense.load_state_dict(table.state_dict())
    for net in (table, dense):
        sphere = Sphere(sgd(net.weight), [net.weight], 1e-3, **options)
        for _ in range(3):
            sphere.zero_grad()
            (net(torch.tensor([1, 1, 2])) ** 2).sum().backward()
            sphere.step()
    torch.testing.assert_close(table.weight, dense.weight, rtol=1e-6, atol=1e-7)
