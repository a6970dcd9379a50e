"""The result of ``scaleinv verify`` as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from scaleinv import __version__
from scaleinv.papers.claim import Claim
from scaleinv.papers.findings import finding
from scaleinv.papers.verify import Outcome

_CSS = """
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #c8365f; --open: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --good: #4ac26b; --bad: #ff7b9c; --open: #d4a72c; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.holds { color: var(--good); } .fails, .broke { color: var(--bad); } .undecided { color: var(--open); }
section { margin: 2rem 0; } h2 { font-size: 1.05rem; margin-bottom: .2rem; } p.where { opacity: .75; margin: 0; }
.scroll { overflow-x: auto; }
"""


def number(value: Any) -> str:
    """A value for people: six significant digits."""
    if value is None:
        return "not a number"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def verify_page(outcomes: Sequence[Outcome], known: dict[str, Claim]) -> str:
    """All outcomes: a summary table, then each claim with everything that was compared."""
    counts = {name: sum(o.verdict == name for o in outcomes) for name in ("holds", "fails", "undecided", "broke")}
    counts = {name: number for name, number in counts.items() if number or name != "broke"}
    rows = "".join(
        f'<tr><td><a href="#{escape(o.id)}-{o.scale}">{escape(o.id)}</a></td><td>{o.scale}</td>'
        f'<td class="{o.verdict}">{o.verdict}</td><td>{escape(known[o.id].statement)}</td>'
        f'<td class="number">{o.seconds:.1f}</td></tr>'
        for o in outcomes
    )
    sections = "".join(_section(o, known[o.id]) for o in outcomes)
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Claims</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_CSS}</style></head><body><h1>Claims of the papers</h1><p>{summary}. scaleinv {__version__}.</p>"
        '<div class="scroll"><table><thead><tr><th>claim</th><th>scale</th><th>verdict</th><th>statement</th>'
        f"<th>seconds</th></tr></thead><tbody>{rows}</tbody></table></div>{sections}</body></html>\n"
    )


def _section(outcome: Outcome, claim: Claim) -> str:
    rows = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{escape(number(value))}</td>'
        f'<td class="number">{escape(number(outcome.expected[name]))}</td>'
        f"<td>{escape(outcome.tolerance[name])}</td></tr>"
        for name, value in outcome.measured.items()
    )
    lines = "<br>".join(map(escape, outcome.evidence.splitlines()))
    found = finding(outcome.id, outcome.scale)
    told = found is not None and outcome.verdict in ("fails", "undecided")
    known = f"<p>Known: {escape(found.why)} ({escape(found.page)})</p>" if found and told else ""
    return (
        f'<section id="{escape(outcome.id)}-{outcome.scale}"><h2>{escape(outcome.id)} '
        f'<span class="{outcome.verdict}">{outcome.verdict}</span></h2>'
        f'<p class="where">{escape(claim.paper)}: {escape(claim.place)}; scale {outcome.scale}</p>'
        f"<p>{escape(claim.statement)}</p><p>{lines}</p>{known}"
        '<div class="scroll"><table><thead><tr><th>quantity</th><th>measured</th><th>expected</th>'
        f"<th>tolerance</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
