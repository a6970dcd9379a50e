"""Run ``scaleinv run``."""

import functools

from scaleinv.cli.run_folder import RunCommand
from scaleinv.cli.tables import print_run
from scaleinv.errors import UserError
from scaleinv.lab import train
from scaleinv.lab.config import read_config
from scaleinv.lab.devices import choose_device
from scaleinv.lab.recipe import source_of
from scaleinv.runfolder.files import json_text
from scaleinv.studies.progress import ProgressView
from scaleinv.studies.regime_map import run_row, verdict_of


def run(command: RunCommand) -> int:
    """Train the run to its end. Exit status 0: it has ended, diverged or not."""
    folder = command.folder
    config = read_config(folder)
    if config is None:
        raise UserError(f"{folder} has no config.json of a run; scaleinv train makes one")
    device = choose_device(command.device or config.device)
    if device.partition(":")[0] != config.device:
        raise UserError(f"{folder} is a run on {config.device}; on {device} its numbers would be others")
    source = source_of(folder, config, command.data_dir)
    with ProgressView(total=1, quiet=command.quiet) as view:
        result = train.run(config, source, folder, watch=functools.partial(view.event, config), device=device)
    read, verdict = verdict_of(folder)
    train.record_verdict(folder, verdict.regime, verdict.evidence)
    row = run_row(read, verdict)
    if command.json:
        print(json_text({**row, "folder": str(folder), "timing": result["timing"]}))
    else:
        print_run(read, row, result)
    return 0
