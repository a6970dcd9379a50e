"""Sum a monitor up: the answer first, then a table; plain text, rich and HTML from the same lines."""

from __future__ import annotations

import html
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

from scaleinv.monitor.groups import FREE, short_name
from scaleinv.monitor.quantities import COLUMN
from scaleinv.monitor.rates import engine
from scaleinv.monitor.records import Alert
from scaleinv.monitor.state import MonitorState
from scaleinv.text import count

_HEAD = ("group", "rho", "eg", "ELR", "angle", "expected", "rho there", "steps to it", "phase")
#: more rows than this are cut in the printed table, the fastest turning first
MOST_ROWS = 24


@dataclass(frozen=True)
class Summary:
    """``answer``: sentences. ``rows``: a row a group, as text. Prints itself as text, with rich in colour, in a
    notebook as HTML.
    """

    answer: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]
    alerts: tuple[Alert, ...]

    @classmethod
    def of(cls, monitor: MonitorState) -> Summary:
        """Sum up a monitor as it is now."""
        records = monitor.records
        if not records:
            told = f"nothing was logged yet (every {monitor.every} steps)"
            return cls((told,), (), (), tuple(monitor.alerts))
        found = {f.group: f for f in monitor.forecasts()}
        last = records[-1]
        rows: list[tuple[float, tuple[str, ...]]] = []
        for name, values in zip(last.groups, last.values):
            f = found.get(name)
            angle = f.angle if f else float(values[COLUMN["angle"]])
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
            tuple(_notes(found)) + tuple(_measured(monitor)),
            tuple(monitor.alerts),
        )

    def _table(self) -> list[tuple[str, ...]]:
        return [_HEAD, *self.rows[:MOST_ROWS]] if self.rows else []

    def _rest(self) -> list[str]:
        more = len(self.rows) - MOST_ROWS
        return [f"{more} more groups: monitor.to_pandas()", *self.notes] if more > 0 else list(self.notes)

    def __str__(self) -> str:
        lines, table = list(self.answer), self._table()
        if table:
            widths = [max(map(len, column)) for column in zip(*table)]
            lines.append("")
            for row in table:
                cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:-1], widths[1:-1])), row[-1]]
                lines.append("  ".join(cells).rstrip())
        return "\n".join([*lines, *self._rest(), *(f"alert  {a}" for a in self.alerts)])

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in _HEAD:
            table.add_column(title, justify="left" if title in (_HEAD[0], _HEAD[-1]) else "right", overflow="fold")
        for row in self._table()[1:]:
            table.add_row(*map(Text, row))
        lines = [Text(line, style="bold") for line in self.answer]
        notes = [Text(line, style="dim") for line in self._rest()]
        alerts = [Text(f"alert  {a}", style="red") for a in self.alerts]
        return Group(*lines, *([table] if self.rows else []), *notes, *alerts)

    def _repr_html_(self) -> str:
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._table()]
        rows[:1] = [row.replace("td>", "th>") for row in rows[:1]]
        table = "<table>" + "".join(f"<tr>{row}</tr>" for row in rows) + "</table>" if rows else ""
        answer = "".join(f"<p><b>{html.escape(line)}</b></p>" for line in self.answer)
        rest = "".join(f"<p>{html.escape(line)}</p>" for line in self._rest())
        return answer + table + rest + "".join(f"<p style='color:#b00'>{html.escape(str(a))}</p>" for a in self.alerts)


def _answer(monitor: MonitorState, found: dict[str, Any]) -> list[str]:
    free = sum(g.kind == FREE for g in monitor.groups)
    logged = f"{monitor.step} steps, {len(monitor.records)} logged (every {monitor.every})"
    lines = [f"{logged}; {count(len(monitor.groups), 'group')}, {free} scale-invariant."]
    if not free:
        told = "No scale-invariant group is known, so there are angles but no ELR: "
        lines.append(told + "pass inputs=batch (find_symmetries decides) or groups=[...].")
        return lines
    known = [f for f in found.values() if f.group != "total"]
    compared = [f for f in known if math.isfinite(f.equilibrium_angle) and f.angle > 0]
    if compared:
        ratios = sorted(f.angle / f.equilibrium_angle for f in compared)
        near = sum(0.8 <= r <= 1.25 for r in ratios)
        line = f"{near} of {count(len(compared), 'group')} turn within 20 % of their equilibrium rotation"
        line += f" (measured / predicted: {ratios[0]:.2g} to {ratios[-1]:.2g})"
        slow = max((f.time_to_equilibrium for f in compared if math.isfinite(f.time_to_equilibrium)), default=math.nan)
        if slow > 0:
            line += f"; the slowest norm needs {slow:.3g} steps to its equilibrium"
            if monitor.total_steps is not None:
                line += f", {max(0, monitor.total_steps - monitor.step)} are left"
        lines.append(line + ".")
    falling = [f for f in known if f.phase == "B"]
    if falling:
        ahead = "" if any(f.window for f in found.values()) else _possible(falling)
        lines.append(f"Phase B in {count(len(falling), 'group')}: norms fall, ELRs grow{ahead}.")
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
    ends = f"{_show(one.window.earliest)} to {_show(one.window.latest)} steps"
    held = f" ({one.window.held} of {one.window.told} such windows held so far)" if one.window.told else ""
    return line + f"; the next is expected in {ends}{held}."


def _possible(falling: list[Any]) -> str:
    """Say when the first of the groups may break down at the earliest; nothing where that is already possible."""
    ahead = [f for f in falling if f.break_earliest > 0]
    if not ahead:
        return ""
    first = min(ahead, key=lambda f: f.break_earliest)
    size = f"a break-down (a turn of {first.break_angle:.2g} rad in one step)"
    bounds = f"while eg stays in [{first.low:.3g}, {first.high:.3g}]"
    return f"; {short_name(first.group)}: {size} is possible after {_show(first.break_earliest)} steps {bounds}"


def _notes(found: dict[str, Any]) -> list[str]:
    reasons = Counter(f.why for f in found.values() if f.why and f.group != "total")
    return [f"{count(number, 'group')}: {why}" for why, number in reasons.most_common(3)]


def _measured(monitor: MonitorState) -> list[str]:
    """Say where the ELR follows no law of the optimizer, but was measured from the step."""
    number = sum(rate.law == "measured" for rate, g in zip(monitor.rates[1:], monitor.groups) if g.kind == FREE)
    if not number:
        return []
    kinds = "+".join(dict.fromkeys(type(engine(one)).__name__ for one in monitor.optimizers))
    told = f"{kinds}: no law of its rate is known, or the group has several learning rates"
    return [f"{count(number, 'group')}: the ELR is measured from the step, as plain SGD would need it ({told})"]


def _show(value: float) -> str:
    return "" if value != value else f"{value:.3g}"
