"""Notice what is not finite before it gets into the weights, and take a step back that ends nowhere."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from scaleinv.errors import StateError
from scaleinv.sphere import shards
from scaleinv.sphere.balance import suits
from scaleinv.sphere.rate import ScheduledRates
from scaleinv.sphere.ruler import Ruler
from scaleinv.sphere.units import Unit

#: on an accelerator the flag that something went wrong is read once in so many steps
DEFERRED_CHECK_EVERY = 100
#: a plain step shorter than this part of the radius cannot reach the origin
_SHORT = 0.9


class GuardedSteps(ScheduledRates):
    """Look at gradients before a step and keep the weights where it may have to be taken back."""

    check: str
    _rulers: list[Ruler]
    _bad: Tensor | None
    _kept: list[Tensor] | None
    _kept_at = -1

    def _inner_groups(self) -> list[list[dict[str, Any]]]:
        found: list[list[dict[str, Any]]] = [[] for _ in self.units]
        for group, unit in zip(self.optimizer.param_groups, self._unit_of_group):
            if unit is not None:
                found[unit].append(group)
        return found

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

    def _take_back(self, unit: Unit) -> None:
        """Name what went wrong, restore all weights, raise."""
        local = [shards.local(p) for p in unit.parameters]
        bad = [name for name, w in zip(unit.names, local) if not bool(torch.isfinite(w).all())]
        self._restore()
        raise StateError(
            f"step {self._steps} at ELR {self.elr:g} leaves {(bad or [unit.name])[0]} with a zero or non-finite norm; "
            "the weights are as they were before it, the optimizer's averages are not"
        )

    def check_now(self) -> None:
        """Wait for the device and raise :class:`StateError` if any step since the last check met a bad norm."""
        if self._bad is not None and bool(self._bad):
            self._bad = None
            raise StateError(
                f"within the {DEFERRED_CHECK_EVERY} steps before step {self._steps} a norm became zero or not finite; "
                "use check='step' to stop before the step that does it"
            )
        self._bad = None
