"""``scaleinv verify``: check the claims of the papers."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from scaleinv.text import count

if TYPE_CHECKING:
    from scaleinv.papers.claim import Claim
    from scaleinv.papers.verify import Outcome
    from scaleinv.studies.progress import Counted

_STYLES = {"holds": "green", "fails": "bold red", "undecided": "yellow", "broke": "bold magenta"}


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

    def run(self) -> int:
        """0: none fails but what is known to (papers/findings.py); 1: one does, or a check broke."""
        from scaleinv.errors import UserError
        from scaleinv.papers.findings import finding
        from scaleinv.papers.shelf import claims, present_ids, select
        from scaleinv.papers.verify import run
        from scaleinv.papers.verify_page import verify_page
        from scaleinv.plots.style import write_whole
        from scaleinv.studies.progress import Counted

        only = tuple(name.strip() for name in (self.only or "").split(",") if name.strip())
        if self.only is not None and not only:
            raise UserError("--only is empty; name claims by their ids, `scaleinv verify --list` shows them")
        if self.workers is not None and self.workers < 1:
            raise UserError(f"workers {self.workers}: at least one is needed")
        for given, present in present_ids(only).items():
            if given != present:
                print(f"scaleinv: the claim {given} is called {present} now", file=sys.stderr)
        if self.list:
            # without a filter of its own the list is of everything
            shown = select("all" if self.scale == "quick" else self.scale, only)
            return self._list(sorted(shown, key=lambda pair: pair[0].id))
        chosen = select(self.scale, only)
        begin = time.perf_counter()
        with Counted("checking", len(chosen), quiet=self.quiet) as counted:
            view = _View(counted)
            outcomes = run(
                chosen, self.cache, fresh=self.fresh, workers=self.workers, started=view.started, ended=view.ended
            )
        outcomes = sorted(outcomes, key=lambda outcome: (outcome.id, outcome.scale))
        if self.html is not None:
            write_whole(self.html, verify_page(outcomes, claims()).encode())
        if self.json:
            print(json.dumps({"claims": [outcome.to_dict() for outcome in outcomes]}))
        else:
            _table(outcomes, time.perf_counter() - begin)
        news = (o.broke or (o.verdict == "fails" and finding(o.id, o.scale) is None) for o in outcomes)
        return 1 if any(news) else 0

    def _list(self, chosen: Any) -> int:
        rows = [(claim.id, scale, claim.scales[scale], claim.is_quick(scale), claim) for claim, scale in chosen]
        if self.json:
            fields = ("paper", "place", "statement")
            listed = [
                {"id": id, "scale": scale, "cost": cost, "quick": quick, **{f: getattr(claim, f) for f in fields}}
                for id, scale, cost, quick, claim in rows
            ]
            print(json.dumps({"claims": listed}))
            return 0
        wide = max(len(id) for id, *_ in rows)
        for id, scale, cost, quick, claim in rows:
            print(f"{id:<{wide}}  {scale:<11}  {cost:>6g} core-s  {'quick' if quick else '     '}  {claim.statement}")
        total = sum(cost for _, _, cost, quick, _ in rows if quick)
        print(f"{count(len(rows), 'check')}; the quick ones cost {total:g} core-seconds")
        return 0


def _table(outcomes: list[Outcome], seconds: float) -> None:
    """The verdicts; evidence below for whatever does not hold."""
    from rich.console import Console

    from scaleinv.papers.findings import finding
    from scaleinv.papers.shelf import claims

    console, known = Console(highlight=False), claims()
    wide = max(len(outcome.id) for outcome in outcomes)
    for o in outcomes:
        spent = "kept" if o.cached else f"{o.seconds:.1f} s"
        verdict = f"[{_STYLES[o.verdict]}]{o.verdict:<9}[/]"
        line = f"{o.id:<{wide}}  {o.scale:<11}  {verdict}  {spent:>7}  "
        console.print(line, end="")
        console.print(known[o.id].statement, markup=False, soft_wrap=True)
    expected = 0
    for o in outcomes:
        known_failure = finding(o.id, o.scale)
        if o.verdict != "holds":
            console.print(f"\n{o.id} {o.verdict}", markup=False)
            for line in o.evidence.splitlines():
                console.print(f"  {line}", markup=False, soft_wrap=True)
        if known_failure is not None and o.verdict in ("fails", "undecided"):
            expected += o.verdict == "fails"
            console.print(f"  known: {known_failure.why} ({known_failure.page})", markup=False, soft_wrap=True)
        elif known_failure is not None and o.verdict == "holds":
            line = f"  {o.id}: {o.verdict}, though {known_failure.page} says it does not"
            console.print(line, markup=False, soft_wrap=True)
    said = {"fails": f" ({expected} known)"} if expected else {}
    found = {name: sum(o.verdict == name for o in outcomes) for name in _STYLES}
    counts = [f"{n} {name}{said.get(name, '')}" for name, n in found.items() if n or name != "broke"]
    console.print(f"\n{count(len(outcomes), 'check')}: {', '.join(counts)}; {seconds:.1f} s", markup=False)


class _View:
    """Which checks have ended and which are going on."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted
        self.running: dict[tuple[str, str], None] = {}

    def started(self, claim: Claim, scale: str) -> None:
        """A check has begun."""
        self.running[claim.id, scale] = None
        self.counted.doing(self._note())

    def ended(self, outcome: Outcome) -> None:
        """A check has ended, or was kept from before."""
        self.running.pop((outcome.id, outcome.scale), None)
        spent = "kept" if outcome.cached else f"{outcome.seconds:.1f} s"
        self.counted.done(f"{outcome.id} ({outcome.scale}): {outcome.verdict}", spent, note=self._note())

    def _note(self) -> str:
        return ", ".join(id for id, _ in self.running)
