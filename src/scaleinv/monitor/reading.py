"""Bring the numbers of a logged step from the device to the host, and make its record of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
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
Array = npt.NDArray[np.float64]
_HAS_G = np.array([SUMS.index(name) for name in ("gg", "gw", "gd")])


@dataclass(frozen=True)
class _Layout:
    """Where the tensors of a step stand in their groups."""

    roster: Roster
    ids: tuple[int, ...]  # of the tensors
    owner: npt.NDArray[np.int_]  # place of the group of each tensor
    place_of: dict[int, int]  # id of a tensor -> its place
    alone: bool  # every group is one tensor
    chosen: list[int]  # groups in the total: the scale-invariant ones; where none is known, all
    scale_free: list[bool]  # of the total, then the groups
    sizes: Array
    seen: npt.NDArray[np.int_]  # tensors of each group
    missing: npt.NDArray[np.bool_]  # the total and groups that only some optimizers of the round have moved

    @classmethod
    def of(cls, roster: Roster, tensors: Sequence[Tensor]) -> _Layout:
        groups, count = roster.groups, len(roster.groups)
        owner = np.array([roster.owner[id(t)] for t in tensors], int)
        free = [g.scale_free for g in groups]
        chosen = [i for i in range(count) if free[i] or not any(free)]
        sizes = np.array([sum(groups[i].size for i in chosen), *(g.size for g in groups)], np.float64)
        seen = np.bincount(owner, minlength=count) if len(owner) else np.zeros(count, int)
        whole = [bool(seen[i] == len(g.tensors)) for i, g in enumerate(groups)]
        missing = ~np.array([all(whole[i] for i in chosen) and bool(chosen), *whole])
        ids = tuple(map(id, tensors))
        place_of = {key: i for i, key in enumerate(ids)}
        alone = len(owner) == count and bool((seen == 1).all())
        return cls(roster, ids, owner, place_of, alone, chosen, [any(free), *free], sizes, seen, missing)

    def add_up(self, rows: Array) -> Array:
        """Add the rows of the tensors up, (steps, tensors, columns), to (steps, 1 + groups, columns): total first."""
        found = np.zeros((len(rows), 1 + len(self.seen), rows.shape[2]))
        if self.alone:
            found[:, 1 + self.owner] = rows
        else:
            flat = np.zeros((len(self.seen), len(rows), rows.shape[2]))
            np.add.at(flat, self.owner, rows.transpose(1, 0, 2))
            found[:, 1:] = flat.transpose(1, 0, 2)
        found[:, 0] = found[:, 1:][:, self.chosen].sum(axis=1)
        return found


class Arrival:
    """A logged step whose numbers are on their way to the host."""

    def __init__(
        self,
        step: int,
        epoch: int | None,
        probes: list[tuple[StepProbe, dict[int, Rates]]],
        loss: Tensor | float | None,
        skipped: Tensor | None,
        roster: Roster,
        numbers: Numbers | None = None,
        optimizers: Sequence[Optimizer] = (),
        extra: tuple[str, ...] = (),
    ) -> None:
        self.step, self.epoch, self.roster, self.extra = step, epoch, roster, extra
        self.tensors: list[Tensor] = [t for probe, _ in probes for t in probe.tensors]
        self.has = [has for probe, _ in probes for has in probe.has_gradient]
        #: ids of tensors that ask for no gradient now: numbers are read later, when they may
        self.frozen = frozenset(id(t) for t, has in zip(self.tensors, self.has) if not has and not t.requires_grad)
        self.numbers = Numbers() if numbers is None else numbers
        keys = {k[0] for k in self.numbers.keys}
        #: it tells what later steps depend on, so it is to be read at once
        self.urgent = not keys.isdisjoint(("law", "first"))
        self.keys_of_optimizers = [id(engine(one)) for one in optimizers] if self.urgent else []
        self.predictions = _predictions(probes) if "first" in keys else {}
        if len(probes) == 1:
            self.rates = probes[0][1]
        else:
            self.rates = {key: rate for _, found in probes for key, rate in found.items()}
        parts = [probe.sums.reshape(-1) for probe, _ in probes if probe.sums is not None]
        if self.numbers.tensors:
            parts += [t.detach().to(parts[0].dtype).reshape(1) for t in self.numbers.tensors]
        self.loss = math.nan
        self.told = loss is not None
        self._late_loss = isinstance(loss, Tensor)
        if isinstance(loss, Tensor):
            parts.append(loss.to(parts[0].dtype).reshape(1))
        elif loss is not None:
            self.loss = loss
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

    def unpack(self) -> tuple[int, float, dict[Any, float], Array] | None:
        """Give step, loss, what else was measured, and the sums; None for a step that GradScaler has skipped."""
        numbers = [h.numpy() for h in self.host]
        step, loss = self.step, self.loss
        if self.counted:
            skipped, so_far = numbers.pop()
            if skipped:
                return None
            step -= int(so_far)
        if self._late_loss:
            loss = float(numbers.pop()[0])
        extra = {}
        for key in reversed(self.numbers.keys):
            extra[key] = float(numbers.pop()[0])
        sums = numbers[0] if len(numbers) == 1 else np.concatenate(numbers)
        return step, loss, extra, sums.astype(np.float64).reshape(-1, len(SUMS))


class Reader:
    """Works out records, and what goes with them, of steps that have arrived: of several alike at once."""

    def __init__(self, forces: Forces, book: RateBook) -> None:
        self._forces, self._book = forces, book
        self._layout: _Layout | None = None
        self._merged: tuple[Any, Any, list[Rates]] | None = None

    def read(self, arrivals: Sequence[Arrival]) -> list[Reading]:
        """Read them in their order; steps that GradScaler has skipped are left out."""
        readings: list[Reading] = []
        alike: list[_Step] = []
        for arrival in arrivals:
            found = arrival.unpack()
            if found is None:
                continue
            layout = self._layout_of(arrival)
            if alike and (alike[-1].layout is not layout or arrival.urgent):
                readings += self._work_out(alike)
                alike = []
            alike.append(self._step(arrival, layout, *found))
        return readings + self._work_out(alike) if alike else readings

    def _layout_of(self, arrival: Arrival) -> _Layout:
        last = self._layout
        if last is None or last.roster is not arrival.roster or last.ids != tuple(map(id, arrival.tensors)):
            last = self._layout = _Layout.of(arrival.roster, arrival.tensors)
        return last

    def _step(self, arrival: Arrival, layout: _Layout, step: int, loss: float, extra: Any, sums: Array) -> _Step:
        has = np.array(arrival.has, bool)
        found = _Step(arrival, layout, step, loss, extra, sums, has, bool(has.all()))
        found.bad = found.find_bad()
        if arrival.urgent:
            found.off = found.check_laws(self._book)
            found.firsts = found.first_steps()
        rates = arrival.rates
        if self._merged is None or self._merged[0] is not rates or self._merged[1] is not layout:
            none = [Rates(float("nan"), float("nan"), "measured")]
            groups = layout.roster.groups
            merged = [common([rates[id(t)] for t in g.tensors if id(t) in rates] or none) for g in groups]
            merged.insert(0, common([merged[i] for i in layout.chosen] or none))
            self._merged = rates, layout, merged
        found.merged = self._merged[2]
        return found

    def _work_out(self, steps: Sequence[_Step]) -> list[Reading]:
        layout = steps[0].layout
        groups = layout.roster.groups
        sums = np.array([one.sums for one in steps])
        if not all(one.all_have for one in steps):
            has = np.array([one.has for one in steps])
            sums[:, :, _HAS_G] = np.where(has[:, :, None], sums[:, :, _HAS_G], 0.0)
            grouped = layout.add_up(sums)
            slopes = layout.add_up(has[:, :, None].astype(np.float64))[:, :, 0]
            grouped[:, :, _HAS_G] = np.where(slopes[:, :, None] == 0, np.nan, grouped[:, :, _HAS_G])
        else:
            grouped = layout.add_up(sums)
            nothing = np.array([not any(layout.seen[layout.chosen]), *(layout.seen == 0)])
            if nothing.any():
                grouped[:, np.flatnonzero(nothing)[:, None], _HAS_G] = np.nan
        acting = [one.acting() for one in steps]
        count = len(groups) + 1
        known = None
        if any(one is not None for one in acting):
            known = np.concatenate([np.full(count, np.nan) if one is None else one for one in acting])
        values = derive(
            grouped.reshape(-1, len(SUMS)),
            [rate for one in steps for rate in one.merged],
            layout.scale_free * len(steps),
            known,
            np.tile(layout.sizes, len(steps)),
        ).reshape(len(steps), count, -1)
        for one, row in zip(steps, values):
            for key, value in one.extra.items():
                if key[0] == "column" and len(groups[layout.roster.owner[key[1]]].tensors) == 1:
                    row[layout.roster.owner[key[1]] + 1, key[2]] = value
        # of a group that only some optimizers of this round have moved, nothing is known
        if layout.missing.any():
            values[:, layout.missing] = np.nan
        numbers, rates = [one.step for one in steps], [one.merged for one in steps]
        self._forces.fill(numbers, layout.roster.titles, values, rates, layout.chosen)
        return [one.reading(row) for one, row in zip(steps, values)]


@dataclass
class _Step:
    """A logged step on the host, while it is worked out."""

    arrival: Arrival
    layout: _Layout
    step: int
    loss: float
    extra: dict[Any, float]
    sums: Array
    has: npt.NDArray[np.bool_]
    all_have: bool
    bad: list[tuple[str, str]] = field(default_factory=list)
    off: dict[tuple[int, int], tuple[float, float]] = field(default_factory=dict)
    firsts: dict[str, float] = field(default_factory=dict)
    merged: list[Rates] = field(default_factory=list)

    def reading(self, values: Array) -> Reading:
        """Make the record."""
        arrival, extra = self.arrival, self.extra
        titles = self.layout.roster.titles
        record = Record(self.step, arrival.epoch, self.loss, titles, values, arrival.told, arrival.extra)
        rows = {key[1]: (value, extra["new rows", key[1]]) for key, value in extra.items() if key[0] == "rows"}
        return Reading(record, self.merged, self.bad, len(arrival.tensors), self.off, self.firsts, rows, arrival.frozen)

    def check_laws(self, book: RateBook) -> dict[tuple[int, int], tuple[float, float]]:
        """Compare the length of steps with what the state says; where they differ, go on with the rate that acted.

        Gives (label, acted) of every param group that is off.
        """
        off = {}
        arrival, place_of = self.arrival, self.layout.place_of
        for key, unit in self.extra.items():
            if key[0] != "law" or key[3] not in place_of or not unit > 0:
                continue
            row = self.sums[place_of[key[3]]]
            ww, dw = row[0], row[1]
            length = math.hypot(float(tangential_parts(row[None])[0]), dw / math.sqrt(ww) if ww > 0 else 0.0)
            rate = arrival.rates.get(key[3])
            # of a step near the rounding of the weights nothing can be said
            if rate is None or not (math.isfinite(length) and length > 1e-5 * math.sqrt(ww) and rate.lr > 0):
                continue
            owner, place = arrival.keys_of_optimizers[key[1]], key[2]
            label = rate.lr / book.hidden.get((owner, place), 1.0)
            acted = length / unit
            if abs(math.log(acted / label)) > _LAW_TOLERANCE:
                off[owner, place] = (label, acted)
                book.hidden[owner, place] = acted / label
                new = with_factor(rate, acted / rate.lr)
                arrival.rates = {k: new if r is rate else r for k, r in arrival.rates.items()}
            elif (owner, place) in book.hidden:
                del book.hidden[owner, place]
        return off

    def first_steps(self) -> dict[str, float]:
        """Measured length of the optimizer's very first step by the predicted one, of every tensor that has one."""
        found = {}
        arrival, place_of = self.arrival, self.layout.place_of
        for key, entries in self.extra.items():
            if key[0] != "first" or key[1] not in place_of:
                continue
            row = self.sums[place_of[key[1]]]
            ww, dw, gg = float(row[0]), float(row[1]), float(row[5])
            rate, predict = arrival.rates.get(key[1]), arrival.predictions.get(key[1])
            if rate is None or predict is None or not (gg > 0 and math.isfinite(gg)):
                continue
            radial = dw / math.sqrt(ww) + (rate.lr * rate.wd * math.sqrt(ww) if rate.direct else 0.0) if ww > 0 else 0.0
            length = math.hypot(float(tangential_parts(row[None])[0]), radial) if ww > 0 else math.nan
            wanted = predict(rate, math.sqrt(gg), int(entries))
            if wanted and math.isfinite(length) and wanted > 1e-5 * math.sqrt(ww):
                found[self.layout.roster.names.get(key[1], "a tensor outside the model")] = length / wanted
        return found

    def acting(self) -> Array | None:
        """Find the learning rate that acted on groups with several, from how far it moved their tensors."""
        odd = [i for i, rate in enumerate(self.merged) if rate.lr != rate.lr]
        if not odd:
            return None
        owner, chosen, rates = self.layout.owner, self.layout.chosen, self.arrival.rates
        result = np.full(len(self.merged), np.nan)
        moved = tangential_parts(self.sums) ** 2
        lr = np.array([rates[key].lr if key in rates else np.nan for key in self.layout.ids])
        with np.errstate(all="ignore"):
            for i in odd:
                here = (np.isin(owner, chosen) if i == 0 else owner == i - 1) & (lr > 0)
                whole, unit = moved[here].sum(), (moved[here] / lr[here] ** 2).sum()
                if here.any():
                    result[i] = np.sqrt(whole / unit) if unit > 0 else np.sqrt(np.mean(lr[here] ** 2))
        return result

    def find_bad(self) -> list[tuple[str, str]]:
        """List the tensors with a gradient or a weight that is not finite, in the order of the model."""
        sums, has = self.sums, self.has
        if np.isfinite(sums).all():
            return []
        gradient = has & ~np.isfinite(sums[:, SUMS.index("gg")])
        weight = ~np.isfinite(sums[:, SUMS.index("ww")]) | ~np.isfinite(sums[:, SUMS.index("dw")])
        if not (gradient | weight).any():
            return []
        names = self.layout.roster.names
        order = {key: i for i, key in enumerate(names)}
        bad = sorted(np.flatnonzero(gradient | weight), key=lambda i: order.get(self.layout.ids[i], len(order)))
        return [
            ("gradient" if gradient[i] else "weight", names.get(self.layout.ids[i], "a tensor outside the model"))
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
    frozen: frozenset[int] = frozenset()  # ids of tensors that asked for no gradient


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


def mean_loss(losses: Sequence[Tensor | float]) -> Tensor | float | None:
    """Average the losses that were told for a step; a tensor where they are on a device."""
    if not losses:
        return None
    if all(isinstance(x, float) for x in losses):
        return sum(x for x in losses if isinstance(x, float)) / len(losses)
    if len(losses) == 1 and isinstance(losses[0], Tensor) and losses[0].is_cpu and losses[0].numel() == 1:
        return losses[0].to(torch.float64, copy=True)
    tensors = [x if isinstance(x, Tensor) else torch.tensor(x, dtype=torch.float64, device="cpu") for x in losses]
    device = next((t.device for t in tensors if not t.is_cpu), tensors[0].device)
    exact = summing_dtype(device)
    return torch.stack([x.to(device, exact).mean() for x in tensors]).mean()
