"""Run ``scaleinv report``."""

import json

from scaleinv.cli.parse import names_in
from scaleinv.cli.report import ReportCommand
from scaleinv.report import write_figures, write_report
from scaleinv.report.write import write_joined
from scaleinv.studies.terminal import say


def run(command: ReportCommand) -> int:
    """Write the page, and the figures if a format is named. Exit status 0: written."""
    if len(command.folders) > 1:
        joined = write_joined(command.folders, command.out)
        say(json.dumps({"report": str(joined), "figures": []}) if command.json else joined)
        return 0
    figures, folder = [], command.folders[0]
    if command.format is not None:
        figures = write_figures(folder, list(names_in(command.format.lower())), command.out)
    page = write_report(folder, command.out)
    if command.json:
        say(json.dumps({"report": str(page), "figures": [str(path) for path in figures]}))
        return 0
    if figures:
        say(f"{len(figures)} figures in {figures[0].parent}")
    say(page)
    return 0
