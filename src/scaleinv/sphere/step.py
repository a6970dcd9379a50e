"""Take the steps of a Sphere: let the wrapped optimizer step, return to the spheres, and back where that fails."""

from collections.abc import Callable
from typing import Any, overload

import torch

from scaleinv.errors import StateError
from scaleinv.sphere.balanced import BalancedSteps
from scaleinv.sphere.guard import DEFERRED_CHECK_EVERY
from scaleinv.sphere.masters import Masters
from scaleinv.sphere.refuse import OWNERS, refuse_present


class SphereSteps(BalancedSteps):
    """Step the wrapped optimizer and return every unit to its sphere."""

    masters: Masters | None
    granularity: str
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
        refuse_present(self.optimizer, self.units, self._unit_of_group, self.learned is not None)
        self._push_rates()
        with torch.no_grad():
            if self.masters is not None:
                self.masters.take_gradients()
            self._take_step()
            if self.masters is not None:
                self.masters.give_weights()
        self._steps += 1
        if self.check == "deferred" and self._steps % DEFERRED_CHECK_EVERY == 0:
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
            self._finish(plans, self._inner_step(plans))
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


def leave_steps_out_of_graphs() -> None:
    """Tell torch.compile to leave the steps alone, once."""
    if not hasattr(SphereSteps, "_outside_graphs"):
        SphereSteps._outside_graphs = torch.compiler.disable(SphereSteps._whole_step)  # type: ignore[no-untyped-call]
