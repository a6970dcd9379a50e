"""Run ``scaleinv verify``."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scaleinv import __version__
from scaleinv.cli.actions.launching import cancel_jobs, choice, jobs_run_on
from scaleinv.cli.verify import VerifyCommand
from scaleinv.lab.devices import choose_device
from scaleinv.papers import verify
from scaleinv.papers.claim import Claim
from scaleinv.papers.findings import finding
from scaleinv.papers.plan import plan
from scaleinv.papers.records import write_records
from scaleinv.papers.shelf import claims, present_ids, select
from scaleinv.papers.verify import Outcome
from scaleinv.report.page import render
from scaleinv.runfolder.files import write_bytes
from scaleinv.studies.progress import Counted
from scaleinv.studies.terminal import Terminal, say
from scaleinv.text import count, duration

_STYLES = {"holds": "green", "fails": "bold red", "undecided": "yellow", "broke": "bold magenta"}


def run(command: VerifyCommand) -> int:
    """Check the claims. Exit status 0: none fails but those in papers/findings.py. 1: one does, or broke."""
    only = command.ids()
    for given, present in present_ids(only).items():
        if given != present:
            say(f"scaleinv: the claim {given} is called {present} now", file=sys.stderr)
    if command.list:
        # without a filter of its own the list is of everything
        shown = select("all" if command.scale == "quick" else command.scale, only)
        return _list(command, sorted(shown, key=lambda pair: pair[0].id))
    launch = choice(command.launcher, command.launcher_args)
    if command.cancel:
        return cancel_jobs(launch, verify.runs_folder(command.cache))
    chosen = select(command.scale, only)
    device = choose_device(command.device)
    if command.plan:
        return _plan(command, chosen, device)
    begin = time.perf_counter()
    with jobs_run_on(launch), Counted("checking", len(chosen), quiet=command.quiet) as counted:
        view = _View(counted)
        outcomes = verify.run(
            chosen,
            command.cache,
            fresh=command.fresh,
            workers=command.workers or (None if device == "cpu" else 1),
            device=device,
            seed_offset=command.seed_offset,
            launch=launch,
            started=view.started,
            ended=view.ended,
        )
    outcomes = sorted(outcomes, key=lambda outcome: (outcome.id, outcome.scale))
    if command.html is not None:
        write_bytes(command.html, verify_page(outcomes, claims()).encode(), parents=True, named=True)
    if command.record is not None:
        write_records(outcomes, command.record, seed_offset=command.seed_offset)
    if command.json:
        say(json.dumps({"claims": [outcome.to_dict() for outcome in outcomes]}))
    else:
        _table(outcomes, time.perf_counter() - begin)
    news = (o.broke or (o.verdict == "fails" and finding(o.id, o.scale) is None) for o in outcomes)
    return 1 if any(news) else 0


def verify_page(outcomes: Sequence[Outcome], known: Mapping[str, Claim]) -> str:
    """Render all outcomes as one HTML page: a summary, then each claim with everything that was compared."""
    counts = {name: sum(o.verdict == name for o in outcomes) for name in _STYLES}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name != "broke")
    checked = [
        (o, known[o.id], finding(o.id, o.scale) if o.verdict in ("fails", "undecided") else None) for o in outcomes
    ]
    values = {"summary": summary, "version": __version__, "checked": checked, "number": _number}
    return render("verify.html.j2", title="Claims of the papers", **values)


def _number(value: Any) -> str:
    if value is None:
        return "not a number"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _list(command: VerifyCommand, chosen: Any) -> int:
    rows = [(claim.id, scale, claim.scales[scale], claim.is_quick(scale), claim) for claim, scale in chosen]
    if command.json:
        fields = ("paper", "place", "statement")
        listed = [
            {"id": id, "scale": scale, "cost": cost, "quick": quick, **{f: getattr(claim, f) for f in fields}}
            for id, scale, cost, quick, claim in rows
        ]
        say(json.dumps({"claims": listed}))
        return 0
    wide = max(len(id) for id, *_ in rows)
    for id, scale, cost, quick, claim in rows:
        say(f"{id:<{wide}}  {scale:<11}  {cost:>6g} core-s  {'quick' if quick else '     '}  {claim.statement}")
    total = sum(cost for _, _, cost, quick, _ in rows if quick)
    say(f"{count(len(rows), 'check')}; the quick ones cost {total:g} core-seconds")
    return 0


def _plan(command: VerifyCommand, chosen: Any, device: str) -> int:
    with Counted("planning", len(chosen), quiet=command.quiet) as counted:
        planned = plan(chosen, device=device, ended=lambda one: counted.done(f"{one.id} ({one.scale})", ""))
    planned.sort(key=lambda one: (one.id, one.scale))
    total = sum(one.seconds for one in planned)
    if command.json:
        say(json.dumps({"claims": [asdict(one) for one in planned], "seconds": total}))
        return 0
    wide = max(len(one.id) for one in planned)
    for one in planned:
        runs = f"{count(one.runs, 'run')}" + (f" + {one.shared} shared" if one.shared else "")
        more = f"  at least: {one.why}" if one.runs and one.why else ""
        if one.why and not one.runs and not one.shared:
            more = f"  not foreseen, {one.why}: {one.declared:,.0f} core-s declared"
        time_here = f"{one.seconds:>9,.0f} core-s ({duration(one.seconds)})"
        say(f"{one.id:<{wide}}  {one.scale:<11}  {runs:<21}  {one.steps:>11,} steps  {time_here}{more}")
    say(f"{count(len(planned), 'check')}: {total:,.0f} core-s ({duration(total)}) of training on this machine")
    return 0


def _table(outcomes: list[Outcome], seconds: float) -> None:
    """Print the verdicts; evidence below for whatever does not hold."""
    console, known = Terminal(highlight=False), claims()
    wide = max(len(outcome.id) for outcome in outcomes)
    for o in outcomes:
        spent = "kept" if o.cached else f"{o.seconds:.1f} s"
        verdict = f"[{_STYLES[o.verdict]}]{o.verdict:<9}[/]"
        console.print(f"{o.id:<{wide}}  {o.scale:<11}  {verdict}  {spent:>7}  ", end="")
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
    """Show which checks have ended and which are going on."""

    def __init__(self, counted: Counted) -> None:
        self.counted = counted
        self.running: dict[tuple[str, str], None] = {}

    def started(self, claim: Claim, scale: str) -> None:
        """Take in that a check has begun."""
        self.running[claim.id, scale] = None
        self.counted.doing(self._note())

    def ended(self, outcome: Outcome) -> None:
        """Take in that a check has ended, or was kept from before."""
        self.running.pop((outcome.id, outcome.scale), None)
        spent = "kept" if outcome.cached else f"{outcome.seconds:.1f} s"
        self.counted.done(f"{outcome.id} ({outcome.scale}): {outcome.verdict}", spent, note=self._note())

    def _note(self) -> str:
        return ", ".join(id for id, _ in self.running)
