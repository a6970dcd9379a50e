r"""Split the change of a norm into its three forces: decay, the radial part of the update, growth at right angles.

A step ``d`` of a weight ``w`` of norm rho changes the norm by::

    rho' - rho = -decay + pull + growth
    decay = length of the part of the step that weight decay is      pull = <d, w>/rho + decay
    growth = |w + d| - (rho + <d, w>/rho), about tangential^2/(2 rho)

``pull`` is the radial part of the update: zero for plain SGD on a scale-invariant weight, not with momentum, whose
buffer remembers gradients of before. ``growth`` is never negative.

Decay that passes through a momentum buffer (SGD with coupled decay) acts in all later steps too. Its part of a step is
``lr B`` with ``B' = m B + (1 - dampening) wd rho``; in the very first step of an optimizer ``B = wd rho``, and where
that was not seen the buffer is taken as full: ``B = wd rho (1 - dampening)/(1 - m)``. Between logged steps the norm is
taken as the last one logged. The turn of the weights within the memory of the buffer is left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.rates import Rates

Array = npt.NDArray[np.float64]
_RHO, _RADIAL, _TANGENTIAL = COLUMN["rho"], COLUMN["radial"], COLUMN["tangential"]
_DECAY, _PULL, _GROWTH = COLUMN["decay"], COLUMN["pull"], COLUMN["growth"]


@dataclass
class _Buffer:
    """What decay has put into the momentum buffer of a group, ``B``, and the step when that was."""

    value: float
    step: int


class Forces:
    """Fills the columns ``decay``, ``pull`` and ``growth`` of a row; knows the buffers of the groups."""

    def __init__(self, fresh: bool) -> None:
        self._fresh = fresh  # the optimizers had no state when the monitor came
        self._buffers: dict[str, _Buffer] = {}

    def forget(self) -> None:
        """Take the buffers as full from now on: a state was loaded."""
        self._fresh = False
        self._buffers.clear()

    def fill(
        self,
        steps: Sequence[int],
        names: Sequence[str],
        values: Array,
        rates: Sequence[Sequence[Rates]],
        chosen: Sequence[int],
    ) -> None:
        """Fill the columns in place, ``values`` of shape (steps, 1 + groups, quantities); names and the rates of a step
        have the total first, ``chosen`` are the groups in it.
        """
        groups = names[1:]
        sizes = values[:, 1:, _RHO].tolist()
        values[:, 1:, _DECAY] = [
            [self._decay(step, name, rho, rate) for name, rho, rate in zip(groups, row, mine[1:])]
            for step, row, mine in zip(steps, sizes, rates)
        ]
        rho, decay = values[:, :, _RHO], values[:, :, _DECAY]
        places = [i + 1 for i in chosen]
        radial = decay.copy()  # radial part of the decay: of a group all of it
        with np.errstate(all="ignore"):
            if places:
                decay[:, 0] = np.sqrt(np.sum(decay[:, places] ** 2, axis=1))
                along = np.sum(decay[:, places] * rho[:, places], axis=1)
                radial[:, 0] = np.where(rho[:, 0] > 0, along / rho[:, 0], decay[:, 0])
            else:
                decay[:, 0] = radial[:, 0] = np.nan
            along = rho + values[:, :, _RADIAL]
            values[:, :, _PULL] = values[:, :, _RADIAL] + radial
            across = values[:, :, _TANGENTIAL]
            whole = np.hypot(along, across)
            # |w + d| - along without cancellation
            values[:, :, _GROWTH] = np.where(along > 0, across**2 / (whole + along), whole - along)

    def _decay(self, step: int, name: str, rho: float, rate: Rates) -> float:
        if not rate.wd:
            return 0.0 if rate.wd == 0 else math.nan
        if not rate.direct or rho != rho:
            return math.nan
        if not rate.memory > 0:
            return rate.lr * rate.wd * rho if rate.memory == 0 else math.nan
        m, new, put = rate.memory, rate.wd * rho, rate.gain
        last = self._buffers.get(name)
        full = new * put / (1 - m)
        if last is None:
            value = new if self._fresh and step == 0 else full
        else:
            gone = max(1, step - last.step)
            value = m**gone * last.value + (1 - m**gone) * full
        self._buffers[name] = _Buffer(value, step)
        return rate.lr * (new + m * value if rate.nesterov else value)
