"""Run ``scaleinv data``."""

import json
import sys
from dataclasses import asdict

from scaleinv.cli.data import DataCommand
from scaleinv.lab.data.fetch import fetch, statuses
from scaleinv.lab.data.source import ENVIRONMENT, cache_folder, resolve
from scaleinv.studies.terminal import say


def run(command: DataCommand) -> int:
    """List the data sets or fetch one. Exit status 0: done. 1: a data set is damaged."""
    if command.action == "fetch":
        return _fetch(command)
    rows = statuses(command.data_dir)
    if command.json:
        say(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        table = [(r.name, r.state, f"{r.bytes / 1e6:.1f} MB" if r.bytes else "", r.form, r.where) for r in rows]
        _print_table([("data set", "state", "size", "form", "where"), *table])
        nowhere = resolve(command.data_dir) is None
        details = [row.detail for row in rows if row.detail and not (nowhere and row.state == "missing")]
        if nowhere:
            details.append(
                f"no data folder: `scaleinv data fetch NAME` makes {cache_folder()}; "
                f"or name one with --data-dir or the environment variable {ENVIRONMENT}"
            )
        if details:
            say("\n" + "\n".join(details))
    return 1 if any(row.state == "damaged" for row in rows) else 0


def _fetch(command: DataCommand) -> int:
    show = None if command.quiet or command.json or not sys.stderr.isatty() else _progress
    where = fetch(command.name, command.data_dir, mirror=command.mirror, progress=show)
    if command.json:
        say(json.dumps({"name": command.name, "state": "intact", "where": str(where)}))
    elif not command.quiet:
        say(f"{command.name} is in {where}, checksums as published")
    return 0


def _progress(file: str, done: int, total: int) -> None:
    end = "\n" if done >= total else ""
    sys.stderr.write(f"\r{file}  {done / 1e6:.1f} of {total / 1e6:.1f} MB ({done / total:.0%}){end}")
    sys.stderr.flush()


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(w) if i == 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        say("  ".join(cells).rstrip())
