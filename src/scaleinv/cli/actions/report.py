"""What ``scaleinv report`` does."""

from __future__ import annotations

import json

from scaleinv.cli.report import ReportCommand
from scaleinv.report import write_figures, write_report


def run(command: ReportCommand) -> int:
    figures = []
    if command.format is not None:
        formats = [name.strip().lower() for name in command.format.split(",") if name.strip()]
        figures = write_figures(command.folder, formats, command.out)
    page = write_report(command.folder, command.out)
    if command.json:
        print(json.dumps({"report": str(page), "figures": [str(path) for path in figures]}))
        return 0
    if figures:
        print(f"{len(figures)} figures in {figures[0].parent}")
    print(page)
    return 0
