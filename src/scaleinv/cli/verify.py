"""``scaleinv verify``: check the claims of the papers."""

from dataclasses import dataclass
from pathlib import Path

from scaleinv.cli.parse import (
    MOST_WORKERS,
    Cancel,
    CpuDevice,
    Json,
    LauncherArgs,
    LauncherName,
    Quiet,
    check_at_least,
    names_in,
)
from scaleinv.errors import UserError
from scaleinv.lab.launch.names import check_launcher
from scaleinv.papers.shelf import select


@dataclass(frozen=True, kw_only=True)
class VerifyCommand:
    """Check the claims of the papers, in parallel on the cores.

    Each claim holds, fails or is undecided (too little data), with what was measured, what was expected and the
    tolerance decided beforehand. Chaotic training differs from one CPU to another: a claim fails only by more than such
    runs scatter. Exit status 0: none fails but those known to. 1: one does, or a check raised an error ("broke").
    """

    scale: str = "quick"
    """quick (toy, digits and a few more), all, or one of toy (no network), digits, mnist, cifar-tiny, cifar-small,
    paper."""
    only: str | None = None
    """Only these claims: a comma list of ids from --list."""
    list: bool = False
    """Show the claims with their scales and declared cost in core-seconds; check nothing."""
    plan: bool = False
    """Time 20 steps of every kind of run the claims need, on this machine and device, and show what all of them would
    take; check nothing."""
    fresh: bool = False
    """Check again even if a result (or a training run) of the same code is kept."""
    cache: Path = Path("runs/verify")
    """Folder where results and training runs are kept."""
    workers: int | None = None
    """Checks at a time, one thread each (default: one per core)."""
    seed_offset: int = 0
    """Added to the seed of every training: other draws of the same runs."""
    html: Path | None = None
    """Also write everything compared to this HTML file."""
    record: Path | None = None
    """Also write a small file for each claim to this folder: verdict, numbers, commit, processor, runs."""
    device: CpuDevice = "cpu"
    launcher: LauncherName = "processes"
    launcher_args: LauncherArgs = ""
    cancel: Cancel = False
    json: Json = False
    quiet: Quiet = False

    def ids(self) -> tuple[str, ...]:
        """The claims chosen; empty: all of the scale."""
        return names_in(self.only)

    def check(self) -> None:
        """Refuse an empty --only, unknown claims and scales, and less than one worker."""
        if self.only is not None and not self.ids():
            raise UserError("--only is empty; name claims by their ids, `scaleinv verify --list` shows them")
        if self.list and self.plan:
            raise UserError("--list and --plan: give one of the two")
        check_at_least(1, MOST_WORKERS, workers=self.workers)
        check_at_least(0, seed_offset=self.seed_offset)
        check_launcher(self.launcher, self.launcher_args)
        select("all" if self.list and self.scale == "quick" else self.scale, self.ids())
