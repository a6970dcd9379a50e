"""Print answers on a terminal: plain columns that fit in 80 characters and are never cut."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.markup import escape

from scaleinv.analysis.periods.summary import in_words, verdict_words
from scaleinv.runfolder.lineage import Origin, origin_of, short_names
from scaleinv.runfolder.read import Run
from scaleinv.studies.regime_map import count_regimes, regime_name, series_of
from scaleinv.studies.terminal import Terminal
from scaleinv.text import count

_STYLE = {1: "green", 2: "yellow", 3: "red", None: "dim"}
_SHORT = {1: "1 convergence", 2: "2 equilibrium", 3: "3 divergence", None: "? undecided"}
_NAME_WIDTH = 22
_MEASURED = {"online": "online, epoch mean", "train": "train, exact", "test": "test"}


def number(value: Any, form: str = ".3g") -> str:
    """Write ``value`` in at most 8 characters: ``1.55e-6``; ``-`` where there is none.

    >>> number(1.5512e-06), number(None), number(0.0312, ".1%")
    ('1.55e-6', '-', '3.1%')
    """
    if value is None or value != value:
        return "-"
    text = format(value, form)
    mantissa, e, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent)}" if e else text


def epochs(value: float) -> str:
    """Write ``1 epoch``, ``1500 epochs``, ``0.25 epochs``: whole, unless they are few.

    >>> epochs(1.0), epochs(1500.2), epochs(0.25), epochs(2.5)
    ('1 epoch', '1500 epochs', '0.25 epochs', '2.5 epochs')
    """
    return count(round(value), "epoch") if value >= 10 or value == round(value) else f"{value:.2g} epochs"


def shorten(name: str, width: int = _NAME_WIDTH) -> str:
    """Keep the end of a long name, which tells tensors apart: ``…stages.0.conv1.weight``."""
    return name if len(name) <= width else "…" + name[1 - width :]


def console() -> Terminal:
    """Open a terminal that neither colours numbers nor breaks lines."""
    return Terminal(highlight=False, soft_wrap=True)


def columns(
    rows: Sequence[Sequence[str]], left: Sequence[int] = (), styles: Mapping[tuple[int, int], str] | None = None
) -> str:
    """Set rows of one table as lines, the first row as the head; ``left``: columns set flush left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for k, row in enumerate(rows):
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths)):
            text = escape(cell.ljust(width) if i in left else cell.rjust(width))
            style = "bold" if k == 0 else (styles or {}).get((k, i))
            cells.append(f"[{style}]{text}[/]" if style else text)
        lines.append(" " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _item(name: str, text: str) -> str:
    """Put ``text`` beside its name, folded to 80 columns."""
    return f"  {name:<21}" + ("\n" + " " * 23).join(textwrap.wrap(text, 56))


def print_map(
    summary: Mapping[str, Any], config: Mapping[str, Any], report: str, origins: Sequence[Origin] = ()
) -> None:
    """Print the runs, then the regime map, the boundaries and the report: the answer stands last, in sight.

    Runs of another weight decay or start have a map of their own. ``origins``: whose weights the starts are.
    """
    rate, runs, maps = str(summary["axis"]).upper(), summary["runs"], summary["maps"]
    terminal = console()
    terminal.print(_runs_table(summary, origins))
    if runs:
        terminal.print(f" {_columns_words(runs)}")
    terminal.print()
    horizon = summary["horizon"]["epochs"]
    if horizon is None:
        terminal.print("[bold]Regime map[/]: no run has ended")
    else:
        many = count(len({row["seed"] for row in runs}), "seed")
        terminal.print(
            f"[bold]Regime map[/] of {config['model']} ({_form(config)}) "
            f"on {config['data']}, batch {config['batch_size']}, {epochs(horizon)}, {many}"
        )
    starts, decays = ({one[name] for one in maps} for name in ("start", "weight_decay"))
    told = {origin.weights: origin.full() for origin in origins}
    if len(starts) == 1 and told:
        terminal.print(f"  {'from':<21}{escape(next(iter(told.values())))}")
    listed = list(dict.fromkeys(map(series_of, runs)))
    for one in sorted(maps, key=lambda one: listed.index(series_of(one))):  # the order of the runs above
        if len(maps) > 1:
            words = [f"weight decay {number(one['weight_decay'])}"] if len(decays) > 1 else []
            words += [f"from {told.get(one['start'], (one['start'] or '-')[:8])}"] if len(starts) > 1 else []
            terminal.print(f" {escape(', '.join(words))}")
        own = [row for row in runs if series_of(row) == series_of(one)]
        for name, rates in count_regimes({**summary, "runs": own}).items():
            if rates or name != "undecided":
                terminal.print(_item(name, f"{rate} {', '.join(map(number, rates)) or 'none'}"))
        for key, names in (("1/2", "convergence | equilibrium"), ("2/3", "equilibrium | divergence")):
            terminal.print(f"  boundary {key:<12}{_boundary(one['boundaries'][key])} ({names})")
    if said := in_words(row["periods"] for row in runs):
        terminal.print(_item("periods", said))
    for row in runs:
        if row["status"] == "failed":
            why = f"{rate} {number(row[summary['axis']])}: {escape(row['evidence']['reason'])}"
            terminal.print(f"  {'failed':<21}{why}")
    terminal.print(f"  {'report':<21}{escape(report)}")


def _form(config: Mapping[str, Any]) -> str:
    """Say in what form a network is trained; one of the user's own has no width that we know."""
    if config.get("problem") is None:
        return f"{config['variant']}, width {config['width']}"
    return "made scale-invariant" if config["variant"] == "si" else "as it is"


def _start_cells(origins: Sequence[Origin], runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Name the starts by checksum, for a column: by the parent's rate where it, or the run's seed, tells them apart."""
    seeds = {origin.weights: origin.seed for origin in origins}
    same_seed = all(row["seed"] == seeds.get(row["start"]) for row in runs)
    cells = {origin.weights: number(origin.rate) for origin in origins}
    apart = {(cells[origin.weights], origin.seed if same_seed else None) for origin in origins}
    return cells if len(apart) == len(cells) else short_names(origins, number)


def _runs_table(summary: Mapping[str, Any], origins: Sequence[Origin] = ()) -> str:
    """Make a line of each run: with its periods in the whole space with weight decay, else with its steps."""
    axis, runs = summary["axis"], summary["runs"]
    own: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [(axis.upper(), lambda row: number(row[axis]))]
    if len({row["weight_decay"] for row in runs}) > 1:
        own.append(("wd", lambda row: number(row["weight_decay"])))
    if len({row["start"] for row in runs}) > 1:
        cells = _start_cells(origins, runs)
        own.append(("from", lambda row: cells.get(row["start"], (row["start"] or "-")[:6])))
    if len({row["seed"] for row in runs}) > 1:
        own.append(("seed", lambda row: str(row["seed"])))
    at = len(own)
    own.append(("regime", lambda row: "failed" if row["status"] == "failed" else _SHORT[row["regime"]]))
    own.append(("train loss", lambda row: number(row["train_loss"])))
    own.append(("test err", lambda row: number(row["test_error"], ".1%")))
    if any(row.get("test_error_recomputed_bn") is not None for row in runs):
        own.append(("recomp.", lambda row: number(row.get("test_error_recomputed_bn"), ".1%")))
    if any(row["periods"] for row in runs):
        own += [("periods", _periods), ("interval", _interval)]
    else:
        own.append(("eff. grad", lambda row: number(row["effective_gradient"])))
        own.append(("ESS", lambda row: number(row["ess"])))
        own.append(("cosine", lambda row: number(row["cosine"], ".3f")))
    rows = [[name for name, _ in own], *([show(row) for _, show in own] for row in runs)]
    styles = {(k, at): "red" if row["status"] == "failed" else _STYLE[row["regime"]] for k, row in enumerate(runs, 1)}
    return columns(rows, (at,), styles)


def _columns_words(runs: Sequence[Mapping[str, Any]]) -> str:
    """Say in a line what the numbers of the table are."""
    windows = {tuple(w) for row in runs if isinstance(w := row["evidence"].get("window"), list) and len(w) == 2}
    over = "means of epochs {}-{}".format(*windows.pop()) if len(windows) == 1 else "means of each run's last half"
    said = f"{over}; test err: last evaluation, running BN"
    if any(row.get("test_error_recomputed_bn") is not None for row in runs):
        said += "\n recomp.: with the BN statistics of the train set"
    return said


def _periods(row: Mapping[str, Any]) -> str:
    """Count the periods; the verdict where there are none."""
    found = row["periods"]
    return "-" if found is None else str(found["periods"]) if found["verdict"] == "periodic" else verdict_words(found)


def _interval(row: Mapping[str, Any]) -> str:
    """Give the mean number of steps between break-downs."""
    found = row["periods"]
    return number(found["mean_interval"], ".0f") if found and found["verdict"] == "periodic" else "-"


def _boundary(found: Mapping[str, Any]) -> str:
    if found["decided"]:
        return f"between {number(found['low'])} and {number(found['high'])}"
    ends = (("above", "low"), ("below", "high"))
    known = ", ".join(f"{word} {number(found[end])}" for word, end in ends if found[end] is not None)
    return f"not decided: {known}" if known else "not decided"


def print_run(run: Run, row: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Print the answer about one run, then its last metrics: by how they were measured, then by group."""
    terminal = console()
    style = _STYLE[row["regime"]]
    if row["periods"] is not None:
        terminal.print(f"[bold]Periods[/]: {escape(row['periods']['answer'])}")
    terminal.print(f"[bold]{regime_name(row['regime'])}[/]: {escape(row['evidence']['reason'])}", style=style)
    terminal.print(
        f"{result['status']} after {count(result['steps'], 'step')} ({epochs(result['epochs'])}) "
        f"in {result['timing']['seconds']:.1f} s" + (f": {escape(result['message'])}" if result["message"] else "")
    )
    origin = origin_of(run.lineage)
    if origin is not None:
        terminal.print(f"started from {escape(origin.full())}")
    for rows in filter(None, (_totals(run), _groups(run))):
        terminal.print()
        terminal.print(columns(rows, (0,)))
    terminal.print()
    folder = escape(str(run.folder))
    terminal.print(f"folder {folder}; a page about it: scaleinv report {folder}")
    if row["periods"] is not None:
        terminal.print(f"every period, with the evidence: scaleinv periods {folder}")


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
    """Make rows of the groups: the means over the last epoch's steps where they exist, else the exact pass."""
    split = "online" if run.quantities("online", "total") else "train"
    names = ("rho", "g", "eg", "elr", "ess", "angle")
    rows = [[f"group ({_MEASURED[split]})", *names]]
    for group in ("total", *run.groups()):
        last = _last(run, split, group)
        if last:
            rows.append([shorten(group), *(number(last.get(q)) for q in names)])
    return rows if len(rows) > 1 else []
