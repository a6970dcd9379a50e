"""Keep the learning rates of a wrapped optimizer at what the ELR asks for."""

from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.sphere import hyperball
from scaleinv.sphere.learned import Radii
from scaleinv.sphere.units import Unit, check_elr
from scaleinv.theory.rates import Law
from scaleinv.theory.rates import lr as learning_rate_of

_LARGEST_RATE = 3.4e38

Elr = float | Callable[[int], float]


class ScheduledRates(Optimizer):
    """Hold the ELR as the scheduled hyper-parameter and put the rates that follow into the wrapped optimizer."""

    optimizer: Optimizer
    law: Law
    units: list[Unit]
    learned: Radii | None
    _elr: Callable[[int], float] | None
    _steps: int
    _sizes: hyperball.Sizes | None
    #: for every inner param group the index of its unit, None for weights with a scale of their own
    _unit_of_group: list[int | None]
    _last_elr: list[float]
    _pushed: list[float | None]
    _elr_of_unit: dict[int, float]

    @property
    def elr(self) -> float:
        """The ELR of the next step (of the first sphere, should a scheduler treat them differently)."""
        if self._elr is not None:
            return check_elr(self._elr(self._steps), zero=True)
        index = next(i for i, unit in enumerate(self._unit_of_group) if unit is not None)
        return float(self.param_groups[index]["lr"])

    @property
    def steps(self) -> int:
        """The number of steps taken."""
        return self._steps

    def learning_rate(self, unit: int, elr: float) -> float:
        """Compute the learning rate that acts as ``elr`` on a sphere, by :func:`scaleinv.theory.rates.lr`."""
        radius = 1.0 if self.learned is not None else self.units[unit].radius
        return float(learning_rate_of(elr, radius, self.law))

    def push_rates(self) -> None:
        """Put the rates of the next step into the wrapped optimizer, for a step that the caller takes itself."""
        self._push_rates()

    def count_step(self) -> None:
        """Count a step that the caller has taken itself."""
        self._steps += 1

    def _present_rates(self) -> list[float | None]:
        """Read the rates inside the wrapped optimizer; None where reading one would wait for an accelerator."""
        rates = [g["lr"] for g in self.optimizer.param_groups]
        return [None if isinstance(r, Tensor) and r.device.type != "cpu" else float(r) for r in rates]

    def _push_rates(self) -> None:
        inner = self.optimizer.param_groups
        scheduled = None if self._elr is None else check_elr(self._elr(self._steps), zero=True)
        elr_of_unit = self._elr_of_unit = {}
        for before, now in zip(self._pushed, self._present_rates()):
            if before != now:
                raise UserError(
                    f"the lr of the wrapped optimizer was changed from {before} to {now} by something else; "
                    "attach the scheduler to the Sphere: there it schedules the ELR"
                )
        for i, unit in enumerate(self._unit_of_group):
            group = self.param_groups[i]
            rate = group["lr"]
            if unit is not None:
                if scheduled is not None:
                    if rate != self._last_elr[i]:
                        raise UserError("a function of the step and a scheduler both set the ELR; use one of the two")
                    group["lr"] = self._last_elr[i] = scheduled
                elr = check_elr(group["lr"], zero=True)
                if elr_of_unit.setdefault(unit, elr) != elr:
                    raise UserError(
                        f"one sphere ({self.units[unit].name}) got the two ELRs {elr_of_unit[unit]} and {elr}; "
                        "use granularity 'group' for different rates"
                    )
                if self._sizes is not None:
                    rate = self._sizes.rate(unit, self.units[unit].radius, elr)
                else:
                    rate = self.learning_rate(unit, elr)
                if rate > _LARGEST_RATE:
                    raise UserError(
                        f"ELR {elr:g} at the radius {self.units[unit].radius:g} needs the learning rate "
                        f"{rate:g}, beyond float32; choose a smaller ELR or radius"
                    )
            if isinstance(inner[i]["lr"], Tensor):
                inner[i]["lr"].fill_(rate)
            else:
                inner[i]["lr"] = rate
        self._pushed = self._present_rates()
