"""The ablation of Lobacheva et al. 2021: with the norm fixed after every step, below the critical ELR, no periods."""

from __future__ import annotations

from dataclasses import replace

from scaleinv.papers.figure import Context, Drawn, finish
from scaleinv.papers.lobacheva2021 import fig3
from scaleinv.papers.lobacheva2021.traces import Trace, traces
from scaleinv.plots.style import log_axis, new_figure, regime_colours, style
from scaleinv.studies.obtain import Request

#: of fig3; and twice the norm that the network has as initialised, where the ELR is a quarter
RATES = {"digits": (0.15, 12.6), "cifar-tiny": (0.1, 12.6), "cifar-small": (0.03, 18.1), "paper": (0.03, 25.3)}


def draw(context: Context) -> Drawn:
    """Train loss above, norm below."""

    lr, norm = RATES[context.scale]
    free = fig3.settings(context.scale)
    fixed = replace(free, fix_norm=True, keep_every=None)
    wanted = [Request(settings=one, lr=lr) for one in (free, fixed, replace(fixed, norm=norm))]
    names = ("norm free", "fixed as initialised", f"fixed at {norm:g}")
    return draw_traces(dict(zip(names, traces(context.folders(wanted), wanted))), context)


def draw_traces(shown: dict[str, Trace], context: Context) -> Drawn:
    """The figure of any runs, by name."""

    fig, axes = new_figure(6.6, 5.4, nrows=2, sharex=True)
    loss, norm = axes
    first = next(iter(shown.values()))
    with style():
        for (name, trace), colour in zip(shown.items(), (regime_colours[k] for k in (3, 1, 2))):
            (line,) = loss.plot(*trace.curve("loss"), color=colour, lw=1.1, label=f"{name}: {_said(trace)}")
            norm.plot(*trace.curve("rho"), color=line.get_color(), lw=1.3)
        log_axis(loss, "y")
        log_axis(norm, "y")
        loss.set_title(f"{first.rate_text}, weight decay {first.wd:g}")
        loss.set_ylabel("train loss, mean of the epoch")
        norm.set_ylabel("norm ρ")
        norm.set_xlabel("epoch")
        norm.set_xlim(0, None)
        fig.legend(loc="outside lower center", ncols=1)
    return finish(fig, context, {"scale": context.scale, "runs": {n: t.numbers() for n, t in shown.items()}})


def _said(trace: Trace) -> str:
    found = trace.periods
    many = len(found.destabilisations)
    return f"{many or 'no'} break-down{'s' * (many != 1)}"
