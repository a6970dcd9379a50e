"""Take steps of SGD that come out on the sphere by themselves, unit by unit, and put right what is left."""

import math
from typing import Any

import torch
from torch import Tensor

from scaleinv.errors import StateError, UserError
from scaleinv.sphere import shards
from scaleinv.sphere.balance import Balance, Plan, suits
from scaleinv.sphere.project import ProjectedSteps

#: what "folded" finds in its gradients and norms at most before it gives up
_RADIAL, _DRIFT = 1e-3, 1e-2
#: drift that is as small as rounding
_HARMLESS = 1e-6


class BalancedSteps(ProjectedSteps):
    """Balance the steps of all units that allow it."""

    projection: str
    correct_every: int
    #: the largest relative error of a norm that "folded" steps met
    drift: float
    _balances: list[Balance]

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

    def _refuse_radial(self, plans: list[Plan | None]) -> None:
        for i, plan in enumerate(plans):
            radial = 0.0 if plan is None else self._balances[i].radial_part(plan)
            turn = 0.0 if plan is None else plan.rate * math.sqrt(plan.direction) / self.units[i].radius
            if radial > _RADIAL and radial * turn * self.correct_every > _HARMLESS:
                raise UserError(
                    f"the gradient of {self.units[i].name} has a radial part of {radial:.1e} of itself, so these "
                    "weights are not scale-invariant and 'folded' would drift; use projection='exact'"
                )

    def _note_lost(self, index: int, like: Tensor) -> None:
        """Raise for weights that were zero or not finite before the step; ``deferred``: remember it."""
        if self.check != "step":
            self._bad = torch.ones((), dtype=torch.bool, device=like.device)
            return
        raise StateError(
            f"the weights of {self.units[index].name} have become zero or not finite since the last step; "
            "give them back their numbers"
        )

    def _inner_step(self, plans: list[Plan | None]) -> set[int]:
        """Step the wrapped optimizer; returns the units that are left to :meth:`~.balance.Balance.step`."""
        groups = self._inner_groups()
        if self._sizes is not None and self._sizes.zeros:
            for unit in self.units:
                torch._foreach_zero_([shards.local(p) for p in unit.parameters])
        alone: set[int] = set()
        if not hasattr(self.optimizer, "grad_scale"):
            alone = {i for i, plan in enumerate(plans) if plan is not None and Balance.alone(plan)}
        inner = self.optimizer.param_groups
        changed: list[tuple[dict[str, Any], dict[str, Any]]] = []
        try:
            for i, plan in enumerate(plans):
                if plan is not None and i not in alone:
                    changed += self._balances[i].enter(groups[i], plan)
            rest = [group for group, unit in zip(inner, self._unit_of_group) if unit not in alone]
            if rest:
                if alone:
                    self.optimizer.param_groups = rest
                self.optimizer.step()
        finally:
            self.optimizer.param_groups = inner
            for group, before in changed:
                group.update(before)
        return alone

    def _finish(self, plans: list[Plan | None], alone: set[int]) -> None:
        """Bring every unit to its sphere, after the steps that are still to be taken."""
        folded = self.projection == "folded"
        measure = not folded or (self._steps + 1) % self.correct_every == 0
        drifted: tuple[float, str] = (0.0, "")
        for i, plan in enumerate(plans):
            if plan is None:
                self._return_to_sphere(i)
                continue
            balance = self._balances[i]
            size = balance.step(plan, measure=measure, folded=folded) if i in alone else None
            error = balance.settle(plan, self.optimizer.state, size, measure=measure, folded=folded)
            if math.isinf(error):
                self._note_lost(i, plan.gradients[0])
            elif folded and measure:
                drifted = max(drifted, (error, self.units[i].name))
        self.drift = max(self.drift, drifted[0])
        if drifted[0] > _DRIFT:
            raise StateError(
                f"the norm of {drifted[1]} drifted by {drifted[0]:.1e} within {self.correct_every} steps "
                "and was put right: the gradients have a radial part; use projection='exact'"
            )
