"""``scaleinv toy``: the toy function of the papers, theory beside simulation."""

from dataclasses import dataclass
from pathlib import Path

from scaleinv.cli.parse import MOST_SEEDS, Json, check_at_least
from scaleinv.errors import UserError
from scaleinv.studies.grid import parse_grid


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
    json: Json = False
    quiet: bool = False
    """Print the table only, no paths."""

    def alphas(self) -> list[float]:
        """Read the weights of the groups; repeats are kept: two groups may weigh the same."""
        pieces = [piece for piece in self.alpha.split(",") if piece.strip()]
        if not pieces:
            raise UserError(f"alpha {self.alpha!r} holds no number; write a comma list, for example 1,2,3,4,5")
        if any(":" in piece for piece in pieces):
            raise UserError(f"alpha {self.alpha!r}: a comma list of numbers is needed, not a range")
        return [parse_grid(piece, "alpha")[0] for piece in pieces]

    def elrs(self) -> list[float]:
        """Read the effective learning rates."""
        return parse_grid(self.elr, "elr")

    def check(self) -> None:
        """Refuse numbers that cannot be simulated."""
        self.alphas(), self.elrs()
        check_at_least(200, steps=self.steps)
        check_at_least(1, MOST_SEEDS, seeds=self.seeds)
