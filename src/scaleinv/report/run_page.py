"""The page of a single run: how it went, its numbers, its curves, how to reproduce."""

from __future__ import annotations

import math

from scaleinv.analysis.periods import Periods
from scaleinv.analysis.periods.summary import periods_of
from scaleinv.analysis.regimes import window
from scaleinv.plots.style import regime_names
from scaleinv.report.facts import entry_of, last_of
from scaleinv.report.landscape_section import landscape_section
from scaleinv.report.page import about, card, page, pairs, regime_cell, reproduce_section, words_section
from scaleinv.report.period_section import WORDS, period_cards, period_section
from scaleinv.report.run_figures import run_drawings
from scaleinv.report.words import flat_evidence, reason
from scaleinv.runfolder.lineage import origin_of
from scaleinv.runfolder.read import Run
from scaleinv.text import clean, count, duration, elr_text, esc, number, percent, plain, show

#: more are in the run folder
MOST_ALERTS = 30
_STATUS = {
    "finished": "Finished",
    "converged": "Converged",
    "diverged": "Diverged: the loss is no longer a finite number",
    "failed": "Failed",
    "running": "Not ended: running, or stopped and waiting to go on",
}


def run_page(run: Run) -> str:
    """The HTML of a run's report."""
    result = run.result or {}
    message = str(result.get("message") or "")
    head = _STATUS.get(run.status, clean(run.status))
    found = periods_of(run)
    seed = f" · seed {run.seed}" if run.seed is not None else ""
    told = esc(f": {message}") if message else ""
    totals: list[str] = []
    groups: list[str] = []
    for drawing in run_drawings(run):
        (groups if drawing.stem.startswith("group-") else totals).append(drawing.to_html())
    body = [
        f"<h1>Training run{esc(_rate(run))}</h1>",
        f'<p class="about">{esc(about(run.config))}{esc(seed)} · {esc(run.name)}</p>',
        *([] if found is None else [f'<p class="answer">{esc(found.answer[0].upper() + found.answer[1:])}.</p>']),
        f'<p class="{"answer" if found is None else "about"}">{esc(head)}, '
        f"{count(_done(run), run.time)} done{told}.</p>",
        _origin(run),
        _cards(run, found),
        _evidence(run),
        _alerts(run),
        *([] if found is None else [period_section(found)]),
        "<h2>Training</h2>",
        f'<div class="grid">{"".join(totals)}</div>' if totals else "<p>Nothing was measured yet.</p>",
    ]
    if groups:
        body += [
            f"<h2>The scale-invariant groups ({len(run.groups())})</h2>",
            f'<div class="grid">{"".join(groups)}</div>',
        ]
    body += landscape_section(run.folder, rate_name(run))
    extra = [("seed", str(run.seed))] if run.seed is not None else []
    body += [words_section(() if found is None else WORDS), reproduce_section([run.environment], run.config, extra)]
    return page(f"Run {clean(run.folder.resolve().name)}", body)


def rate_name(run: Run) -> str:
    """``ELR`` on the sphere, ``LR`` in the whole space."""
    return "LR" if run.config.get("elr") is None else "ELR"


def _rate(run: Run) -> str:
    """`` at ELR 1e-3``; `` at LR 0.3, weight decay 1e-3`` in the whole space."""
    lr, wd = number(run.config.get("lr")), number(run.config.get("weight_decay"))
    if run.time == "epoch" and math.isfinite(lr):
        return f" at LR {elr_text(lr, 3)}" + (f", weight decay {elr_text(wd, 3)}" if wd > 0 else "")
    return f" at ELR {elr_text(run.elr, 3)}" if math.isfinite(run.elr) and run.time == "epoch" else ""


def _origin(run: Run) -> str:
    """The run whose weights this one started with, where there is one."""
    origin = origin_of(run.lineage)
    return "" if origin is None else f'<p class="about">Went on from {esc(origin.full(elr_text, whole=True))}.</p>'


def _done(run: Run) -> int:
    """How many epochs, or steps where a Monitor measured the run."""
    if run.time == "epoch":
        return run.last_epoch
    steps = number((run.result or {}).get("steps"))
    return int(steps) if math.isfinite(steps) else run.last_step


def _cards(run: Run, found: Periods | None) -> str:
    entry = entry_of(run)
    result = run.result or {}
    regime = entry["regime"] if entry["regime"] in (1, 2, 3) else None
    final = last_of(run, "online", "loss")
    broken = run.has("online", "total", "loss") and not math.isfinite(final)
    recomputed = last_of(run, "test", "error_recomputed_bn")
    note = "last evaluation" if math.isfinite(number(entry["test_error"])) else ""
    note += f"; {percent(recomputed)} with statistics recomputed" if math.isfinite(recomputed) else ""
    w = window(run)
    mean = f"mean of epochs {w.first}-{w.last}" if w.last else ""
    last_loss = f"; last {show(final)}" if math.isfinite(final) else ""
    steps = number(result.get("steps"))
    timing = result.get("timing")
    timing = timing if isinstance(timing, dict) else {}
    spent, here = number(timing.get("seconds")), number(timing.get("steps_here"))
    if run.time == "step":
        last = {name: last_of(run, "online", name) for name in ("loss", "rho", "elr", "angle")}
        cards = [
            card("last loss", "not finite" if broken else show(last["loss"])),
            card("last norm of the groups", show(last["rho"])),
            card("last ELR", show(last["elr"])),
            card("last angle, radians a step", show(last["angle"])),
            card("steps", plain(_done(run)), f"{plain(run.table('online', 'total', 'angle').steps.size)} logged"),
            card("alerts", plain(len(run.alerts))),
        ]
        if spent > 0:
            cards.append(card("time", duration(spent)))
        return f'<div class="cards">{"".join(cards)}</div>'
    cards = [
        card(
            "regime", f"{regime} {regime_names[regime]}" if regime else regime_names[None], kind=f"regime{regime or 0}"
        ),
        card("train loss", "not finite" if broken else show(entry["train_loss"]), "" if broken else mean + last_loss),
        card("test error", percent(entry["test_error"]), note),
        card("effective gradient", show(entry["effective_gradient"]), mean),
        card("ESS", show(entry["ess"]), mean),
        card("cosine", show(entry["cosine"], 4), mean),
        card("epochs", str(run.last_epoch), f"{plain(int(steps))} steps" if math.isfinite(steps) else ""),
    ]
    if spent > 0:
        cards.append(
            card("time", duration(spent), f"since it went on, {plain(int(here))} steps" if here < steps else "")
        )
    if found is not None:
        cards = [*period_cards(found), *cards]
    return f'<div class="cards">{"".join(cards)}</div>'


def _evidence(run: Run) -> str:
    entry = entry_of(run)
    evidence, regime = entry["evidence"], entry["regime"]
    if not isinstance(evidence, dict) or not evidence:
        return ""
    cell = regime_cell(regime if regime in (1, 2, 3) else None)
    return f"<details><summary>{cell}: {esc(reason(evidence))}</summary>{pairs(flat_evidence(evidence))}</details>"


def _alerts(run: Run) -> str:
    """What a Monitor said while the run went on."""
    if not run.alerts:
        return ""
    items = []
    for alert in run.alerts[:MOST_ALERTS]:
        where = f"step {alert.get('step', '?')}, {alert.get('group', '?')}"
        ahead, remedy = (str(alert.get(name) or "") for name in ("forecast", "remedy"))
        text = str(alert.get("reason", "")) + (f". Forecast: {ahead}" if ahead else "")
        items.append((where, text + (f". To do: {remedy}" if remedy else "") + "."))
    more = len(run.alerts) - len(items)
    rest = f"<p>{more} more in alerts.jsonl.</p>" if more > 0 else ""
    return f"<h2>What the monitor said</h2>{pairs(items)}{rest}"
