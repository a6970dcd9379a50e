"""What ``scaleinv sweep`` does."""

from __future__ import annotations

from typing import Any

from scaleinv.cli.sweep import SweepCommand
from scaleinv.cli.tables import outcome_line, print_map
from scaleinv.errors import UserError
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_starts
from scaleinv.lab.train import record_verdict
from scaleinv.report import write_report
from scaleinv.runfolder.environment import cores
from scaleinv.runfolder.files import json_text, write_json
from scaleinv.runfolder.lineage import origin_of, short_names
from scaleinv.studies.progress import ProgressView
from scaleinv.studies.regime_map import failed_row, regime_map, run_row, verdict_of
from scaleinv.studies.sweep import Outcome, SweepConfig, run_sweep


def run(command: SweepCommand) -> int:
    """0: all runs have ended; 1: some failed."""

    decays = command.decays()
    settings = command.with_weight_decay(decays[0])
    axis, values = command.axis_values()
    starts = () if command.start is None else find_starts(command.start)
    seeds = () if starts and command.seeds is None else tuple(range(command.seeds or 1))
    workers = command.workers if command.workers is not None else cores()
    dataset = load_data(command)
    first = {"elr": None, "lr": None, axis: values[0]}
    base = resolve(settings, dataset, elr=first["elr"], lr=first["lr"], seed=0, threads=1)
    for start in starts:
        start.check_fits(base)
    several = tuple(decays) if len(decays) > 1 else ()
    sweep = SweepConfig(base, axis, tuple(values), seeds, several, starts)
    origins = [origin for origin in (origin_of(start.lineage()) for start in starts) if origin is not None]
    rows: dict[str, dict[str, Any]] = {}
    failed: list[str] = []

    with ProgressView(total=len(sweep.runs()), quiet=command.quiet, starts=short_names(origins)) as view:

        def ended(outcome: Outcome) -> None:
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

        outcomes = run_sweep(sweep, dataset, command.out, workers=workers, watch=view.event, on_outcome=ended)
    place = {origin.weights: k for k, origin in enumerate(sorted(origins, key=lambda origin: origin.order))}
    ordered = sorted(
        (rows[o.config.identity()] for o in outcomes),
        key=lambda row: (row["weight_decay"] or 0.0, place.get(row["start"], 0), row[axis] or 0.0, row["seed"]),
    )
    per_epoch = next((o.result["steps_per_epoch"] for o in outcomes if o.result), None)
    epochs = base.steps / per_epoch if per_epoch else None
    horizon = {"steps": base.steps, "steps_per_epoch": per_epoch, "epochs": epochs}
    summary = regime_map(ordered, axis, horizon)
    write_json(command.out / "sweep.json", summary)
    try:
        report = str(write_report(command.out))
    except UserError as error:  # a damaged run: the map stands all the same
        report = f"not written: {error}"
        failed.append("report")
    if command.json:
        print(json_text(summary))
    else:
        print_map(summary, base.to_dict(), report, origins)
    return 1 if failed else 0
