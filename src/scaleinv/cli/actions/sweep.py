"""Run ``scaleinv sweep``."""

import dataclasses

from scaleinv.cli.actions.launching import cancel_jobs, choice, jobs_run_on
from scaleinv.cli.parse import named_values
from scaleinv.cli.sweep import SweepCommand
from scaleinv.cli.tables import print_map
from scaleinv.errors import UserError
from scaleinv.lab.data import Dataset
from scaleinv.lab.devices import choose_device
from scaleinv.lab.launch.choose import LOCAL
from scaleinv.lab.launch.gpus import default_workers, visible_gpus
from scaleinv.lab.launch.names import device_elsewhere
from scaleinv.lab.memory import require_memory
from scaleinv.lab.optimizers import arguments_text
from scaleinv.lab.start import find_starts
from scaleinv.report import write_report
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.threads import cores
from scaleinv.studies.named import named_source
from scaleinv.studies.own import default_folder, shown_sweep, sweep_config, tell
from scaleinv.studies.sweep import prepare_sweep
from scaleinv.studies.terminal import say


def run(command: SweepCommand) -> int:
    """Train what is missing and print the map. Exit status 0: all runs have ended. 1: some failed."""
    decays, (axis, values) = command.decays(), command.axis_values()
    launch = choice(command.launcher, command.launcher_args)
    asked = device_elsewhere(command.device, launch.name, launch.arguments)
    device = choose_device(asked, here=launch.name == LOCAL.name)
    settings = command.with_weight_decay(decays[0])
    arguments = named_values(settings.optimizer_args, "--optimizer-args")
    settings = dataclasses.replace(settings, optimizer_args=arguments_text(arguments))
    starts = () if command.start is None else find_starts(command.start)
    seeds = () if starts and command.seeds is None else tuple(range(command.seeds or 1))
    settings, source = named_source(settings, command.problem, command.arguments())
    sweep = sweep_config(settings, source, axis, values, seeds, device, starts, tuple(decays))
    for start in starts:
        start.check_fits(sweep.base)
    workers = command.workers or default_workers(device, cores(), visible_gpus())
    if isinstance(source, Dataset) and launch.name == LOCAL.name:
        at_once = min(workers, len(sweep.runs()))
        require_memory(sweep.base, source.in_shape, source.classes, len(source.train_labels), at_once)
    out = command.out or default_folder(sweep, source)
    if command.prepare:
        say("\n".join(map(str, prepare_sweep(sweep, source, out, data_dir=command.data_dir))))
        return 0
    if command.cancel:
        return cancel_jobs(launch, out)
    if not command.quiet:
        tell(source, sweep, out)
    with jobs_run_on(launch):
        mapped = shown_sweep(
            sweep,
            source,
            out,
            quiet=command.quiet,
            workers=workers,
            launch=launch,
            data_dir=command.data_dir,
            device=device,
        )
    failed = list(mapped.failed)
    try:
        report = str(write_report(out))
    except UserError as error:  # a damaged run: the map stands all the same
        report = f"not written: {error}"
        failed.append("report")
    if command.json:
        say(json_text(mapped.summary))
    else:
        print_map(mapped.summary, sweep.base.to_dict(), report, sweep.origins())
    return 1 if failed else 0
