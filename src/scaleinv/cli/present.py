"""How answers look on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scaleinv.analysis.regime_map import count_regimes
from scaleinv.analysis.regimes import NAMES
from scaleinv.analysis.runs import Run

_STYLE = {1: "green", 2: "yellow", 3: "red", None: "dim"}


def _number(value: Any, form: str = ".3g") -> str:
    return "-" if value is None else format(value, form)


def regime_name(regime: int | None) -> str:
    """``2 chaotic equilibrium``; ``? undecided``."""
    return f"{'?' if regime is None else regime} {NAMES[regime]}"


def outcome_line(row: Mapping[str, Any]) -> str:
    """One line about a run of a sweep that has ended."""
    return f"{regime_name(row['regime'])} - {row['evidence']['reason']}"


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True)


def print_map(summary: Mapping[str, Any], config: Mapping[str, Any], report: Path) -> None:
    """The runs as a table, then the regime map, the boundaries and where the report is: the answer stands last, in sight."""
    axis = summary["axis"]
    console = _console()
    table = Table(box=None, padding=(0, 1), header_style="bold")
    seeds = {row["seed"] for row in summary["runs"]}
    for name in (axis.upper(), *(["seed"] if len(seeds) > 1 else []), "regime"):
        table.add_column(name, justify="left" if name == "regime" else "right")
    for name in ("train loss", "test error", "eff. gradient", "ESS", "cosine"):
        table.add_column(name, justify="right")
    for row in summary["runs"]:
        cells = [_number(row[axis])] + ([str(row["seed"])] if len(seeds) > 1 else [])
        cells.append(f"[{_STYLE[row['regime']]}]{regime_name(row['regime'])}[/]")
        cells += [_number(row["train_loss"]), _number(row["test_error"], ".1%"), _number(row["effective_gradient"])]
        cells += [_number(row["ess"]), _number(row["cosine"], ".3f")]
        table.add_row(*cells)
    console.print(table)
    console.print()
    epochs = summary["horizon"]["epochs"]
    console.print(
        f"[bold]Regime map[/] of {config['model']} ({config['variant']}, width {config['width']}) on {config['data']}, "
        f"batch {config['batch_size']}, {epochs:g} epochs, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}"
        if epochs
        else "[bold]Regime map[/]: no run has ended"
    )
    for name, rates in count_regimes(summary).items():
        if rates or name != "undecided":
            listed = ", ".join(f"{rate:.3g}" for rate in rates) or "none"
            console.print(f"  {name:<21}{axis.upper()} {listed}")
    for key, names in (("1/2", "convergence | equilibrium"), ("2/3", "equilibrium | divergence")):
        b = summary["boundaries"][key]
        if b["decided"]:
            console.print(f"  boundary {key:<12}between {b['low']:.3g} and {b['high']:.3g} ({names})")
        else:
            known = [f"above {b['low']:.3g}"] * (b["low"] is not None) + [f"below {b['high']:.3g}"] * (b["high"] is not None)
            console.print(f"  boundary {key:<12}not decided{': ' + ', '.join(known) if known else ''} ({names})")
    console.print(f"  report               {report}")


def print_run(run: Run, row: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """The answer about one run, then its last metrics by split and group."""
    console = _console()
    console.print(f"[bold]{regime_name(row['regime'])}[/]: {row['evidence']['reason']}", style=_STYLE[row["regime"]])
    seconds = result["timing"]["seconds"]
    console.print(
        f"{result['status']} after {result['steps']} steps ({result['epochs']:.3g} epochs) in {seconds:.1f} s"
        + (f": {result['message']}" if result["message"] else "")
    )
    table = Table(box=None, padding=(0, 1), header_style="bold")
    columns = ("loss", "error", "rho", "g", "eg", "elr", "ess", "angle", "cosine")
    table.add_column("epoch", justify="right")
    table.add_column("measured")
    table.add_column("group")
    for name in columns:
        table.add_column(name, justify="right")
    for split in ("online", "train", "test"):
        for group in ("total", *run.groups()):
            last = {q: run.series(split, group, q) for q in run.quantities(split, group)}
            if not last:
                continue
            epoch = max(int(epochs[-1]) for epochs, _ in last.values())
            cells = [_number(float(last[q][1][-1])) if q in last else "" for q in columns]
            table.add_row(str(epoch), split, group, *cells)
            if "error_recomputed_bn" in last:
                again = [_number(float(last[f"{q}_recomputed_bn"][1][-1])) if q in ("loss", "error") else "" for q in columns]
                table.add_row(str(epoch), "test, BN recomputed", group, *again)
    console.print(table)
    console.print(f"folder {run.folder}; a page about it: scaleinv report {run.folder}")
