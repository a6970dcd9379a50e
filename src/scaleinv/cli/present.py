"""How answers look on a terminal: plain columns that fit in 80 characters and are never cut."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from scaleinv.analysis.regime_map import count_regimes
from scaleinv.analysis.regimes import NAMES
from scaleinv.analysis.runs import Run

_STYLE = {1: "green", 2: "yellow", 3: "red", None: "dim"}
_SHORT = {1: "1 convergence", 2: "2 equilibrium", 3: "3 divergence", None: "? undecided"}
_NAME_WIDTH = 22
_MEASURED = {"online": "online, epoch mean", "train": "train, exact", "test": "test"}


def number(value: Any, form: str = ".3g") -> str:
    """``value`` in at most 8 characters: ``1.55e-6``; ``-`` where there is none.

    >>> number(1.5512e-06), number(None), number(0.0312, ".1%")
    ('1.55e-6', '-', '3.1%')
    """
    if value is None:
        return "-"
    text = format(value, form)
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def shorten(name: str, width: int = _NAME_WIDTH) -> str:
    """The end of a long name, which tells tensors apart: ``…stages.0.conv1.weight``."""
    return name if len(name) <= width else "…" + name[1 - width :]


def regime_name(regime: int | None) -> str:
    """``2 chaotic equilibrium``; ``? undecided``."""
    return f"{'?' if regime is None else regime} {NAMES[regime]}"


def outcome_line(row: Mapping[str, Any]) -> str:
    """One line about a run of a sweep that has ended."""
    reason = str(row["evidence"]["reason"])
    return reason if row["status"] == "failed" else f"{regime_name(row['regime'])} - {reason}"


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def columns(rows: Sequence[Sequence[str]], left: Sequence[int], styles: Mapping[tuple[int, int], str]) -> str:
    """Rows of one table as lines, the first row as the head; ``left``: columns set flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for k, row in enumerate(rows):
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths)):
            text = escape(cell.ljust(width) if i in left else cell.rjust(width))
            style = "bold" if k == 0 else styles.get((k, i))
            cells.append(f"[{style}]{text}[/]" if style else text)
        lines.append(" " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def print_map(summary: Mapping[str, Any], config: Mapping[str, Any], report: str) -> None:
    """The runs, then the regime map, the boundaries and the report: the answer stands last, in sight."""
    axis, rate = summary["axis"], str(summary["axis"]).upper()
    console = _console()
    runs = summary["runs"]
    seeds = {row["seed"] for row in runs}
    seed = ["seed"] if len(seeds) > 1 else []
    rows = [[rate, *seed, "regime", "train loss", "test err", "eff. grad", "ESS", "cosine"]]
    for row in runs:
        own = [str(row["seed"])] if seed else []
        numbers = [number(row[key]) for key in ("train_loss", "effective_gradient", "ess")]
        numbers.insert(1, number(row["test_error"], ".1%"))
        regime = "failed" if row["status"] == "failed" else _SHORT[row["regime"]]
        rows.append([number(row[axis]), *own, regime, *numbers, number(row["cosine"], ".3f")])
    at = 1 + len(seed)
    styles = {(k, at): "red" if row["status"] == "failed" else _STYLE[row["regime"]] for k, row in enumerate(runs, 1)}
    console.print(columns(rows, (at,), styles))
    console.print()
    epochs = summary["horizon"]["epochs"]
    if epochs is None:
        console.print("[bold]Regime map[/]: no run has ended")
    else:
        many = f"{len(seeds)} seed" + "s" * (len(seeds) > 1)
        console.print(
            f"[bold]Regime map[/] of {config['model']} ({config['variant']}, width {config['width']}) "
            f"on {config['data']}, batch {config['batch_size']}, {epochs:g} epochs, {many}"
        )
    for name, rates in count_regimes(summary).items():
        if rates or name != "undecided":
            listed = ", ".join(map(number, rates)) or "none"
            lines = textwrap.wrap(f"{rate} {listed}", 56)  # 80 columns with the name before it
            console.print(f"  {name:<21}" + ("\n" + " " * 23).join(lines))
    for key, names in (("1/2", "convergence | equilibrium"), ("2/3", "equilibrium | divergence")):
        console.print(f"  boundary {key:<12}{_boundary(summary['boundaries'][key])} ({names})")
    for row in runs:
        if row["status"] == "failed":
            console.print(f"  failed               {rate} {number(row[axis])}: {escape(row['evidence']['reason'])}")
    console.print(f"  report               {escape(report)}")


def _boundary(found: Mapping[str, Any]) -> str:
    if found["decided"]:
        return f"between {number(found['low'])} and {number(found['high'])}"
    ends = (("above", "low"), ("below", "high"))
    known = ", ".join(f"{word} {number(found[end])}" for word, end in ends if found[end] is not None)
    return f"not decided: {known}" if known else "not decided"


def print_run(run: Run, row: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """The answer about one run, then its last metrics: of all together, by how they were measured, then by group."""
    console = _console()
    style = _STYLE[row["regime"]]
    console.print(f"[bold]{regime_name(row['regime'])}[/]: {escape(row['evidence']['reason'])}", style=style)
    console.print(
        f"{result['status']} after {result['steps']} steps ({result['epochs']:.3g} epochs) "
        f"in {result['timing']['seconds']:.1f} s" + (f": {escape(result['message'])}" if result["message"] else "")
    )
    console.print()
    console.print(columns(_totals(run), (0,), {}))
    groups = _groups(run)
    if groups:
        console.print()
        console.print(columns(groups, (0,), {}))
    console.print()
    console.print(f"folder {escape(str(run.folder))}; a page about it: scaleinv report {escape(str(run.folder))}")


def _last(run: Run, split: str, group: str) -> dict[str, float]:
    return {q: float(run.series(split, group, q)[1][-1]) for q in run.quantities(split, group)}


def _totals(run: Run) -> list[list[str]]:
    names = ("loss", "error", "g", "eg", "ess", "angle", "cosine")
    rows = [["measured", "epoch", *names]]
    for split, label in _MEASURED.items():
        last = _last(run, split, "total")
        for suffix, more in (("", ""), ("_recomputed_bn", ", BN recomputed")):
            if f"loss{suffix}" in last:
                epoch = str(int(run.series(split, "total", f"loss{suffix}")[0][-1]))
                cells = [number(last.get(q + suffix), ".1%" if q == "error" else ".3g") for q in names]
                rows.append([label + more, epoch, *cells])
    return rows


def _groups(run: Run) -> list[list[str]]:
    """The groups in the split that knows most of them: the means over the last epoch's steps, else the exact pass."""
    split = "online" if run.quantities("online", "total") else "train"
    names = ("rho", "g", "eg", "elr", "ess", "angle")
    rows = [[f"group ({_MEASURED[split]})", *names]]
    for group in ("total", *run.groups()):
        last = _last(run, split, group)
        if last:
            rows.append([shorten(group), *(number(last.get(q)) for q in names)])
    return rows if len(rows) > 1 else []
