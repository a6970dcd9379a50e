"""The passage from regime 1 to 2: the time to convergence diverges; double descent with label noise."""

from typing import Any

from scaleinv.analysis.double_descent import run_double_descent
from scaleinv.analysis.transition import first_passage, fit_divergence
from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.papers.kodryan2022 import runs as regimes
from scaleinv.plots.style import INK, log_axis, new_figure, power_of_ten, regime_colours, style
from scaleinv.runfolder.read import Run


def numbers(context: Context) -> dict[str, Any]:
    """Read first passages below a loss of 1e-2, every seed; the errors of one ELR with true labels and 20 % redrawn."""
    passages = [first_passage(run) for run in context.runs(regimes.passages(context.scale))]
    fit = fit_divergence(passages)
    noisy = regimes.label_noise(context.scale)
    return {
        "scale": context.scale,
        "passages": [{"elr": p.elr, "seed": p.seed, "epochs": p.time, "horizon": p.horizon} for p in passages],
        "critical": fit.critical,
        "critical_interval": [fit.critical_interval.low, fit.critical_interval.high],
        "exponent": fit.exponent,
        "fit": fit.reason,
        "fit_verdict": fit.verdict,
        "double_descent": [
            {"label_noise": request.settings.label_noise, **_errors(run)}
            for request, run in zip(noisy, context.runs(noisy))
        ],
    }


def _errors(run: Run) -> dict[str, Any]:
    judged = run_double_descent(run)
    epochs, values = run.series("test", "total", "error_recomputed_bn")
    train_epochs, train = run.series("online", "total", "error")
    found = {"elr": run.elr, "verdict": judged.verdict, "reason": judged.reason, "epoch": epochs, "test_error": values}
    return {**found, "train_epoch": train_epochs, "train_error": train}


@style()
def draw(numbers: Numbers) -> Figure:
    """Draw time to convergence by ELR (left), test and train error by epoch (right)."""
    fig, (time, error) = new_figure(9.2, 4.0, ncols=2)
    reached = [p for p in numbers["passages"] if p["epochs"] is not None]
    failed = [p for p in numbers["passages"] if p["epochs"] is None]
    where = [p["elr"] for p in reached], [p["epochs"] for p in reached]
    time.plot(*where, "o", color=regime_colours[1], ms=5, label="a run")
    if failed:
        where = [p["elr"] for p in failed], [p["horizon"] for p in failed]
        time.plot(*where, "^", color=regime_colours[2], ms=6, mfc="none", label="did not converge within the run")
    if numbers["fit_verdict"] == "diverges":
        label = f"fitted critical ELR {power_of_ten(numbers['critical'])}"
        time.axvline(numbers["critical"], color=INK, ls="--", lw=0.9, label=label)
    log_axis(time, "xy")
    time.set(xlabel="ELR", ylabel="epochs to a train loss below 0.01", title="Time to convergence")
    time.legend(loc="upper left")
    for run, colour in zip(numbers["double_descent"], (regime_colours[1], regime_colours[3])):
        name = f"{run['label_noise']:.0%} of labels redrawn" if run["label_noise"] else "true labels"
        said = {"none": "no double descent"}.get(run["verdict"], run["verdict"])
        test, train = 100 * array(run["test_error"]), 100 * array(run["train_error"])
        error.plot(run["epoch"][1:], test[1:], color=colour, lw=1.3, label=f"test, {name}: {said}")
        error.plot(run["train_epoch"], train, color=colour, lw=1.0, ls=":", label=f"train, {name}")
    error.set(xlabel="epoch", ylabel="error, %")
    error.set_xscale("log")
    log_axis(error, "x")
    error.set(ylim=(0, None), title=f"Error by epoch at ELR {power_of_ten(numbers['double_descent'][0]['elr'])}")
    error.legend(loc="upper right")
    return fig
