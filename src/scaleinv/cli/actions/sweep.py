"""Run ``scaleinv sweep``."""

import dataclasses

from scaleinv.cli.parse import named_values
from scaleinv.cli.sweep import SweepCommand
from scaleinv.cli.tables import print_map
from scaleinv.errors import UserError
from scaleinv.lab.devices import choose_device
from scaleinv.lab.launch.base import Launcher
from scaleinv.lab.launch.choose import Choice, LaunchSite
from scaleinv.lab.launch.names import parse_arguments
from scaleinv.lab.launch.slurm import Slurm
from scaleinv.lab.optimizers import arguments_text
from scaleinv.lab.start import find_starts
from scaleinv.report import write_report
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.threads import cores
from scaleinv.studies.named import named_source
from scaleinv.studies.own import default_folder, shown_sweep, sweep_config, tell
from scaleinv.studies.sweep import prepare_sweep
from scaleinv.studies.terminal import say
from scaleinv.text import count


def run(command: SweepCommand) -> int:
    """Train what is missing and print the map. Exit status 0: all runs have ended. 1: some failed."""
    decays, (axis, values) = command.decays(), command.axis_values()
    device = choose_device(command.device)
    settings = command.with_weight_decay(decays[0])
    arguments = named_values(settings.optimizer_args, "--optimizer-args")
    settings = dataclasses.replace(settings, optimizer_args=arguments_text(arguments))
    starts = () if command.start is None else find_starts(command.start)
    seeds = () if starts and command.seeds is None else tuple(range(command.seeds or 1))
    settings, source = named_source(settings, command.problem, command.arguments())
    sweep = sweep_config(settings, source, axis, values, seeds, device, starts, tuple(decays))
    for start in starts:
        start.check_fits(sweep.base)
    out = command.out or default_folder(sweep, source)
    launch = Choice(command.launcher, parse_arguments(command.launcher_args))
    if command.prepare:
        say("\n".join(map(str, prepare_sweep(sweep, source, out, data_dir=command.data_dir))))
        return 0
    if command.cancel:
        return _cancel(command.launcher, launch(LaunchSite(out, source, 1, command.data_dir)))
    if not command.quiet:
        tell(source, sweep, out)
    mapped = shown_sweep(
        sweep,
        source,
        out,
        quiet=command.quiet,
        workers=command.workers or (cores() if device == "cpu" else 1),
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


def _cancel(name: str, launcher: Launcher) -> int:
    """End the jobs of the sweep; their runs resume from their checkpoints when it is started again."""
    if not isinstance(launcher, Slurm):
        raise UserError(f"--cancel: the launcher {name} has no jobs that outlive its command")
    say(f"{count(launcher.cancel_jobs(), 'job')} cancelled; the same command without --cancel resumes them")
    return 0
