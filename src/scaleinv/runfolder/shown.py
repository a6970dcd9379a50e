"""Show a run: in a line, as HTML, as a tidy table, as a picture."""

import math
from collections.abc import Sequence
from typing import Any

from scaleinv.errors import UserError
from scaleinv.plots.regimes import draw_series
from scaleinv.plots.tables import frame
from scaleinv.text import esc, near

#: what plot() shows where nothing is named, of those that were measured
_SHOWN = ("loss", "error")


def run_line(run: Any) -> str:
    """Say in a line what a run is: ``<Run 0123abcd: mlp on digits, ELR 0.1, seed 0, finished after 60 epochs>``."""
    config = run.config
    what = (
        config.get("problem") or " on ".join(str(config[n]) for n in ("model", "data") if config.get(n)) or "monitored"
    )
    rate = f"ELR {run.elr:.4g}" if math.isfinite(run.elr) else ""
    if config.get("lr") is not None:
        rate = f"LR {config['lr']:.4g}"
    seed = "" if run.seed is None else f"seed {run.seed}"
    length = f"{run.last_epoch} epochs" if run.time == "epoch" else f"{run.last_step} steps"
    return f"<Run {run.name}: {', '.join(filter(None, (str(what), rate, seed)))}, {run.status} after {length}>"


def run_html(run: Any) -> str:
    """Show a run in a notebook: the line, and the last value of every quantity of the whole network."""
    rows = []
    for split in dict.fromkeys(split for split, group, _ in run.metrics if group == "total"):
        for quantity in run.quantities(split):
            epochs, values = run.series(split, "total", quantity)
            rows.append(f"<tr><td>{split}</td><td>{quantity}</td><td>{epochs[-1]}</td><td>{values[-1]:.4g}</td></tr>")
    head = "<tr><th>split</th><th>quantity</th><th>epoch</th><th>value</th></tr>"
    return f"<p>{esc(run_line(run).strip('<>'))}</p><table>{head}{''.join(rows)}</table>"


def run_frame(run: Any) -> Any:
    """Give every measured number as a tidy pandas DataFrame: step, epoch, split, group, quantity, value."""
    return frame(
        [
            {"step": int(s), "epoch": int(e), "split": split, "group": group, "quantity": quantity, "value": float(v)}
            for (split, group, quantity), series in run.metrics.items()
            for s, e, v in zip(series.steps, series.epochs, series.values)
        ]
    )


def run_plot(run: Any, quantities: Sequence[str] | None, ax: Any) -> Any:
    """Draw quantities of the whole network over the epochs (steps, where a Monitor measured them); returns the axes."""
    known = list(
        dict.fromkeys(q for split, group, q in run.metrics if group == "total" and split in ("online", "train", "test"))
    )
    for name in quantities or ():
        if name not in known:
            raise UserError(f"{run.folder} has no quantity {name!r}{near(name, known)}; it has {', '.join(known)}")
    chosen = quantities or [name for name in _SHOWN if name in known] or known[:1]
    lines: dict[str, tuple[Any, Any]] = {}
    for split in ("online", "train", "test"):
        for name in chosen:
            table = run.table(split, "total", name)
            if len(table.values):
                at = table.steps if run.time == "step" else table.epochs
                lines[f"{split} {name}"] = (at.tolist(), table.values.tolist())
    return draw_series(lines, ax, run.time)
