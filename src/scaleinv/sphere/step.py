"""Take the steps of a Sphere: let the wrapped optimizer step, return to the spheres, and back where that fails."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from scaleinv import geometry
from scaleinv.errors import StateError, UserError
from scaleinv.sphere import hyperball, shards
from scaleinv.sphere.balance import Balance, Plan, suits
from scaleinv.sphere.masters import Masters
from scaleinv.sphere.rate import ScheduledRates
from scaleinv.sphere.refuse import OWNERS
from scaleinv.sphere.ruler import Ruler
from scaleinv.sphere.units import Unit

#: a projection shorter than so many roundings of what it projects has no direction
_ROUNDINGS = 16
#: on an accelerator the flag that something went wrong is read once in so many steps
_DEFERRED_CHECK_EVERY = 100
#: a plain step shorter than this part of the radius cannot reach the origin
_SHORT = 0.9
#: what "folded" finds in its gradients and norms at most before it gives up
_RADIAL, _DRIFT = 1e-3, 1e-2
#: drift that is as small as rounding
_HARMLESS = 1e-6


class SphereSteps(ScheduledRates):
    """Step the wrapped optimizer and return every unit to its sphere."""

    masters: Masters | None
    granularity: str
    projection: str
    normalise_update: hyperball.Normalise
    correct_every: int
    #: the largest relative error of a norm that "folded" steps met
    drift: float
    check: str
    _averages: tuple[str, ...]
    _rulers: list[Ruler]
    _balances: list[Balance]
    _bad: Tensor | None
    _kept: list[Tensor] | None
    _known_owners: int

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take a step of the wrapped optimizer at the present ELR, then return to the spheres.

        ``closure``, if given, is called once before the step, as by the wrapped optimizers themselves. Under
        ``torch.compile`` the step is left out of the graph; compile the wrapped optimizer's step to have it fused.
        """
        return type(self)._outside_graphs(self, closure)

    #: _whole_step as torch.compile leaves it alone; set by the first Sphere, since it loads the compiler
    _outside_graphs: Callable[["SphereSteps", Any], float | None]

    def _whole_step(self, closure: Callable[[], float] | None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self._known_owners != OWNERS.changes:
            OWNERS.refuse_lost(self, [p for unit in self.units for p in unit.parameters])
            self._known_owners = OWNERS.changes
        self._push_rates()
        with torch.no_grad():
            if self.masters is not None:
                self.masters.take_gradients()
            self._take_step()
            if self.masters is not None:
                self.masters.give_weights()
        self._steps += 1
        if self.check == "deferred" and self._steps % _DEFERRED_CHECK_EVERY == 0:
            self.check_now()
        return loss

    def _take_step(self) -> None:
        plans = self._plans()
        general = [i for i, plan in enumerate(plans) if plan is None]
        safe = True
        if self.check == "step" and general:
            safe = self._check_gradients(general)
        rest = any(ruler.pieces is not None and ruler.pieces.rest for ruler in self._rulers)
        lost = self._sizes is not None or self.learned is not None  # the weights themselves stand aside in the step
        if not safe or rest or lost:
            self._keep_weights()
        for i in general:
            self._balances[i].release(self.optimizer.state)
        if self.learned is not None:
            self.learned.enter()
        try:
            self._inner_step(plans)
            for i, plan in enumerate(plans):
                if plan is None:
                    self._return_to_sphere(i)
                else:
                    self._settle(i, plan)
            if self.learned is not None and self.check == "step" and not self.learned.usable():
                raise StateError(
                    f"step {self._steps} takes a trained radius to zero or beyond the numbers; choose a smaller "
                    "learn_radius; the weights are as they were before it, the optimizer's averages are not"
                )
        except BaseException:
            if lost:
                self._restore()
            if self.learned is not None:
                self.learned.give_back()
            raise
        if self.learned is not None:
            self.learned.leave()

    def _plans(self) -> list[Plan | None]:
        """Balance the step of every unit that can be balanced."""
        plain = self.projection != "literal" and self.learned is None and self._sizes is None
        if not plain or not suits(self.optimizer):
            return [None] * len(self.units)
        groups = self._inner_groups()
        folded = self.projection == "folded"
        plans = []
        for i, balance in enumerate(self._balances):
            rate = groups[i][0]["lr"]
            plans.append(balance.plan(groups[i], self.optimizer.state, rate, folded=folded))
        if folded and self._steps == 0:
            self._refuse_radial(plans)
        return plans

    def _inner_groups(self) -> list[list[dict[str, Any]]]:
        found: list[list[dict[str, Any]]] = [[] for _ in self.units]
        for group, unit in zip(self.optimizer.param_groups, self._unit_of_group):
            if unit is not None:
                found[unit].append(group)
        return found

    def _refuse_radial(self, plans: list[Plan | None]) -> None:
        for i, plan in enumerate(plans):
            radial = 0.0 if plan is None else self._balances[i].radial_part(plan)
            turn = 0.0 if plan is None else plan.rate * math.sqrt(plan.direction) / self.units[i].radius
            if radial > _RADIAL and radial * turn * self.correct_every > _HARMLESS:
                raise UserError(
                    f"the gradient of {self.units[i].name} has a radial part of {radial:.1e} of itself, so these "
                    "weights are not scale-invariant and 'folded' would drift; use projection='exact'"
                )

    def _inner_step(self, plans: list[Plan | None]) -> None:
        groups = self._inner_groups()
        changed: list[tuple[dict[str, Any], dict[str, Any]]] = []
        if self._sizes is not None and self._sizes.zeros:
            for unit in self.units:
                torch._foreach_zero_([shards.local(p) for p in unit.parameters])
        try:
            for i, plan in enumerate(plans):
                if plan is not None:
                    changed += self._balances[i].enter(groups[i], plan)
            self.optimizer.step()
        finally:
            for group, before in changed:
                group.update(before)

    def _check_gradients(self, units: Sequence[int]) -> bool:
        """Raise for gradients that are not finite; whether the steps are too short to need a way back."""
        plain = suits(self.optimizer) and self._sizes is None and self.learned is None
        groups = self._inner_groups()
        safe = True
        for i in units:
            unit, ruler = self.units[i], self._rulers[i]
            found = [
                (k, name, g)
                for k, (name, p) in enumerate(zip(unit.names, unit.parameters))
                if (g := shards.gradient(p)) is not None
            ]
            if not found:
                continue
            if ruler.sharded:
                size = float(ruler.norms([g for _, _, g in found], [k for k, _, _ in found]).max())
            else:  # torch's own norm: only whether it is finite matters
                norms = torch._foreach_norm([g.coalesce().values() if g.is_sparse else g for _, _, g in found])
                size = torch.stack(norms).square().sum().sqrt().item()
                if math.isinf(size):
                    size = torch.stack(norms).sum().item()
            if not math.isfinite(size):
                what = f"the norm of the gradient of {unit.name} is too large for its dtype"
                if ruler.sharded:
                    what = f"the gradient of {unit.name} is not finite on another process"
                for _, name, gradient in reversed(found):
                    if not bool(torch.isfinite(gradient).all()):
                        what = f"the gradient of {name} (shape {tuple(gradient.shape)}) is not finite"
                raise StateError(f"{what} at step {self._steps}")
            short = plain and all(not g["momentum"] for g in groups[i])
            radius = unit.radius
            safe = safe and short and float(groups[i][0]["lr"]) * size < _SHORT * radius
        return safe

    def _keep_weights(self) -> None:
        """Copy all weights, so that a step that ends nowhere can be taken back."""
        weights = [shards.local(p) for g in self.optimizer.param_groups for p in g["params"]]
        if self._kept is None or len(self._kept) != len(weights):
            self._kept = [torch.empty_like(w) for w in weights]
        torch._foreach_copy_(self._kept, weights)
        self._kept_at = self._steps

    _kept_at = -1

    def _restore(self) -> None:
        """Put the kept weights back."""
        if self._kept is None or self._kept_at != self._steps:
            return
        torch._foreach_copy_([shards.local(p) for g in self.optimizer.param_groups for p in g["params"]], self._kept)

    def _copies(self, unit: int) -> list[Tensor]:
        """Give the kept weights of a unit."""
        assert self._kept is not None
        at = {id(p): k for k, p in enumerate(p for g in self.optimizer.param_groups for p in g["params"])}
        return [self._kept[at[id(p)]] for p in self.units[unit].parameters]

    def radius_of(self, unit: int) -> Tensor | float:
        """Give the radius of a unit at present: a number, or one for each piece where they differ or are trained."""
        if self.learned is not None:
            return self.learned.values()[unit]
        radii = self.units[unit].radii
        return self.units[unit].radius if radii is None else radii

    def _radius_now(self, index: int) -> Tensor | float:
        unit = self.units[index]
        return 1.0 if self.learned is not None else unit.radius if unit.radii is None else unit.radii

    def _return_to_sphere(self, index: int) -> None:
        unit, ruler = self.units[index], self._rulers[index]
        weights = [shards.local(p) for p in unit.parameters]
        elr = self._elr_of_unit[index]
        if self._sizes is not None:
            kept = self._copies(index)
            if not self._sizes.zeros:
                torch._foreach_sub_(weights, kept)
            size = hyperball.turn(ruler, weights, kept, self._radius_now(index), elr, self.normalise_update)
            if not self._sizes.zeros:
                rate = self._sizes.rate(index, unit.radius, elr)
                self._sizes.note(index, float(size.square().mean().sqrt()), rate)
        sizes = ruler.norms(weights)
        present = (sizes >= 0) if unit.waits else (sizes > 0)
        if self.check != "step":
            good = (torch.isfinite(sizes) & present).all()
            self._bad = ~good if self._bad is None else self._bad.to(good.device) | ~good
        elif not (bool(present.all()) and math.isfinite(sizes.max().item())):
            self._take_back(unit)
        factor = self._radius_now(index) / sizes
        if unit.waits:
            factor = torch.where(sizes > 0, factor, torch.ones_like(factor))
            self.units[index] = replace(unit, waits=not bool((sizes > 0).all()))
        ruler.multiply(weights, factor)
        if ruler.pieces is not None and ruler.pieces.rest:
            self._step_rest(index, weights[0])
        nowhere = self.units[index].waits and ruler.pieces is None  # at the origin every direction is tangent
        if self.law == "sgd" and not nowhere:
            self._transport(index)

    def _settle(self, index: int, plan: Plan) -> None:
        folded = self.projection == "folded"
        measure = not folded or (self._steps + 1) % self.correct_every == 0
        momentum = float(self._inner_groups()[index][0]["momentum"])
        error = self._balances[index].settle(plan, self.optimizer.state, momentum, measure=measure, folded=folded)
        if folded and measure:
            self.drift = max(self.drift, error)
            if error > _DRIFT:
                raise StateError(
                    f"the norm of {self.units[index].name} drifted by {error:.1e} within {self.correct_every} steps "
                    "and was put right: the gradients have a radial part; use projection='exact'"
                )

    def _step_rest(self, index: int, weight: Tensor) -> None:
        """Give the slices outside the ranges of a cut the step of their own learning rate."""
        pieces = self._rulers[index].pieces
        assert pieces is not None
        group = self._unit_of_group.index(index)
        rate = float(self.optimizer.param_groups[group]["lr"])
        share = float(self.param_groups[group]["rest_lr"]) / rate if rate else 0.0
        kept = self._copies(index)[0]
        outside = pieces.spread(weight.new_zeros(pieces.count), 1.0) > 0
        update = weight if self._sizes is not None else weight - kept
        weight.copy_(torch.where(outside, kept + share * update, weight))

    def _take_back(self, unit: Unit) -> None:
        """Name what went wrong, restore all weights, raise."""
        local = [shards.local(p) for p in unit.parameters]
        bad = [name for name, w in zip(unit.names, local) if not bool(torch.isfinite(w).all())]
        self._restore()
        raise StateError(
            f"step {self._steps} at ELR {self.elr:g} leaves {(bad or [unit.name])[0]} with a zero or non-finite norm; "
            "the weights are as they were before it, the optimizer's averages are not"
        )

    def _transport(self, index: int) -> None:
        """Project averaged gradients on the new tangent space and rescale them to the norm they had."""
        unit, ruler = self.units[index], self._rulers[index]
        state_of = self.optimizer.state
        for key in self._averages:
            held = [
                (k, p, state_of[p][key])
                for k, p in enumerate(unit.parameters)
                if p in state_of and state_of[p].get(key) is not None
            ]
            if not held:
                continue
            positions = [k for k, _, _ in held]
            weights, buffers = [shards.local(p) for _, p, _ in held], [shards.local(b) for _, _, b in held]
            before = ruler.norms(buffers, positions)
            if ruler.pieces is not None:
                ruler.add(buffers, weights, -(ruler.dot(buffers, weights) / self._radius_now(index) ** 2))
            elif ruler.sharded or ruler.quick:
                size = ruler.dot(weights, weights, positions)
                ruler.add(buffers, weights, -ruler.dot(buffers, weights, positions) / size)
            else:
                geometry.project_tangent_(buffers, weights)
            after = ruler.norms(buffers, positions)
            noise = _ROUNDINGS * torch.finfo(buffers[0].dtype).eps
            ruler.multiply(buffers, torch.where(after > noise * before, before / after, torch.ones_like(after)))

    def check_now(self) -> None:
        """Wait for the device and raise :class:`StateError` if any step since the last check met a bad norm."""
        if self._bad is not None and bool(self._bad):
            self._bad = None
            raise StateError(
                f"within the {_DEFERRED_CHECK_EVERY} steps before step {self._steps} a norm became zero or not finite; "
                "use check='step' to stop before the step that does it"
            )
        self._bad = None


def leave_steps_out_of_graphs() -> None:
    """Tell torch.compile to leave the steps alone, once."""
    if not hasattr(SphereSteps, "_outside_graphs"):
        SphereSteps._outside_graphs = torch.compiler.disable(SphereSteps._whole_step)  # type: ignore[no-untyped-call]
