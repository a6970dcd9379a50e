"""Run ``scaleinv sweep``."""

from scaleinv.cli.sweep import SweepCommand
from scaleinv.cli.tables import print_map
from scaleinv.errors import UserError
from scaleinv.lab.launch.base import Job
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_starts
from scaleinv.lab.train import RunEvent
from scaleinv.report import write_report
from scaleinv.runfolder.environment import cores
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.lineage import short_names
from scaleinv.studies.progress import ProgressView
from scaleinv.studies.regime_map import outcome_line
from scaleinv.studies.sweep import SweepConfig, map_sweep


def run(command: SweepCommand) -> int:
    """Train what is missing and print the map. Exit status 0: all runs have ended. 1: some failed."""
    decays, (axis, values) = command.decays(), command.axis_values()
    settings = command.with_weight_decay(decays[0])
    starts = () if command.start is None else find_starts(command.start)
    seeds = () if starts and command.seeds is None else tuple(range(command.seeds or 1))
    dataset = load_data(command)
    first = {"elr": None, "lr": None, axis: values[0]}
    base = resolve(settings, dataset, elr=first["elr"], lr=first["lr"], seed=0, threads=1)
    for start in starts:
        start.check_fits(base)
    several = tuple(decays) if len(decays) > 1 else ()
    sweep = SweepConfig(base, axis, tuple(values), seeds, several, starts)
    origins = sweep.origins()
    with ProgressView(total=len(sweep.runs()), quiet=command.quiet, starts=short_names(origins)) as view:

        def watch(job: Job, event: RunEvent) -> None:
            view.event(job.config, event)

        mapped = map_sweep(
            sweep,
            dataset,
            command.out,
            workers=command.workers or cores(),
            watch=watch,
            on_row=lambda job, row: view.run_ended(job.config, outcome_line(row)),
        )
    failed = list(mapped.failed)
    try:
        report = str(write_report(command.out))
    except UserError as error:  # a damaged run: the map stands all the same
        report = f"not written: {error}"
        failed.append("report")
    if command.json:
        print(json_text(mapped.summary))
    else:
        print_map(mapped.summary, base.to_dict(), report, origins)
    return 1 if failed else 0
