"""The result of ``scaleinv verify`` as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from typing import Any

from scaleinv import __version__
from scaleinv.papers.claim import Claim
from scaleinv.papers.findings import finding
from scaleinv.papers.verify import Outcome
from scaleinv.report.page import render


def number(value: Any) -> str:
    """Write a value for people: six significant digits."""
    if value is None:
        return "not a number"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def verify_page(outcomes: Sequence[Outcome], known: Mapping[str, Claim]) -> str:
    """Render all outcomes: a summary table, then each claim with everything that was compared."""
    counts = {name: sum(o.verdict == name for o in outcomes) for name in ("holds", "fails", "undecided", "broke")}
    summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count or name != "broke")
    checked = [
        (o, known[o.id], finding(o.id, o.scale) if o.verdict in ("fails", "undecided") else None) for o in outcomes
    ]
    return render(
        "verify.html.j2",
        title="Claims of the papers",
        summary=summary,
        version=__version__,
        checked=checked,
        number=number,
    )
