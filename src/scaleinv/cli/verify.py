"""``scaleinv verify``: check the claims of the papers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from scaleinv.cli.parse import parser
from scaleinv.errors import UserError
from scaleinv.papers.shelf import select


@tyro.conf.configure(tyro.conf.FlagCreatePairsOff)
@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Check the claims of the papers, side by side on the cores; exit code 1 if one fails that is not known to.

    Each claim says holds, fails or undecided, with what was measured, what was expected and the tolerance decided
    beforehand. A chaotic training is another draw on another CPU: fails needs a miss by more than such draws scatter,
    and too little data is undecided. A check that raised an error says broke, which is exit code 1 as well.
    """

    scale: str = "quick"
    """quick (toy, digits and a few more), all, or one of toy (no network), digits, mnist, cifar-small, paper."""
    only: str | None = None
    """Only these claims: a comma list of ids from --list."""
    list: bool = False
    """Show the claims with their scales and cost in core-seconds; check nothing."""
    fresh: bool = False
    """Check again even if a result (or a training run) of the same code is kept."""
    cache: Path = Path("runs/verify")
    """Folder where results and training runs are kept."""
    workers: int | None = None
    """Checks at a time, one thread each (default: one a core)."""
    html: Path | None = None
    """Also write everything compared to this HTML file."""
    json: bool = False
    """Print one JSON object on stdout instead of the table."""
    quiet: bool = False
    """Show no progress."""

    def ids(self) -> tuple[str, ...]:
        """The claims chosen; empty: all of the scale."""
        return tuple(name.strip() for name in (self.only or "").split(",") if name.strip())

    def check(self) -> None:
        """Refuse what makes no sense."""
        if self.only is not None and not self.ids():
            raise UserError("--only is empty; name claims by their ids, `scaleinv verify --list` shows them")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers {self.workers}: at least one is needed")
        select("all" if self.list and self.scale == "quick" else self.scale, self.ids())


parse = parser(VerifyCommand)
