"""The passage from regime 1 to 2: the time to convergence diverges; double descent with label noise."""

from __future__ import annotations

from typing import Any

from scaleinv.analysis.double_descent import run_double_descent
from scaleinv.analysis.transition import first_passage, fit_divergence
from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, regime_colours, style
from scaleinv.runfolder.read import load_run


def draw(context: Context) -> Drawn:
    """Left: first passage below a loss of 1e-2, every seed. Right: one ELR, true labels and 20 % redrawn ones."""

    requests = regimes.passages(context.scale)
    passages = [first_passage(load_run(folder)) for folder in context.folders(requests)]
    fit = fit_divergence(passages)
    noisy = regimes.label_noise(context.scale)
    runs = context.runs(noisy)
    fig, (time, error) = new_figure(9.2, 4.0, ncols=2)
    with style():
        reached = [p for p in passages if p.epoch is not None]
        failed = [p for p in passages if p.epoch is None]
        time.plot(
            [p.elr for p in reached], [p.time for p in reached], "o", color=regime_colours[1], ms=5, label="a run"
        )
        if failed:
            where = [p.elr for p in failed], [p.horizon for p in failed]
            time.plot(*where, "^", color=regime_colours[2], ms=6, mfc="none", label="did not converge within the run")
        if fit.verdict == "diverges":
            time.axvline(
                fit.critical, color=INK, ls="--", lw=0.9, label=f"fitted critical ELR {power_of_ten(fit.critical)}"
            )
        log_axis(time, "xy")
        time.set_xlabel("ELR")
        time.set_ylabel("epochs to a train loss below 0.01")
        time.set_title("Time to convergence")
        time.legend(loc="upper left")
        found: list[dict[str, Any]] = []
        for run, request, colour in zip(runs, noisy, (regime_colours[1], regime_colours[3])):
            epochs, values = run.series("test", "total", "error_recomputed_bn")
            train_epochs, train = run.series("online", "total", "error")
            noise = request.settings.label_noise
            judged = run_double_descent(run)
            name = f"{noise:.0%} of labels redrawn" if noise else "true labels"
            said = {"none": "no double descent"}.get(judged.verdict, judged.verdict)
            error.plot(epochs[1:], 100 * values[1:], color=colour, lw=1.3, label=f"test, {name}: {said}")
            error.plot(train_epochs, 100 * train, color=colour, lw=1.0, ls=":", label=f"train, {name}")
            found.append(
                {
                    "label_noise": noise,
                    "elr": run.elr,
                    "verdict": judged.verdict,
                    "reason": judged.reason,
                    "epoch": epochs,
                    "test_error": values,
                }
            )
        error.set_xlabel("epoch")
        error.set_ylabel("error, %")
        error.set_xscale("log")
        log_axis(error, "x")
        error.set_ylim(0, None)
        error.set_title(f"Error by epoch at ELR {power_of_ten(runs[0].elr)}")
        error.legend(loc="upper right")
    numbers = {
        "scale": context.scale,
        "passages": [{"elr": p.elr, "seed": p.seed, "epochs": p.time, "horizon": p.horizon} for p in passages],
        "critical": fit.critical,
        "critical_interval": [fit.critical_interval.low, fit.critical_interval.high],
        "exponent": fit.exponent,
        "fit": fit.reason,
        "double_descent": found,
    }
    return finish(fig, context, numbers)
