"""Sum a monitor up: the answer first, then a table; plain text, rich and HTML from the same lines."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from scaleinv.monitor.forecast import FEWEST, WINDOW
from scaleinv.monitor.groups import FREE, short_name
from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.rates import engine
from scaleinv.monitor.records import Alert
from scaleinv.monitor.rules.ahead import window_text
from scaleinv.monitor.rules.broken import is_off
from scaleinv.monitor.state import MonitorState
from scaleinv.text import count, esc, range_text, steps_text

Array = npt.NDArray[np.float64]
_HEAD = ("group", "rho", "eg", "ELR", "angle", "expected", "rho there", "steps to it", "phase")
#: what an ELR is by each law
_ELR_UNIT = {
    "sgd": "lr/rho^2", "normalised": "lr/rho", "relative": "lr", "measured": "angle/eg", "mixed": "by group",
}  # fmt: skip
#: a rotation within this share of its equilibrium counts as there
NEAR = 0.2
#: more rows than this are cut in the printed table, the fastest turning first
MOST_ROWS = 24


#: how the lines of the alerts begin
_WORD = {"error": "error", "warning": "alert", "note": "note "}


@dataclass(frozen=True)
class Summary:
    """``answer``: sentences. ``rows``: a row a group, as text. ``units``: of the columns. Prints itself as text, with
    rich in colour, in a notebook as HTML.

    A column means one thing in every row: rho, eg and ELR are those of the last logged step, angles (measured and
    expected) root mean squares over the same window of logged steps.
    """

    answer: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    alerts: tuple[Alert, ...]
    units: tuple[str, ...] = ()

    @classmethod
    def of(cls, monitor: MonitorState) -> Summary:
        """Sum up a monitor as it is now."""
        records = monitor.records
        if not records:
            told = f"nothing was logged yet ({_pace(monitor)})"
            return cls((told,), (), (*_forgotten(monitor), *_unseen(monitor)), tuple(monitor.alerts))
        found = {f.group: f for f in monitor.forecasts()}
        last = records[-1]
        rows: list[tuple[float, tuple[str, ...]]] = []
        window = _window(monitor)
        newest = _newest(window, last.groups)
        for name, values in zip(last.groups, newest):
            f = found.get(name)
            angle = f.angle if f else _rms_angle(window, last.groups.index(name))
            cells = [short_name(name), *(_show(values[COLUMN[q]]) for q in ("rho", "eg", "elr")), _show(angle)]
            if f is None:
                cells += ["", "", "", next((g.kind for g in monitor.groups if g.name == name), "")]
            else:
                cells += [_show(f.equilibrium_angle), _show(f.equilibrium_rho), _show(f.time_to_equilibrium), f.phase]
            rank = math.inf if name == "total" else (1e6 if f else 0) + (angle if math.isfinite(angle) else 0)
            rows.append((rank, tuple(cells)))
        rows.sort(key=lambda row: -row[0])
        return cls(
            tuple(_answer(monitor, found)),
            tuple(cells for _, cells in rows),
            (*_notes(found), *_measured(monitor), *_forgotten(monitor), *_unseen(monitor), *_first_steps(monitor)),
            tuple(monitor.alerts),
            _units(monitor),
        )

    def _table(self) -> list[tuple[str, ...]]:
        return [self.head, *self.rows[:MOST_ROWS]] if self.rows else []

    @property
    def head(self) -> tuple[str, ...]:
        """The titles of the columns, with their units."""
        units = self.units or ("",) * len(_HEAD)
        return tuple(f"{title} [{unit}]" if unit else title for title, unit in zip(_HEAD, units))

    def _rest(self) -> list[str]:
        more = len(self.rows) - MOST_ROWS
        return [f"{count(more, 'more group')}: monitor.to_pandas()", *self.notes] if more > 0 else list(self.notes)

    def __str__(self) -> str:
        lines, table = list(self.answer), self._table()
        if table:
            widths = [max(map(len, column)) for column in zip(*table)]
            lines.append("")
            for row in table:
                cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1])), row[-1]]
                lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *self._rest(), *(f"{_WORD[a.severity]}  {a}" for a in self.alerts)])

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in self.head:
            side: Any = "left" if title in (_HEAD[0], _HEAD[-1]) else "right"
            table.add_column(Text(title), justify=side, overflow="fold")
        for row in self._table()[1:]:
            table.add_row(*map(Text, row))
        lines = [Text(line, style="bold") for line in self.answer]
        notes = [Text(line, style="dim") for line in self._rest()]
        styles = {"error": "bold red", "warning": "red", "note": "dim"}
        alerts = [Text(f"{_WORD[a.severity]}  {a}", style=styles[a.severity]) for a in self.alerts]
        return Group(*lines, *([table] if self.rows else []), *notes, *alerts)

    def _repr_html_(self) -> str:
        rows = ["".join(f"<td>{esc(cell)}</td>" for cell in row) for row in self._table()]
        rows[:1] = [row.replace("td>", "th>") for row in rows[:1]]
        table = "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>" if rows else ""
        answer = "".join(f"<p><b>{esc(line)}</b></p>" for line in self.answer)
        rest = "".join(f"<p>{esc(line)}</p>" for line in self._rest())
        told = [(_WORD[a.severity], "#666" if a.severity == "note" else "#b00", esc(str(a))) for a in self.alerts]
        return answer + table + rest + "".join(f"<p style='color:{colour}'>{word}  {a}</p>" for word, colour, a in told)


def _window(monitor: MonitorState) -> Array:
    """Stack the last logged steps with the present groups, shape (rows, groups, quantities)."""
    records = list(monitor.records)
    last = min(WINDOW, max(FEWEST, len(records) // 2))
    return np.stack([r.values for r in records[-last:] if r.groups == records[-1].groups])


def _newest(window: Array, names: tuple[str, ...]) -> Array:
    """Take of every group the newest row that was measured: optimizers may step at different times."""
    known = np.isfinite(window[:, :, COLUMN["rho"]])
    rows = np.where(known.any(axis=0), len(window) - 1 - np.argmax(known[::-1], axis=0), len(window) - 1)
    return window[rows, np.arange(len(names))]


def _rms_angle(window: Array, place: int) -> float:
    values = window[:, place, COLUMN["angle"]]
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if len(values) else math.nan


def _units(monitor: MonitorState) -> tuple[str, ...]:
    """Name the units of the columns; of the ELR by the law of the groups that have one."""
    laws = {r.law for r, g in zip(monitor.rates[1:], monitor.groups) if g.kind == FREE}
    elr = "" if not laws else _ELR_UNIT[laws.pop()] if len(laws) == 1 else _ELR_UNIT["mixed"]
    return ("", "", "", elr, "rad/step", "rad/step", "", "", "")


def _answer(monitor: MonitorState, found: dict[str, Any]) -> list[str]:
    free = sum(g.kind == FREE for g in monitor.groups)
    logged = f"{count(monitor.step, 'step')}, {len(monitor.records)} logged ({_pace(monitor)})"
    lines = [f"{logged}; {count(len(monitor.groups), 'group')}, {free} scale-invariant."]
    if not free:
        told = "No scale-invariant group is known, so there are angles but no ELR: "
        lines.append(told + "pass inputs=batch (find_symmetries decides) or groups=[...].")
        return lines
    known = [f for f in found.values() if f.group != "total"]
    compared = [f for f in known if math.isfinite(f.equilibrium_angle) and f.angle > 0]
    if compared:
        ratios = sorted(f.angle / f.equilibrium_angle for f in compared)
        near = sum(abs(r - 1) <= NEAR for r in ratios)
        line = f"{near} of {count(len(compared), 'group')} turn{'s' if near == 1 else ''} within {100 * NEAR:.0f} % of "
        line += f"{'its' if near == 1 else 'their'} equilibrium rotation"
        line += f" (measured / predicted: {range_text(ratios[0], ratios[-1])}"
        varies = any(f.schedule for f in compared)
        line += ", step by step at the rate of the step)" if varies else ")"
        slow = max((t for f in compared if (t := f.time_to_equilibrium) == t), default=math.nan)
        if slow > 0:
            takes = f"needs {steps_text(slow)} to its" if math.isfinite(slow) else "does not come near its"
            line += f"; the slowest norm {takes} equilibrium"
            line += f" ({next(f.schedule for f in compared if f.schedule)})" if varies else ""
            if monitor.total_steps is not None:
                left = max(0, monitor.total_steps - monitor.step)
                line += f", {left} {'is' if left == 1 else 'are'} left"
        lines.append(line + ".")
    falling = [f for f in known if f.phase == "B"]
    if falling:
        ahead = "" if any(f.window for f in found.values()) else _possible(falling)
        told = "its norm falls, its ELR grows" if len(falling) == 1 else "norms fall, ELRs grow"
        lines.append(f"Phase B in {count(len(falling), 'group')}: {told}{ahead}.")
    told = _break_downs(found)
    if told:
        lines.append(told)
    broken = [f.group for f in known if f.phase == "C"]
    if broken:
        names = ", ".join(short_name(name) for name in broken[:3])
        lines.append(f"Breaking down (phase C) now: {names}{' ...' if len(broken) > 3 else ''}.")
    return lines


def _break_downs(found: dict[str, Any]) -> str:
    """Say how many there were, of all groups together if that is known, and the window for the next."""
    one = found.get("total") or max(found.values(), key=lambda f: f.breakdowns, default=None)
    if one is None or not one.breakdowns:
        return ""
    line = f"Training broke down {count(one.breakdowns, 'time')} so far"
    if one.window is None:
        return line + "."
    line += f", at an ELR about {_show(one.window.elr)} ({one.group} now {_show(one.elr)})"
    if not one.window.latest:
        return line + "; the next break-down is overdue."
    return line + f"; the next is expected in {window_text(one.window)}."


def _possible(falling: list[Any]) -> str:
    """Say when the first of the groups may break down at the earliest; nothing where that is already possible."""
    ahead = [f for f in falling if f.break_earliest > 0]
    if not ahead:
        return ""
    first = min(ahead, key=lambda f: f.break_earliest)
    size = f"a break-down (a turn of {first.break_angle:.2g} rad in one step)"
    bounds = f"while eg stays in [{first.low:.3g}, {first.high:.3g}]"
    return f"; {short_name(first.group)}: {size} is possible after {steps_text(first.break_earliest)} {bounds}"


def _notes(found: dict[str, Any]) -> list[str]:
    reasons = Counter(f.why for f in found.values() if f.why and f.group != "total")
    return [f"{count(number, 'group')}: {why}" for why, number in reasons.most_common(3)]


def _measured(monitor: MonitorState) -> list[str]:
    """Say where the ELR follows no law of the optimizer, but was measured from the step."""
    number = sum(rate.law == "measured" for rate, g in zip(monitor.rates[1:], monitor.groups) if g.kind == FREE)
    if not number:
        return []
    kinds = "+".join(dict.fromkeys(type(engine(one)).__name__ for one in monitor.optimizers))
    told = f"{kinds}: no law of its rate is known; say law= if you know it"
    return [f"{count(number, 'group')}: the ELR is measured from the step, as plain SGD would need it ({told})"]


def _forgotten(monitor: MonitorState) -> list[str]:
    """Name the parameters that ask for gradients and that no optimizer holds."""
    names = monitor.forgotten()
    if not names:
        return []
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    verb = "asks" if len(names) == 1 else "ask"
    return [f"{count(len(names), 'parameter')} {verb} for gradients and no optimizer here holds them: {shown}"]


def _unseen(monitor: MonitorState) -> list[str]:
    """Say of which optimizers no step was seen, though the others stepped or the weights moved."""
    found = []
    for i in monitor.unseen():
        kind = type(engine(monitor.optimizers[i])).__name__
        found.append(f"I saw no step of optimizer {i + 1} ({kind}), so its weights were not measured")
    return found


def _first_steps(monitor: MonitorState) -> list[str]:
    """Say whether the very first step was as long as the formula of the optimizer says."""
    ratios = list(monitor.first_steps.values())
    off = sorted(r for r in ratios if is_off(r))
    rest = [r for r in ratios if not is_off(r)]
    found = []
    if off:
        times = range_text(off[0], off[-1])
        found.append(
            f"first step: {count(len(off), 'tensor')} moved {times} times as far as the optimizer's formula says"
        )
    if rest:
        most = math.ceil(100 * max(abs(r - 1) for r in rest) - 1e-9) or 1
        told = f"moved as far as the optimizer's formula says, within {most} %"
        found.append(f"first step: {count(len(rest), 'tensor')} {told}")
    return found


def _pace(monitor: MonitorState) -> str:
    return "every step" if monitor.every == 1 else f"every {monitor.every} steps"


def _show(value: float) -> str:
    return "" if value != value else f"{value:.3g}"
