"""What ``scaleinv toy`` does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from scaleinv.cli.toy import ToyCommand
from scaleinv.cli.toy_table import summarise, table
from scaleinv.papers.figure import plain, write_figure
from scaleinv.papers.kodryan2022 import fig6_left
from scaleinv.papers.kodryan2022 import fig_bifurcation as bifurcation
from scaleinv.plots.style import FORMATS
from scaleinv.runfolder.files import write_json
from scaleinv.theory.simulators import toy


def run(command: ToyCommand) -> int:
    """0: done."""
    alphas, elrs = command.alphas(), command.elrs()
    lines = summarise(toy.simulate(alphas, elrs, command.steps, seeds=command.seeds))
    answer = plain(
        {
            "alpha": alphas,
            "steps": command.steps,
            "seeds": command.seeds,
            "threshold": 1 / sum(alphas),
            "lines": [line.to_dict() for line in lines],
        }
    )
    paths: list[Path] = []
    if command.out is not None:
        three = plain(fig6_left.curves(alphas))
        paths += write_figure(fig6_left.draw(three), three, command.out, "fig6-left", FORMATS).paths
        points = plain(bifurcation.points(alphas, elrs, command.steps, command.seeds))
        paths += write_figure(bifurcation.draw(points), points, command.out, "bifurcation", FORMATS).paths
        paths.append(command.out / "toy.json")
        write_json(paths[-1], answer)
    if command.json:
        print(json.dumps(answer | {"files": [str(path) for path in paths]}))
        return 0
    print_table(table(lines))
    if not command.quiet:
        for path in paths:
            print(path, file=sys.stderr)
    return 0


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Right-aligned columns; plain text, the same on a terminal and in a log."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip())
