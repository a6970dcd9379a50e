"""An optimizer of the user's own: registered by class or name, inherited, refused where it makes no sense, used."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

import scaleinv
from scaleinv import OptimizerTraits, Sphere, UserError, geometry
from scaleinv.sphere.traits import traits_of
from scaleinv.theory import optimizers
from scaleinv.theory.optimizers import clocks_of, decoupled_clock, law_of, traits_named
from scaleinv.theory.traits import Measured


class Slow(Optimizer):
    """Gradient descent along an average that it calls ``drift``."""

    def __init__(self, params: Any, lr: float = 0.1) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                drift = self.state[p].setdefault("drift", torch.zeros_like(p))
                drift.mul_(0.9).add_(p.grad)
                p.add_(drift, alpha=-group["lr"])


class Slower(Slow):
    """A subclass."""


@pytest.fixture(autouse=True)
def _own_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "_TRAITS", dict(optimizers._TRAITS))


def weight() -> Tensor:
    return torch.nn.Parameter(torch.tensor([3.0, 4.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("key", [Slow, "Slow"])
def test_a_class_of_the_users_own_and_what_inherits_it(key: type | str) -> None:
    own = OptimizerTraits("normalised", "independent", decoupled_clock, gradient_averages=("drift",))
    assert traits_of(Slow([weight()])).law is None
    scaleinv.register_optimizer(key, own)
    assert traits_of(Slow([weight()])) is own
    assert traits_of(Slower([weight()])) is own
    assert traits_of(torch.optim.SGD([weight()])).law == "sgd"
    special = OptimizerTraits("sgd")
    scaleinv.register_optimizer(Slower, special)  # what is nearer decides
    assert traits_of(Slower([weight()])) is special
    assert traits_of(Slow([weight()])) is own


def test_a_registered_name_is_found_in_stored_configs() -> None:
    scaleinv.register_optimizer("Slow", OptimizerTraits("sgd", "coupled", lambda options: 10.0))
    assert law_of({"optimizer": "Slow"}) == "sgd"
    assert traits_named({"class": "Slow", "law": "sgd"}).clock({}) == 10.0
    assert clocks_of({"optimizers": [{"class": "Slow", "law": "sgd", "groups": [{"lr": 0.1}]}]}) == {10.0}


def test_a_stored_clock_decides_where_the_class_is_not_known() -> None:
    groups: list[dict[str, Any]] = [{"lr": 0.1, "clock": 2.5}, {"lr": 0.2, "clock": None}]
    assert clocks_of({"optimizers": [{"class": "Elsewhere", "law": "sgd", "groups": groups}]}) == {2.5, None}


@pytest.mark.parametrize(
    ("key", "traits"), [("", OptimizerTraits("sgd")), (Slow, "sgd"), (3, OptimizerTraits("sgd")), (Slow, None)]
)
def test_what_is_no_name_and_no_traits_is_refused(key: Any, traits: Any) -> None:
    before = dict(optimizers._TRAITS)
    with pytest.raises(UserError, match="give a class or its name, and OptimizerTraits"):
        scaleinv.register_optimizer(key, traits)
    assert before == optimizers._TRAITS


@pytest.mark.parametrize(
    ("words", "told"), [(("newton",), "law 'newton' is not known"), (("sgd", "weak"), "decay 'weak' is not known")]
)
def test_traits_that_make_no_sense_are_refused(words: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UserError, match=f"{told}; choose one of: "):
        OptimizerTraits(*words)


def test_a_sphere_needs_no_law_for_it_and_carries_its_averages_along() -> None:
    w = weight()
    with pytest.raises(UserError, match="the law of Slow is not known"):
        Sphere(Slow([w]), [w], elr=0.02)
    scaleinv.register_optimizer(Slow, OptimizerTraits("sgd", gradient_averages=("drift",)))
    optimizer = Slow([w])
    sphere = Sphere(optimizer, [w], elr=0.02)
    assert sphere.law == "sgd"
    turned = 0.0
    for gradient in ([-4.0, 3.0, 1.0], [0.0, 0.0, -2.0], [1.0, 1.0, 1.0]):
        before, drift = w.detach().clone(), optimizer.state[w].get("drift", torch.zeros_like(w)).clone()
        w.grad = geometry.tangent([torch.tensor(gradient, dtype=torch.float64)], [before])[0]
        sphere.step()
        assert math.isclose(float(w.detach().norm()), 5.0, rel_tol=1e-14)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * 25, rel=1e-14)
        (expected,) = geometry.parallel_transport([0.9 * drift + w.grad], [before], [w.detach()])
        torch.testing.assert_close(optimizer.state[w]["drift"], expected, rtol=0, atol=1e-12)
        turned = max(turned, float(geometry.angle([before], [w.detach()])))
    assert turned > 0.3  # a buffer left alone, or only projected, would differ


def test_averages_that_are_not_named_are_left_alone() -> None:
    w = weight()
    scaleinv.register_optimizer(Slow, OptimizerTraits("sgd", gradient_averages=()))
    optimizer = Slow([w])
    sphere = Sphere(optimizer, [w], elr=0.02)
    w.grad = torch.tensor([-4.0, 3.0, 1.0], dtype=torch.float64)
    sphere.step()
    assert torch.equal(optimizer.state[w]["drift"], w.grad)


def test_rows_are_refused_for_one_that_treats_a_matrix_as_a_whole() -> None:
    scaleinv.register_optimizer(Slow, OptimizerTraits("sgd", matrix_wise=True))
    w = torch.nn.Parameter(torch.ones(2, 3))
    with pytest.raises(UserError, match="'row' is not exact for Slow"):
        Sphere(Slow([w]), [w], elr=0.1, granularity="row")


class _Named(Slow):
    """Stands for a class of a package, by its name and the options of its param group."""


@pytest.mark.parametrize(
    ("name", "options", "decay", "clock", "rests"),
    [
        ("SGD", {"betas": (0.5, 0)}, "coupled", 2.0, True),  # bitsandbytes: betas are momentum and dampening
        ("SGD8bit", {"betas": (0.75, 0)}, "coupled", 4.0, True),
        ("SGD", {"beta": 0.9}, "decoupled", 1.0, True),  # heavyball
        ("SGD", {"momentum": 0.9}, "coupled", 10.0, True),
        ("RAdam", {"weight_decouple": True, "betas": (0.9, 0.999)}, "decoupled", 1.0, True),
        ("RAdam", {"decoupled_weight_decay": True, "betas": (0.9, 0.999)}, "decoupled", 1.0, True),
        ("NAdam", {"betas": (0.9, 0.999)}, "coupled", None, False),
        ("Lamb", {"weight_decouple": True, "betas": (0.9, 0.999)}, "decoupled", 1.0, None),
        ("Adan", {"weight_decouple": False, "betas": (0.98, 0.92, 0.99)}, "coupled", None, None),
    ],
)
def test_the_names_that_packages_give_to_momentum_and_decay(
    name: str, options: dict[str, Any], decay: str, clock: float | None, rests: bool | None
) -> None:
    optimizer = type(name, (_Named,), {})([weight()])
    options = {"lr": 0.01, "weight_decay": 0.1, **options}
    traits = traits_of(optimizer, options)
    assert (traits.decay, traits.clock(options)) == (decay, pytest.approx(clock) if clock else None)
    if rests is None:  # no equilibrium is known
        assert traits.equilibrium is None
    else:
        assert traits.equilibrium is not None
        assert (traits.equilibrium(options, 0.01, 0.1, Measured(1.0, 400, 1.0, None)) is not None) == rests


@pytest.mark.parametrize("options", [{"momentum": 0.5}, {"betas": (0.5, 0.99)}])
def test_muon_turns_the_same_whatever_its_momentum_is_called(options: dict[str, Any]) -> None:
    traits = traits_of(type("Muon", (_Named,), {})([weight()]), options)
    assert traits.equilibrium is not None
    (one, other) = (
        traits.equilibrium(o, 0.01, 0.1, Measured(1.0, 400, 1.0, (20, 20))) for o in (options, {"momentum": 0.5})
    )
    assert one == other
