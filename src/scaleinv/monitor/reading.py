"""Bring the numbers of a logged step from the device to the host, and make its record of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaleinv.monitor.groups import Roster
from scaleinv.monitor.measure import SUMS
from scaleinv.monitor.probe import StepProbe, to_host
from scaleinv.monitor.quantities import derive
from scaleinv.monitor.rates import Rates, common
from scaleinv.monitor.records import Record

_HAS_G = np.array([SUMS.index(name) for name in ("gg", "gw", "gd")])


class Arrival:
    """A logged step whose numbers are on their way to the host."""

    def __init__(
        self,
        step: int,
        epoch: int | None,
        probes: list[tuple[StepProbe, dict[int, Rates]]],
        loss: Tensor | None,
        skipped: Tensor | None,
        roster: Roster,
    ) -> None:
        self.step, self.epoch, self.roster = step, epoch, roster
        self.tensors = [(t, has) for probe, _ in probes for t, has in zip(probe.tensors, probe.has_gradient)]
        self.rates = {key: rate for _, found in probes for key, rate in found.items()}
        parts = [probe.sums.reshape(-1) for probe, _ in probes if probe.sums is not None]
        self.told = loss is not None
        if loss is not None:
            parts.append(loss.to(parts[0].dtype).reshape(1))
        self.counted = skipped is not None
        if skipped is not None:
            parts.append(skipped.to(parts[0].dtype))
        self.host, self.event = to_host(parts)

    def ready(self, wait: bool) -> bool:
        """Tell whether the numbers are there; ``wait``: wait until they are."""
        if self.event is None:
            return True
        if wait:
            self.event.synchronize()
        return bool(self.event.query())

    def read(self) -> tuple[Record, list[Rates], str] | None:
        """Work out the record, the rates of the total and of every group, and the first tensor that is not finite
        ("" if all are); None for a step that GradScaler has skipped.
        """
        numbers = [h.numpy() for h in self.host]
        step = self.step
        if self.counted:
            skipped, so_far = numbers.pop()
            if skipped:
                return None
            step -= int(so_far)
        loss = float(numbers.pop()[0]) if self.told else float("nan")
        sums = np.concatenate(numbers).astype(np.float64).reshape(-1, len(SUMS))
        groups, count = self.roster.groups, len(self.roster.groups)
        owner = np.array([self.roster.owner[id(t)] for t, _ in self.tensors])
        has = np.array([h for _, h in self.tensors], bool)
        first_bad = self._first_bad(sums, has)
        sums[np.ix_(~has, _HAS_G)] = 0.0
        grouped, seen, slopes = np.zeros((count + 1, len(SUMS))), np.zeros(count + 1, int), np.zeros(count + 1, int)
        np.add.at(grouped[1:], owner, sums)
        np.add.at(seen[1:], owner, 1)
        np.add.at(slopes[1:], owner, has)
        # the total: all scale-invariant groups; where none is known, all
        free = [g.scale_free for g in groups]
        chosen = [i for i in range(count) if seen[i + 1] and (free[i] or not any(free))]
        grouped[0] = grouped[1:][chosen].sum(axis=0)
        slopes[0] = slopes[1:][chosen].sum()
        grouped[np.ix_(slopes == 0, _HAS_G)] = np.nan
        none = [Rates(float("nan"), float("nan"), "measured")]
        merged = [common([self.rates[id(t)] for t in g.tensors if id(t) in self.rates] or none) for g in groups]
        merged.insert(0, common([merged[i] for i in chosen] or none))
        values = derive(grouped, merged, [any(free), *free])
        # of a group that only some optimizers of this round have moved, nothing is known
        whole = [True, *(seen[i + 1] == len(g.tensors) for i, g in enumerate(groups))]
        values[~np.array(whole)] = np.nan
        return Record(step, self.epoch, loss, self.roster.titles, values, self.told), merged, first_bad

    def _first_bad(self, sums: Any, has: Any) -> str:
        """Name the first tensor, in the order of the model, with a gradient or a weight that is not finite."""
        gradient = has & ~np.isfinite(sums[:, SUMS.index("gg")])
        weight = ~np.isfinite(sums[:, SUMS.index("ww")]) | ~np.isfinite(sums[:, SUMS.index("dw")])
        if not (gradient | weight).any():
            return ""
        names = self.roster.names
        order = {key: i for i, key in enumerate(names)}
        bad = sorted(np.flatnonzero(gradient | weight), key=lambda i: order.get(id(self.tensors[i][0]), len(order)))
        first = bad[0]
        what = "gradient" if gradient[first] else "weight"
        return f"{what} of {names.get(id(self.tensors[first][0]), 'a tensor outside the model')}"


def mean_loss(losses: Sequence[Tensor | float]) -> Tensor | None:
    """Average the losses that were told for a step, on their device."""
    if not losses:
        return None
    tensors = [x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64) for x in losses]
    device = tensors[0].device
    exact = torch.float32 if device.type == "mps" else torch.float64
    return torch.stack([x.to(device, exact).mean() for x in tensors]).mean()
