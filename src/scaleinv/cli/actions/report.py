"""Run ``scaleinv report``."""

import json

from scaleinv.cli.parse import names_in
from scaleinv.cli.report import ReportCommand
from scaleinv.report import write_figures, write_report


def run(command: ReportCommand) -> int:
    """Write the page, and the figures if a format is named. Exit status 0: written."""
    figures = []
    if command.format is not None:
        figures = write_figures(command.folder, list(names_in(command.format.lower())), command.out)
    page = write_report(command.folder, command.out)
    if command.json:
        print(json.dumps({"report": str(page), "figures": [str(path) for path in figures]}))
        return 0
    if figures:
        print(f"{len(figures)} figures in {figures[0].parent}")
    print(page)
    return 0
