"""Run ``scaleinv train``."""

import dataclasses
import functools

from scaleinv.cli.parse import named_values
from scaleinv.cli.tables import print_run
from scaleinv.cli.train import TrainCommand
from scaleinv.lab import train
from scaleinv.lab.data import Dataset
from scaleinv.lab.devices import choose_device
from scaleinv.lab.optimizers import arguments_text
from scaleinv.lab.prolong import prolong
from scaleinv.lab.recipe import recipe_of
from scaleinv.lab.resolve import resolve
from scaleinv.lab.start import find_start
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.lineage import origin_of, short_names
from scaleinv.runfolder.threads import cores
from scaleinv.studies.named import named_source
from scaleinv.studies.own import run_folder_name
from scaleinv.studies.progress import ProgressView
from scaleinv.studies.regime_map import run_row, verdict_of
from scaleinv.studies.terminal import say


def run(command: TrainCommand) -> int:
    """Train the run to its end. Exit status 0: it has ended, diverged or not."""
    device = choose_device(command.device)
    arguments = named_values(command.optimizer_args, "--optimizer-args")
    settings = dataclasses.replace(command, optimizer_args=arguments_text(arguments))
    settings, source = named_source(settings, command.problem, command.arguments())
    small = not isinstance(source, Dataset) or command.data == "digits" or device != "cpu"
    threads = command.threads if command.threads is not None else 1 if small else cores()
    start = None if command.start is None else find_start(command.start)
    seed = command.seed if command.seed is not None else 0 if start is None else start.config.seed
    config = resolve(
        settings,
        source,
        elr=command.elr,
        lr=command.lr,
        seed=seed,
        threads=threads,
        start=None if start is None else start.checksum,
        device=device,
    )
    out = command.out or run_folder_name(config, source)
    if not isinstance(source, Dataset):
        recipe_of(source, out.parent)
    prolong(out, config)
    if start is not None:
        start.check_fits(config)
    starts = short_names([] if start is None else filter(None, [origin_of(start.lineage())]))
    with ProgressView(total=1, quiet=command.quiet, starts=starts) as view:
        watch = functools.partial(view.event, config)
        result = train.run(config, source, out, start=start, watch=watch, device=device)
    folder, verdict = verdict_of(out)
    train.record_verdict(out, verdict.regime, verdict.evidence)
    row = run_row(folder, verdict)
    if command.json:
        say(json_text({**row, "folder": str(out), "timing": result["timing"]}))
    else:
        print_run(folder, row, result)
    return 0
