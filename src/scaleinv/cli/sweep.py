"""``scaleinv sweep``: many rates, one regime map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from scaleinv.errors import UserError
from scaleinv.lab.config import CommonSettings


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class SweepCommand(CommonSettings):
    """Train one network at many effective learning rates and map the three regimes.

    All runs of a seed share their initialisation and batch order. DIR is the sweep's folder; the same command again
    goes on where it stopped, and only shows the map once all runs have ended. Writes DIR/sweep.json and
    DIR/report.html. In the whole space (--lr) the runs may differ in --weight-decay too.
    """

    out: Path
    """Folder of the sweep."""
    elr: str | None = None
    """Effective learning rates: a:b:n for n log-spaced values, or a comma list."""
    lr: str | None = None
    """Learning rates in the whole space instead, in the same form."""
    weight_decay: str = "0"
    """Weight decays, in the same form (in the whole space only)."""
    start: Annotated[str | None, tyro.conf.arg(name="from", metavar="RUN[@EPOCH]|SWEEP")] = None
    """Go on from the weights of a run, or from those of every run of a sweep, at all rates; with a fresh optimizer."""
    seeds: int | None = None
    """Number of seeds: every rate is run with seeds 0 to N-1 (default: 1; with --from the seed of the run)."""
    workers: int | None = None
    """Runs at a time, one thread each (default: one a core)."""
    json: bool = False
    """Print the content of sweep.json on stdout."""
    quiet: bool = False
    """Show no progress."""

    def run(self) -> int:
        """0: all runs have ended; 1: some failed."""
        from scaleinv.cli.tables import outcome_line, print_map
        from scaleinv.lab.config import check_names, resolve
        from scaleinv.lab.start import find_starts
        from scaleinv.lab.train import record_verdict
        from scaleinv.report import write_report
        from scaleinv.runfolder.environment import cores
        from scaleinv.runfolder.files import json_text, write_json
        from scaleinv.runfolder.lineage import origin_of, short_names
        from scaleinv.studies.grid import parse_grid
        from scaleinv.studies.progress import ProgressView
        from scaleinv.studies.regime_map import failed_row, regime_map, run_row, verdict_of
        from scaleinv.studies.sweep import RunOutcome, SweepConfig, run_sweep

        decays = parse_grid(self.weight_decay, "weight-decay", zero=True)
        settings = self.with_weight_decay(decays[0])
        check_names(settings)
        if (self.elr is None) == (self.lr is None):
            example = "for example --elr 1e-4:1:21"
            raise UserError(f"give one of --elr (on the sphere) and --lr (in the whole space), {example}")
        axis = "elr" if self.elr is not None else "lr"
        values = parse_grid(self.elr if self.elr is not None else self.lr or "", axis)
        starts = () if self.start is None else find_starts(self.start)
        if self.seeds is not None and self.seeds < 1:
            raise UserError(f"seeds {self.seeds}: at least one is needed")
        seeds = () if starts and self.seeds is None else tuple(range(self.seeds or 1))
        workers = self.workers if self.workers is not None else cores()
        if workers < 1:
            raise UserError(f"workers {workers}: at least one is needed")
        dataset = self.load()
        first = {"elr": None, "lr": None, axis: values[0]}
        base = resolve(settings, dataset, elr=first["elr"], lr=first["lr"], seed=0, threads=1)
        for start in starts:
            start.check_fits(base)
        several = tuple(decays) if len(decays) > 1 else ()
        sweep = SweepConfig(base, axis, tuple(values), seeds, several, starts)
        origins = [origin for origin in (origin_of(start.lineage()) for start in starts) if origin is not None]
        rows: dict[str, dict[str, Any]] = {}
        failed: list[str] = []

        with ProgressView(total=len(sweep.runs()), quiet=self.quiet, starts=short_names(origins)) as view:

            def ended(outcome: RunOutcome) -> None:
                name = outcome.config.identity()
                if outcome.result is None:
                    rows[name] = failed_row(name, outcome.config.to_dict(), outcome.error)
                    failed.append(name)
                else:
                    try:
                        run, verdict = verdict_of(outcome.folder)
                        record_verdict(outcome.folder, verdict.regime, verdict.evidence)
                        rows[name] = run_row(run, verdict)
                    except UserError as error:  # a damaged file of one run does not stop the others
                        rows[name] = failed_row(name, outcome.config.to_dict(), str(error))
                        failed.append(name)
                view.run_ended(outcome.config, outcome_line(rows[name]))

            outcomes = run_sweep(sweep, dataset, self.out, workers=workers, watch=view.event, on_outcome=ended)
        place = {origin.weights: k for k, origin in enumerate(sorted(origins, key=lambda origin: origin.order))}
        ordered = sorted(
            (rows[o.config.identity()] for o in outcomes),
            key=lambda row: (row["weight_decay"] or 0.0, place.get(row["start"], 0), row[axis] or 0.0, row["seed"]),
        )
        per_epoch = next((o.result["steps_per_epoch"] for o in outcomes if o.result), None)
        epochs = base.steps / per_epoch if per_epoch else None
        horizon = {"steps": base.steps, "steps_per_epoch": per_epoch, "epochs": epochs}
        summary = regime_map(ordered, axis, horizon)
        write_json(self.out / "sweep.json", summary)
        try:
            report = str(write_report(self.out))
        except UserError as error:  # a damaged run: the map stands all the same
            report = f"not written: {error}"
            failed.append("report")
        if self.json:
            print(json_text(summary))
        else:
            print_map(summary, base.to_dict(), report, origins)
        return 1 if failed else 0
