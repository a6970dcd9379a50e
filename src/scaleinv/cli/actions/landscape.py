"""What ``scaleinv landscape`` does."""

from __future__ import annotations

import sys

from scaleinv.cli.landscape import LandscapeCommand
from scaleinv.cli.landscape_page import print_landscape
from scaleinv.runfolder.files import json_text
from scaleinv.studies.landscape import Study, damaged, study
from scaleinv.studies.progress import Counted


def run(command: LandscapeCommand) -> int:
    """0: measured."""
    parts = command.chosen_parts()
    settings = Study(**command.numbers())
    lacking: list[str] = []
    with Counted("measuring", quiet=command.quiet) as counted:

        def watch(what: str, _: int, total: int) -> None:
            counted.total = total
            counted.done(what)

        content = study(
            command.folder,
            parts,
            settings=settings,
            data_dir=command.data_dir,
            watch=watch,
            say=lacking.append,
        )
    for line in lacking:
        print(line, file=sys.stderr)
    if command.json:
        print(json_text(content))
        return 0
    try:
        print_landscape(content, command.folder)
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # what was kept, not what was measured
        raise damaged(command.folder, error) from error
    return 0
