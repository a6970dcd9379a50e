r"""Take a step of SGD whose own pass returns to the sphere: weight decay that exactly balances what the step adds.

A step of SGD leads to ``x - lr d``, d = m b + (1 - dampening) g, and the metric projection divides that by its
length. For a tangent d and ``z = lr |d| / R`` the same point is ``a x - eta d`` with ``a = 1/sqrt(1 + z^2)`` and
``eta = a lr``: a step at the rate ``eta`` with the coupled weight decay ::

    mu = (1 - a) / eta = lr |d|^2 / (R^2 (1 + sqrt(1 + z^2)))

So the retraction costs no pass of its own. The averaged gradient gets ``mu x`` added as well. Its radial part at the
new point is then ``-mu`` times that point, and the rest of it has the norm of d and is d carried along the great
circle: parallel transport, exactly. ``exact`` takes the radial part off at once, and measures the norm that came out at
every step. ``folded`` keeps it as a number and takes it into account by the next decay, ``mu - m beta``.

Where d is not tangent (weights that are not scale-invariant), the direction that comes out is the right one all the
same, since only the ratio ``eta / a = lr`` decides it; the norm is off, is measured and is put right.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from scaleinv.errors import UserError
from scaleinv.sphere import shards
from scaleinv.sphere.cut import Cut
from scaleinv.sphere.passes import alike, products, step_of_sgd
from scaleinv.sphere.units import Unit

#: steps that turn further are taken by the general way, which can be taken back
_STEEPEST = 0.9

State = Mapping[Tensor, Mapping[str, Any]]
Groups = Sequence[dict[str, Any]]


@dataclass
class Carried:
    """What a folded unit carries from step to step beside its tensors."""

    radial: float = 0.0  # beta: the averaged gradient has the radial part beta x
    square: float | None = None  # its squared norm without that part; None: to be measured


@dataclass
class Plan:
    """How the next step of a unit is balanced."""

    rate: float  # eta
    decay: float  # mu
    direction: float  # |d|^2
    start: float  # a
    gradients: list[Tensor]
    buffers: list[Tensor]
    momentum: float
    dampening: float
    fused: bool = False  # whether torch's fused operation may take it
    carried: bool = False  # whether the step has made the averaged gradient tangent already

    def radial(self, radius: float) -> float:
        """Give mu, the coefficient of x in the averaged gradient and in the step."""
        if not self.rate:
            return 0.0
        return self.rate / self.start * self.direction / (radius**2 * (1 + 1 / self.start))


def suits(optimizer: Optimizer) -> bool:
    """Tell whether the steps of an optimizer are those of torch's SGD, and nobody looks at its settings in between."""
    own = "step" in vars(optimizer)  # compiled, or replaced by a scheduler
    hooked = any(
        (
            optimizer._optimizer_step_pre_hooks,
            optimizer._optimizer_step_post_hooks,
            _global_optimizer_pre_hooks,
            _global_optimizer_post_hooks,
        )
    )
    return type(optimizer) is torch.optim.SGD and not own and not hooked


def refuse_folding(optimizer: Optimizer, cuts: Mapping[str, Cut | None], *, plain: bool) -> None:
    """Raise :class:`~scaleinv.UserError` where steps cannot be folded.

    - ``plain``: whether neither sizes of steps are fixed nor radii trained.
    """
    remedy = "use projection='exact'"
    if not suits(optimizer):
        kind = type(optimizer).__name__
        raise UserError(f"projection 'folded' balances the weight decay of torch's SGD, not of {kind}; {remedy}")
    if any(group.get("nesterov") for group in optimizer.param_groups):
        raise UserError(f"projection 'folded' does not know Nesterov's momentum; {remedy}")
    if any(cut is not None for cut in cuts.values()):
        raise UserError(f"projection 'folded' has one decay a tensor, not one for each of its pieces; {remedy}")
    if not plain:
        raise UserError(f"projection 'folded' goes with neither normalise_update nor learn_radius; {remedy}")


@functools.cache
def fused_works() -> bool:
    """Tell whether this torch has a fused SGD for the CPU."""
    p = torch.nn.Parameter(torch.ones(2, device="cpu"))
    p.grad = torch.ones(2, device="cpu")
    try:
        torch.optim.SGD([p], lr=0.5, fused=True).step()
    except (RuntimeError, TypeError, ValueError):
        return False
    return float(p.detach()[0]) == 0.5


class Balance:
    """Balance the steps of one unit."""

    def __init__(self, unit: Unit) -> None:
        self.unit = unit
        self.carried = Carried()
        plain = [p for p in unit.parameters if p.device.type == "cpu" and not shards.is_sharded(p)]
        self.possible = unit.cut is None and len(plain) == len(unit.parameters)

    @staticmethod
    def _settings(groups: Groups) -> tuple[float, float] | None:
        """Momentum and dampening, one for all groups of the unit; None where the step is not plain SGD's."""
        found = {(float(g["momentum"]), float(g["dampening"])) for g in groups}
        for g in groups:
            if (
                g["nesterov"]
                or g["maximize"]
                or g["differentiable"]
                or g["weight_decay"]
                or isinstance(g["lr"], Tensor)
            ):
                return None
        return found.pop() if len(found) == 1 else None

    def plan(self, groups: Groups, state: State, rate: float, *, folded: bool) -> Plan | None:
        """Measure the gradients and balance the step at ``rate``; None where the general way has to take it."""
        settings = self._settings(groups) if self.possible and not self.unit.waits else None
        gradients = [p.grad for p in self.unit.parameters if p.grad is not None]
        if settings is None or len(gradients) < len(self.unit.parameters) or any(g.is_sparse for g in gradients):
            return None
        momentum, dampening = settings
        buffers = _buffers(state, self.unit) if momentum else []
        if buffers and len(buffers) < len(gradients):
            return None
        damped = 1.0 if not buffers else 1.0 - dampening
        if damped == 0:
            return None
        if buffers:
            if folded:
                own, crossed, _ = products(gradients, buffers, both=False)
                square = self._square(buffers)
            else:
                own, crossed, square = products(gradients, buffers)
            direction = momentum**2 * square + 2 * momentum * damped * crossed + damped**2 * own
        else:
            direction = products(gradients)[0]
        turn = rate * math.sqrt(direction) / self.unit.radius if direction >= 0 else math.nan
        if not turn < _STEEPEST:  # or not a number
            return None
        root = math.sqrt(1 + turn**2)
        decay = rate * direction / (self.unit.radius**2 * (1 + root))
        inside = (decay - momentum * self.carried.radial) / damped if buffers else decay
        plan = Plan(rate / root, inside, direction, 1 / root, gradients, buffers, momentum, dampening)
        plan.fused = self._may_be_fused(groups, plan)
        return plan

    def _may_be_fused(self, groups: Groups, plan: Plan) -> bool:
        chosen = all(g.get("fused") or (g.get("fused") is None and g.get("foreach") is None) for g in groups)
        tensors = [self.unit.parameters, plan.gradients, *([plan.buffers] if plan.buffers else ())]
        return chosen and fused_works() and alike(*tensors)

    def _square(self, buffers: Sequence[Tensor]) -> float:
        if self.carried.square is None:
            self.carried.square = max(0.0, products(buffers)[0] - (self.carried.radial * self.unit.radius) ** 2)
        return self.carried.square

    def enter(self, groups: Groups, plan: Plan) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Put the balanced rate and decay into the param groups; returns what stood there."""
        before: list[tuple[dict[str, Any], dict[str, Any]]] = []
        for group in groups:
            before.append((group, {key: group[key] for key in ("lr", "weight_decay", "fused") if key in group}))
            group["lr"], group["weight_decay"] = plan.rate, plan.decay
            if plan.fused:
                group["fused"] = True  # torch may choose, and this one reads once
        return before

    def step(self, plan: Plan, *, measure: bool, folded: bool) -> float | None:
        """Take the step apart from the optimizer; returns the squared norm it led to, None unless ``measure``.

        Unless ``folded``, the radial part is taken off the averaged gradient in the same pass. The optimizer has to
        make the averaged gradient first: see :meth:`alone`.
        """
        plan.carried = bool(plan.buffers) and not folded
        size = step_of_sgd(
            [p.detach() for p in self.unit.parameters],
            plan.gradients,
            plan.buffers,
            measure=measure,
            carry=plan.radial(self.unit.radius) if plan.carried else 0.0,
            lr=plan.rate,
            weight_decay=plan.decay,
            momentum=plan.momentum,
            dampening=plan.dampening,
        )
        return size if measure else None

    @staticmethod
    def alone(plan: Plan) -> bool:
        """Tell whether :meth:`step` can take the step."""
        return plan.fused and (not plan.momentum or bool(plan.buffers))

    def settle(self, plan: Plan, state: State, size: float | None, *, measure: bool, folded: bool) -> float:
        """Take off after the step what is radial, or note it; put the norm right.

        Returns the relative error of the norm; inf where the weights were zero or not finite: they are left alone.

        - ``size``: the squared norm, if it is known.
        - ``measure``: whether the norm is looked at.
        """
        unit, carried = self.unit, self.carried
        weights = [p.detach() for p in unit.parameters]
        buffers = plan.buffers or (_buffers(state, unit) if plan.momentum else [])
        mu = plan.radial(unit.radius)
        error = 0.0
        radius2 = unit.radius**2
        outward = 0.0  # <d, x>, where it shows
        if measure:
            error = (products(weights)[0] if size is None else size) / radius2 - 1
            if not 0 < 1 + error < math.inf:
                return math.inf
            eps = torch.finfo(weights[0].dtype).eps
            if abs(error) > 4 * eps:
                torch._foreach_mul_(weights, 1 / math.sqrt(1 + error))
                outward = -error * radius2 / (2 * plan.start * plan.rate) if plan.rate else 0.0
        if buffers:
            carried.square, carried.radial = (plan.direction if folded else None), -mu
            if outward or (folded and measure):
                self._put_right(buffers, weights, plan)
            elif not folded:
                if not plan.carried:
                    torch._foreach_add_(buffers, weights, alpha=mu)
                carried.radial = 0.0
        return abs(error) / 2

    def _put_right(self, buffers: list[Tensor], weights: list[Tensor], plan: Plan) -> None:
        """Make the averaged gradient tangent by what is measured, at the norm it had."""
        square, crossed, size = products(buffers, weights)
        radial = crossed / size
        torch._foreach_add_(buffers, weights, alpha=-radial)
        left = square - radial**2 * size
        if left > 0 and abs(plan.direction / left - 1) > 1e-6:
            torch._foreach_mul_(buffers, math.sqrt(plan.direction / left))
        self.carried.radial = 0.0

    def radial_part(self, plan: Plan) -> float:
        """Measure the cosine between the gradient and the weights."""
        own, crossed, size = products(plan.gradients, [p.detach() for p in self.unit.parameters])
        return abs(crossed) / math.sqrt(own * size) if own * size > 0 else 0.0

    def release(self, state: State) -> None:
        """Take the radial part off the averaged gradient, for a step by the general way."""
        buffers = _buffers(state, self.unit)
        if self.carried.radial and buffers:
            torch._foreach_add_(buffers, [p.detach() for p in self.unit.parameters], alpha=-self.carried.radial)
        self.carried = Carried()


def _buffers(state: State, unit: Unit) -> list[Tensor]:
    found = [state[p].get("momentum_buffer") for p in unit.parameters if p in state]
    return [b for b in found if b is not None]
