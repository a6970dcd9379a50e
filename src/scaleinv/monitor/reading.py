"""Bring the numbers of a logged step from the device to the host, and make its record of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from scaleinv.geometry import summing_dtype
from scaleinv.monitor.extras import Numbers
from scaleinv.monitor.forces import Forces
from scaleinv.monitor.groups import Roster
from scaleinv.monitor.measure import SUMS
from scaleinv.monitor.probe import StepProbe, to_host
from scaleinv.monitor.quantities import derive, tangential_parts
from scaleinv.monitor.rates import RateBook, Rates, common, engine, with_factor
from scaleinv.monitor.records import Record
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.traits import traits_of

#: |log| of the rate that acted by that of the label, above which they are said to differ
_LAW_TOLERANCE = math.log(1.1)
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
        numbers: Numbers | None = None,
        optimizers: Sequence[Optimizer] = (),
        extra: tuple[str, ...] = (),
    ) -> None:
        self.step, self.epoch, self.roster, self.extra = step, epoch, roster, extra
        self.tensors = [(t, has) for probe, _ in probes for t, has in zip(probe.tensors, probe.has_gradient)]
        self.keys_of_optimizers = [id(engine(one)) for one in optimizers]
        self.predictions = (
            _predictions(probes) if numbers is not None and any(k[0] == "first" for k in numbers.keys) else {}
        )
        self.rates = {key: rate for _, found in probes for key, rate in found.items()}
        parts = [probe.sums.reshape(-1) for probe, _ in probes if probe.sums is not None]
        self.numbers = Numbers() if numbers is None else numbers
        if self.numbers.tensors:
            parts += [t.detach().to(parts[0].dtype).reshape(1) for t in self.numbers.tensors]
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

    def read(self, forces: Forces, book: RateBook) -> Reading | None:
        """Work out the record and what goes with it; None for a step that GradScaler has skipped."""
        numbers = [h.numpy() for h in self.host]
        step = self.step
        if self.counted:
            skipped, so_far = numbers.pop()
            if skipped:
                return None
            step -= int(so_far)
        loss = float(numbers.pop()[0]) if self.told else float("nan")
        extra = {}
        for key in reversed(self.numbers.keys):
            extra[key] = float(numbers.pop()[0])
        sums = np.concatenate(numbers).astype(np.float64).reshape(-1, len(SUMS))
        groups, count = self.roster.groups, len(self.roster.groups)
        owner = np.array([self.roster.owner[id(t)] for t, _ in self.tensors])
        has = np.array([h for _, h in self.tensors], bool)
        bad = self._bad(sums, has)
        place_of = {id(t): i for i, (t, _) in enumerate(self.tensors)}
        off = self._check_laws(extra, sums, place_of, book)
        firsts = self._first_steps(extra, sums, place_of)
        sums[np.ix_(~has, _HAS_G)] = 0.0
        grouped, seen, slopes = np.zeros((count + 1, len(SUMS))), np.zeros(count + 1, int), np.zeros(count + 1, int)
        np.add.at(grouped[1:], owner, sums)
        np.add.at(seen[1:], owner, 1)
        np.add.at(slopes[1:], owner, has)
        # the total: all scale-invariant groups; where none is known, all
        free = [g.scale_free for g in groups]
        chosen = [i for i in range(count) if free[i] or not any(free)]
        grouped[0] = grouped[1:][chosen].sum(axis=0)
        slopes[0] = slopes[1:][chosen].sum()
        grouped[np.ix_(slopes == 0, _HAS_G)] = np.nan
        none = [Rates(float("nan"), float("nan"), "measured")]
        merged = [common([self.rates[id(t)] for t in g.tensors if id(t) in self.rates] or none) for g in groups]
        merged.insert(0, common([merged[i] for i in chosen] or none))
        sizes = np.array([sum(groups[i].size for i in chosen), *(g.size for g in groups)], np.float64)
        acting = self._acting(sums, owner, chosen, merged)
        values = derive(grouped, merged, [any(free), *free], acting, sizes)
        for key, value in extra.items():
            if key[0] == "column" and len(groups[self.roster.owner[key[1]]].tensors) == 1:
                values[self.roster.owner[key[1]] + 1, key[2]] = value
        # of a group that only some optimizers of this round have moved, nothing is known
        whole = [seen[i + 1] == len(g.tensors) for i, g in enumerate(groups)]
        values[~np.array([all(whole[i] for i in chosen) and bool(chosen), *whole])] = np.nan
        forces.fill(step, self.roster.titles, values, merged, chosen)
        record = Record(step, self.epoch, loss, self.roster.titles, values, self.told, self.extra)
        rows = {key[1]: (value, extra["new rows", key[1]]) for key, value in extra.items() if key[0] == "rows"}
        return Reading(record, merged, bad, len(self.tensors), off, firsts, rows)

    def _check_laws(
        self, extra: dict[Any, float], sums: Any, place_of: dict[int, int], book: RateBook
    ) -> dict[tuple[int, int], tuple[float, float]]:
        """Compare the length of steps with what the state says; where they differ, go on with the rate that acted.

        Gives (label, acted) of every param group that is off.
        """
        off = {}
        for key, unit in extra.items():
            if key[0] != "law" or key[3] not in place_of or not unit > 0:
                continue
            row = sums[place_of[key[3]]]
            ww, dw = row[0], row[1]
            length = math.hypot(float(tangential_parts(row[None])[0]), dw / math.sqrt(ww) if ww > 0 else 0.0)
            rate = self.rates.get(key[3])
            # of a step near the rounding of the weights nothing can be said
            if rate is None or not (math.isfinite(length) and length > 1e-5 * math.sqrt(ww) and rate.lr > 0):
                continue
            owner, place = self.keys_of_optimizers[key[1]], key[2]
            label = rate.lr / book.hidden.get((owner, place), 1.0)
            acted = length / unit
            if abs(math.log(acted / label)) > _LAW_TOLERANCE:
                off[owner, place] = (label, acted)
                book.hidden[owner, place] = acted / label
                new = with_factor(rate, acted / rate.lr)
                self.rates = {k: new if r is rate else r for k, r in self.rates.items()}
            elif (owner, place) in book.hidden:
                del book.hidden[owner, place]
        return off

    def _first_steps(self, extra: dict[Any, float], sums: Any, place_of: dict[int, int]) -> dict[str, float]:
        """Measured length of the optimizer's very first step by the predicted one, of every tensor that has one."""
        found = {}
        for key, entries in extra.items():
            if key[0] != "first" or key[1] not in place_of:
                continue
            row = sums[place_of[key[1]]]
            ww, dw, gg = float(row[0]), float(row[1]), float(row[5])
            rate, predict = self.rates.get(key[1]), self.predictions.get(key[1])
            if rate is None or predict is None or not (gg > 0 and math.isfinite(gg)):
                continue
            radial = dw / math.sqrt(ww) + (rate.lr * rate.wd * math.sqrt(ww) if rate.direct else 0.0) if ww > 0 else 0.0
            length = math.hypot(float(tangential_parts(row[None])[0]), radial) if ww > 0 else math.nan
            wanted = predict(rate, math.sqrt(gg), int(entries))
            if wanted and math.isfinite(length) and wanted > 1e-5 * math.sqrt(ww):
                found[self.roster.names.get(key[1], "a tensor outside the model")] = length / wanted
        return found

    def _acting(self, sums: Any, owner: Any, chosen: Sequence[int], merged: Sequence[Rates]) -> Any:
        """Find the learning rate that acted on groups with several, from how far it moved their tensors."""
        result = np.full(len(merged), np.nan)
        odd = [i for i, rate in enumerate(merged) if rate.lr != rate.lr]
        if not odd:
            return None
        moved = tangential_parts(sums) ** 2
        lr = np.array([self.rates[id(t)].lr if id(t) in self.rates else np.nan for t, _ in self.tensors])
        with np.errstate(all="ignore"):
            for i in odd:
                here = (np.isin(owner, chosen) if i == 0 else owner == i - 1) & (lr > 0)
                whole, unit = moved[here].sum(), (moved[here] / lr[here] ** 2).sum()
                if here.any():
                    result[i] = np.sqrt(whole / unit) if unit > 0 else np.sqrt(np.mean(lr[here] ** 2))
        return result

    def _bad(self, sums: Any, has: Any) -> list[tuple[str, str]]:
        """List the tensors with a gradient or a weight that is not finite, in the order of the model."""
        gradient = has & ~np.isfinite(sums[:, SUMS.index("gg")])
        weight = ~np.isfinite(sums[:, SUMS.index("ww")]) | ~np.isfinite(sums[:, SUMS.index("dw")])
        if not (gradient | weight).any():
            return []
        names = self.roster.names
        order = {key: i for i, key in enumerate(names)}
        bad = sorted(np.flatnonzero(gradient | weight), key=lambda i: order.get(id(self.tensors[i][0]), len(order)))
        return [
            ("gradient" if gradient[i] else "weight", names.get(id(self.tensors[i][0]), "a tensor outside the model"))
            for i in bad
        ]


@dataclass(frozen=True)
class Reading:
    """A logged step on the host: its record, the rates of the total and of every group, and which tensors are not
    finite, as (gradient or weight, name).
    """

    record: Record
    rates: list[Rates]
    bad: list[tuple[str, str]]
    tensors: int = 0  # how many were measured
    off: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)  # (label, acted) rates that differ
    firsts: dict[str, float] = field(default_factory=dict)  # first steps, measured by predicted
    rows: dict[int, tuple[float, float]] = field(default_factory=dict)  # rows without gradient, and new ones with


def _predictions(probes: list[tuple[StepProbe, dict[int, Rates]]]) -> dict[int, Any]:
    """Map the id of each tensor to the length that its first step should have, a function of rates, g and entries."""
    found: dict[int, Any] = {}
    for probe, _ in probes:
        inner = engine(probe.optimizer)
        for group in inner.param_groups:
            traits = traits_of(inner, group)
            if traits.first_step is None or isinstance(probe.optimizer, Sphere):
                continue
            options = dict(group)

            def predict(rate: Rates, g: float, entries: int, traits: Any = traits, options: Any = options) -> Any:
                return traits.first_step(options, rate.lr, g, entries)

            whole = traits.law != "sgd" and bool(group.get("weight_decay")) and traits.clock(group) is None
            if not whole:  # decay in the gradient gives every number one
                found.update(dict.fromkeys(map(id, group["params"]), predict))
    return found


def mean_loss(losses: Sequence[Tensor | float]) -> Tensor | None:
    """Average the losses that were told for a step, on their device."""
    if not losses:
        return None
    tensors = [x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64) for x in losses]
    device = tensors[0].device
    exact = summing_dtype(device)
    return torch.stack([x.to(device, exact).mean() for x in tensors]).mean()
