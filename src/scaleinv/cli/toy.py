"""``scaleinv toy``: the toy function of the papers, theory beside simulation."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class ToyCommand:
    """The toy function sum_i alpha_i x_i^2/(x_i^2+y_i^2) on the unit sphere: theory beside simulation.

    One line per ELR; k = ELR * sum(alpha), 1 at the edge of convergence. "log spread" compares the groups' window means
    of log(1 + ESS_i^2), largest over least (1 = equal, as theory says), "spread" plain means of ESS. Writes
    DIR/fig6-left and DIR/bifurcation (SVG, PDF, PNG and the numbers as JSON) and DIR/toy.json.
    """

    alpha: str = "1,2,3,4,5"
    """Weights of the groups, a comma list of positive numbers; one number is one group."""
    elr: str = "0.02:1:30"
    """Effective learning rates: a:b:n for n log-spaced values, or a comma list."""
    steps: int = 20000
    """Steps of every run; the second half is measured."""
    seeds: int = 8
    """Number of random starting points; all ELRs share them."""
    out: Path | None = None
    """Folder for the pictures and numbers; without it nothing is written."""
    json: bool = False
    """Print the table as one JSON object on stdout."""
    quiet: bool = False
    """Print the table only, no paths."""

    def run(self) -> int:
        """0: done."""
        from scaleinv.cli.toy_table import summarise, table
        from scaleinv.errors import UserError
        from scaleinv.papers.figure import plain, write_figure
        from scaleinv.papers.kodryan2022 import fig6_left
        from scaleinv.papers.kodryan2022 import fig_bifurcation as bifurcation
        from scaleinv.plots.style import FORMATS, write_whole
        from scaleinv.studies.grid import parse_grid
        from scaleinv.theory.simulators import toy

        alphas = parse_list(self.alpha)
        elrs = parse_grid(self.elr, "elr")
        if self.steps < 200:
            raise UserError(f"steps {self.steps}: at least 200 are needed to measure a level")
        if self.seeds < 1:
            raise UserError(f"seeds {self.seeds}: at least one is needed")
        lines = summarise(toy.simulate(alphas, elrs, self.steps, seeds=self.seeds))
        answer = plain(
            {
                "alpha": alphas,
                "steps": self.steps,
                "seeds": self.seeds,
                "threshold": 1 / sum(alphas),
                "lines": [line.to_dict() for line in lines],
            }
        )
        paths: list[Path] = []
        if self.out is not None:
            three = plain(fig6_left.curves(alphas))
            paths += write_figure(fig6_left.draw(three), three, self.out, "fig6-left", FORMATS).paths
            points = plain(bifurcation.points(alphas, elrs, self.steps, self.seeds))
            paths += write_figure(bifurcation.draw(points), points, self.out, "bifurcation", FORMATS).paths
            paths.append(self.out / "toy.json")
            write_whole(paths[-1], (json.dumps(answer, indent=1) + "\n").encode())
        if self.json:
            print(json.dumps(answer | {"files": [str(path) for path in paths]}))
            return 0
        print_table(table(lines))
        if not self.quiet:
            for path in paths:
                print(path, file=sys.stderr)
        return 0


def parse_list(text: str) -> list[float]:
    """Positive finite numbers between commas; repeats are kept: two groups may weigh the same."""
    from scaleinv.errors import UserError
    from scaleinv.studies.grid import parse_grid

    pieces = [piece for piece in text.split(",") if piece.strip()]
    if not pieces:
        raise UserError(f"alpha {text!r} holds no number; write a comma list, for example 1,2,3,4,5")
    if any(":" in piece for piece in pieces):
        raise UserError(f"alpha {text!r}: a comma list of numbers is needed, not a range")
    return [parse_grid(piece, "alpha")[0] for piece in pieces]


def print_table(rows: list[tuple[str, ...]]) -> None:
    """Right-aligned columns; plain text, the same on a terminal and in a log."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths)).rstrip())
