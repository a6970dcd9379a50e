"""Hold a sweep that has been trained: its regime map, its runs, as text, table and picture."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from scaleinv.analysis.regimes import NAMES, describe
from scaleinv.errors import UserError
from scaleinv.plots.regimes import draw_regimes, regimes_svg
from scaleinv.plots.style import regime_colours
from scaleinv.plots.tables import frame
from scaleinv.runfolder.layout import SWEEP_CONFIG, SWEEP_MAP
from scaleinv.runfolder.read import Run, load_run, load_sweep
from scaleinv.runfolder.seal import read_object
from scaleinv.studies.regime_map import judged_row, regime_map
from scaleinv.text import count, esc, show


@dataclass(frozen=True)
class Sweep:
    """A sweep and what came out of it. ``str``: the map in words; ``to_pandas``: a row a run."""

    folder: Path
    summary: Mapping[str, Any] = field(repr=False)
    title: str = ""
    planned: int | None = None  # runs of a sweep that has not ended

    @property
    def axis(self) -> str:
        """``elr`` or ``lr``."""
        return str(self.summary["axis"])

    @property
    def boundaries(self) -> dict[str, dict[str, Any]]:
        """The boundaries 1/2 and 2/3: ``low`` and ``high`` of the interval that holds each, and ``decided``."""
        maps = self.summary["maps"]
        found = self.summary["boundaries"]
        if found is None:
            raise UserError(f"{self.folder} has {len(maps)} maps (weight decays, starts); see summary['maps']")
        return dict(found)

    @cached_property
    def runs(self) -> list[Run]:
        """The runs that have a folder, in the order of the map."""
        places = [self.folder / "runs" / row["run"] for row in self.summary["runs"]]
        return [load_run(place) for place in places if (place / "config.json").exists()]

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the run with the lowest test error, else train loss; None where no run has ended."""
        for quantity in ("test_error", "train_loss"):
            rows = [row for row in self.summary["runs"] if row.get(quantity) is not None]
            if rows:
                return dict(min(rows, key=lambda row: row[quantity]))
        return None

    def to_pandas(self) -> Any:
        """Give a pandas DataFrame, a row a run: rate, seed, regime, reason, losses, errors. Needs pandas."""
        kept = (
            "elr",
            "lr",
            "weight_decay",
            "start",
            "seed",
            "regime",
            "train_loss",
            "test_error",
            "effective_gradient",
        )
        rows = [
            {"run": row["run"], **{name: row[name] for name in kept}, "regime_name": NAMES[row["regime"]]}
            | {"ess": row["ess"], "cosine": row["cosine"], "status": row["status"], "reason": row["evidence"]["reason"]}
            for row in self.summary["runs"]
        ]
        return frame(rows)

    def plot(self, ax: Any = None) -> Any:
        """Draw train loss and test error of every run over the rate, coloured by regime, with the boundaries.

        Returns the matplotlib axes. Needs matplotlib.
        """
        return draw_regimes(self.summary, ax)

    def __str__(self) -> str:
        horizon = self.summary["horizon"]
        what = f"Sweep of {count(len(self.summary['runs']), 'run')}{self.title and f' of {self.title}'}"
        lines = [f"{what}, in {self.folder}"]
        if self.planned is not None:
            ended = sum(row["status"] != "running" for row in self.summary["runs"])
            lines.append(f"  not ended: {ended} of {count(self.planned, 'run')}; run the sweep again to go on")
        if self.summary["boundaries"] is not None:
            lines.append(f"  {describe(self.summary['boundaries'])}")
        if horizon.get("epochs"):
            lines.append(f"  after {show(horizon['epochs'])} epochs")
        best = self.best
        if best is not None:
            what = "test error" if best["test_error"] is not None else "train loss"
            value = best["test_error"] if best["test_error"] is not None else best["train_loss"]
            lines.append(f"  best {what} {value:.4g} at {self.axis.upper()} {best[self.axis]:.4g}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = f"<p>{'<br>'.join(esc(line.strip()) for line in str(self).splitlines())}</p>"
        names = (self.axis.upper(), "seed", "regime", "train loss", "test error", "why")
        rows = "".join(
            "<tr>"
            f"<td>{row[self.axis]:.4g}</td><td>{row['seed']}</td>"
            f"<td style='color:{regime_colours[row['regime']]}'>{NAMES[row['regime']]}</td>"
            f"<td>{show(row['train_loss'])}</td><td>{show(row['test_error'])}</td>"
            f"<td style='text-align:left'>{esc(str(row['evidence']['reason']))}</td></tr>"
            for row in self.summary["runs"]
            if row[self.axis] is not None and math.isfinite(row[self.axis])
        )
        try:
            picture = f"<div style='max-width:44em'>{regimes_svg(self.summary)}</div>"
        except ImportError:  # no matplotlib: the table stands alone
            picture = ""
        return f"{head}{picture}<table><tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>{rows}</table>"


def load_results(folder: str | Path) -> Sweep:
    """Read a sweep; of one that has not ended, the map of the runs that there are."""
    path = Path(folder)
    sweep = read_object(path / SWEEP_CONFIG).get("sweep")
    summary = read_object(path / SWEEP_MAP, nan=True) if (path / SWEEP_MAP).exists() else None
    base = sweep.get("base") if isinstance(sweep, dict) else None
    listed = summary is None or isinstance(summary.get("runs"), list)
    if not (isinstance(sweep, dict) and isinstance(base, dict) and isinstance(sweep.get("axis"), str) and listed):
        raise UserError(f"{path} is not the folder of a sweep of this version; run the sweep again in another folder")
    title = f"{base.get('problem') or base.get('model')}"
    if summary is not None:
        return Sweep(path, summary, title)
    varied = (sweep.get(name) or [None] for name in ("values", "seeds", "weight_decays", "starts"))
    horizon = {"steps": base.get("steps"), "steps_per_epoch": None, "epochs": base.get("epochs")}
    rows = [judged_row(run) for run in load_sweep(path).runs]
    return Sweep(path, regime_map(rows, sweep["axis"], horizon), title, math.prod(map(len, varied)))
