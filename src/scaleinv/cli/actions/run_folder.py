"""Run ``scaleinv run``."""

import sys
from functools import partial
from typing import Any

from scaleinv.cli.run_folder import RunCommand
from scaleinv.cli.tables import print_run
from scaleinv.lab.launch.job import bugs_kept
from scaleinv.lab.launch.task import do_task, is_task
from scaleinv.lab.launch.unit import AGAIN, Stopping, prepared, train_folder
from scaleinv.lab.train import Stopped, record_verdict
from scaleinv.runfolder.files import Busy, json_text
from scaleinv.studies.progress import ProgressView, describe
from scaleinv.studies.regime_map import run_row, verdict_of
from scaleinv.studies.terminal import say


def run(command: RunCommand) -> int:
    """Train the run to its end. Exit status 0: it has ended. 75: to be started again, since it was stopped in time, or
    since another process is at it.
    """
    limit = None if command.time_limit is None else 60 * command.time_limit
    try:
        return _task(command, limit) if is_task(command.folder) else _run(command, limit)
    except Busy:
        say(
            f"scaleinv: another process is working on {command.folder}; start it again when that has ended",
            file=sys.stderr,
        )
        return AGAIN


def _run(command: RunCommand, limit: float | None) -> int:
    config = prepared(command.folder)
    with Stopping(limit) as stop, ProgressView(total=1, quiet=command.quiet) as view:
        try:
            at: dict[str, Any] = {"data_dir": command.data_dir, "device": command.device}
            result = train_folder(command.folder, watch=partial(view.event, config), stop=stop, **at)
        except Stopped as stopped:
            sys.stderr.write(f"scaleinv: {describe(config)}: {stopped}; the same command resumes it\n")
            return AGAIN
    folder, verdict = verdict_of(command.folder)
    record_verdict(command.folder, verdict.regime, verdict.evidence)
    row = run_row(folder, verdict)
    if command.json:
        say(json_text({**row, "folder": str(command.folder), "timing": result["timing"]}))
    else:
        print_run(folder, row, result)
    return 0


def _task(command: RunCommand, limit: float | None) -> int:
    """Do what a folder holds in place of a run, of `scaleinv landscape`; it has no checkpoint and is begun anew."""
    with Stopping(limit), bugs_kept(command.folder):
        result = do_task(command.folder)
    say(json_text(result) if command.json else f"{command.folder}: done")
    return 0
