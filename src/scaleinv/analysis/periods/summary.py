"""Summarise the periods of a run folder in a few numbers, for tables of many runs."""

from collections.abc import Iterable, Mapping
from typing import Any

from scaleinv.analysis.periods.find import find_periods
from scaleinv.analysis.periods.log import NotJudgedError
from scaleinv.analysis.periods.result import Periods
from scaleinv.runfolder.files import plain
from scaleinv.runfolder.read import Run
from scaleinv.runfolder.steps import has_steps
from scaleinv.text import count

#: how an answer begins where no more is known than that there are none
_NONE = "no periods"


def periods_of(run: Run) -> Periods | None:
    """Find the periods of a run with weight decay and a per-step record; None for any other run, or one too short.

    Errors: UserError for a record that is damaged.
    """
    lr, wd = run.config.get("lr"), run.config.get("weight_decay")
    if not (_positive(lr) and _positive(wd)) or not has_steps(run.folder):
        return None
    try:
        return find_periods(run.folder)
    except NotJudgedError:
        return None


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def summary(found: Periods | None) -> dict[str, Any] | None:
    """Make what sweep.json says of them: plain JSON types, None where a number is not known."""
    if found is None:
        return None

    return {
        "verdict": found.verdict,
        "answer": found.answer,
        "periods": len(found.periods),
        "mean_interval": plain(found.mean_interval),
        "interval": plain(found.confidence),
        "mean_interval_lr_wd": plain(found.interval_time.mean),
        "phase": found.phase,
        "diverged_at": found.diverged_at,
    }


def verdict_words(row: Mapping[str, Any]) -> str:
    """Name the verdict of a summary; ``none`` where nothing was said of the norm (see :func:`.verdict.rests`).

    >>> verdict_words({"verdict": "equilibrium", "answer": "no periods: the norm is fixed"})
    'none'
    """
    return "none" if str(row.get("answer")).startswith(_NONE) else str(row.get("verdict"))


def in_words(rows: Iterable[Mapping[str, Any] | None]) -> str:
    """Put the summaries of many runs into words; empty where there is none.

    >>> in_words([{"verdict": "periodic", "mean_interval_lr_wd": 0.55}, {"verdict": "equilibrium"}, None])
    '1 of 2 runs has periods, of 0.55/(lr wd); 1 equilibrium'
    """
    known = [row for row in rows if isinstance(row, Mapping)]
    if not known:
        return ""
    periodic = [row for row in known if row.get("verdict") == "periodic"]
    clocks = [value for row in periodic if isinstance(value := row.get("mean_interval_lr_wd"), float)]
    verb = "has" if 1 in (len(periodic), len(known)) else "have"
    said = f"{len(periodic)} of {count(len(known), 'run')} {verb} periods"
    if clocks:
        low, high = f"{min(clocks):.2g}", f"{max(clocks):.2g}"
        said += f", of {low}/(lr wd)" if low == high else f", of {low} to {high}/(lr wd)"
    others = [name for row in known if (name := verdict_words(row)) not in ("periodic", "none")]
    counted = [f"{others.count(name)} {name}" for name in dict.fromkeys(others)]
    return said + (f"; {', '.join(counted)}" if counted else "")
