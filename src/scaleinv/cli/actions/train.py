"""Run ``scaleinv train``."""

from scaleinv.cli.tables import print_run
from scaleinv.cli.train import TrainCommand
from scaleinv.lab import train
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start
from scaleinv.runfolder.environment import cores
from scaleinv.runfolder.files import json_text
from scaleinv.runfolder.lineage import origin_of, short_names
from scaleinv.studies.progress import ProgressView
from scaleinv.studies.regime_map import run_row, verdict_of


def run(command: TrainCommand) -> int:
    """Train the run to its end. Exit status 0: it has ended, diverged or not."""
    dataset = load_data(command)
    threads = command.threads if command.threads is not None else 1 if command.data == "digits" else cores()
    start = None if command.start is None else find_start(command.start)
    seed = command.seed if command.seed is not None else 0 if start is None else start.config.seed
    checksum = None if start is None else start.checksum
    config = resolve(command, dataset, elr=command.elr, lr=command.lr, seed=seed, threads=threads, start=checksum)
    if start is not None:
        start.check_fits(config)
    starts = short_names([] if start is None else filter(None, [origin_of(start.lineage())]))
    with ProgressView(total=1, quiet=command.quiet, starts=starts) as view:
        result = train.run(config, dataset, command.out, start=start, watch=lambda event: view.event(config, event))
    folder, verdict = verdict_of(command.out)
    train.record_verdict(command.out, verdict.regime, verdict.evidence)
    row = run_row(folder, verdict)
    if command.json:
        print(json_text({**row, "folder": str(command.out), "timing": result["timing"]}))
    else:
        print_run(folder, row, result)
    return 0
