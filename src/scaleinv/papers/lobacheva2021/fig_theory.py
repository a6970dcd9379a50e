"""Figures of the theory alone (Lobacheva et al. 2021): Fig. 2, the forces, Theorem 1, the toy function."""

import math
from typing import Any

import numpy as np

from scaleinv.papers.context import Context
from scaleinv.papers.figure import Figure, Numbers, array
from scaleinv.plots.style import INK, elr_colours, log_axis, new_figure, regime_colours, style
from scaleinv.theory import lobacheva2021 as theory
from scaleinv.theory import rates
from scaleinv.theory.simulators import recursion, toy

#: a step as large as this is for the eye only
LR_TIMES_G, DECAY, ANGLE = 0.75, 0.22, math.radians(68)
LR, LOW = 0.1, 1.0
WD, HIGH = 0.01, 3.0  # of the forces
BOUND_WD, BOUND_HIGH = 0.02, 4.0  # of the paths under Theorem 1
TOY_WD, NOISE, STEPS = 0.02, 1e-9, 1000


def numbers_sketch(context: Context) -> dict[str, Any]:
    """Compute norms before and after a gradient step, which is tangent, and the share that weight decay takes."""
    after = math.sqrt(1 + LR_TIMES_G**2)
    return {"lr_times_gradient": LR_TIMES_G, "decay": DECAY, "rho": 1.0, "rho_after_gradient": after}


@style()
def draw_sketch(numbers: Numbers) -> Figure:
    """Draw the weights on a circle; the gradient is tangent to it, weight decay points to the centre."""
    step, decay, longer = (numbers[name] for name in ("lr_times_gradient", "decay", "rho_after_gradient"))
    x = np.array([math.cos(ANGLE), math.sin(ANGLE)])
    tangent = np.array([x[1], -x[0]])
    after_gradient = x + step * tangent
    after_decay = (1 - decay) * x
    out, into = regime_colours[3], regime_colours[1]
    fig, ax = new_figure(5.0, 4.0)
    turn = np.linspace(math.radians(8), math.radians(118), 200)
    ax.plot(np.cos(turn), np.sin(turn), color=INK, lw=0.9)
    ax.plot(longer * np.cos(turn), longer * np.sin(turn), color=INK, lw=0.7, ls=":")
    ax.plot([0, x[0]], [0, x[1]], color=INK, lw=0.9, ls="--")
    ax.plot([0, after_gradient[0]], [0, after_gradient[1]], color=INK, lw=0.9, ls="--")
    for end, colour in ((after_gradient, out), (after_decay, into)):
        ax.annotate("", xy=end, xytext=x, arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.8})
    ax.plot(*x, "o", color=INK, ms=5, zorder=3)
    ax.plot(0, 0, "o", color=INK, ms=3)
    ax.text(x[0] - 0.02, x[1] + 0.05, "xₜ", ha="right", fontsize=11)
    ax.text(x[0] * 0.42 - 0.05, x[1] * 0.42, "ρ", ha="right", fontsize=11)
    middle = x + 0.5 * step * tangent
    ax.text(*(middle + 0.34 * x), "− lr · gradient: outwards", color=out, ha="left", va="bottom")
    place = x * (1 - 0.62 * decay) - np.array([0.05, 0])
    ax.text(*place, "− lr · wd · xₜ:\ninwards", color=into, ha="right", va="top")
    ax.text(*(after_gradient * 1.03), "√(ρ² + lr² g²)", ha="left", va="center")
    ax.set_aspect("equal")
    ax.set(xlim=(-0.55, 1.62), ylim=(-0.08, 1.42))
    ax.set_axis_off()
    ax.set_title("Two forces on the norm of scale-invariant weights")
    return fig


def numbers_forces(context: Context) -> dict[str, Any]:
    """Compute the relative change of rho^2 per step by either force, for two norms of the gradient; where they rest."""
    kappa = theory.kappa(LR, WD)
    square = kappa * np.geomspace(0.3, 12, 200)
    decay = 1 - (1 - LR * WD) ** 2
    grow = {eg: theory.next_rho_sq(square, eg, LR, WD) / square - (1 - decay) for eg in (LOW, HIGH)}
    rest = {eg: theory.resting_rho_sq(eg, LR, WD) for eg in grow}
    return {"lr": LR, "wd": WD, "kappa": kappa, "rho_sq": square, "decay": decay, "rest": rest, "growth": grow}


@style()
def draw_forces(numbers: Numbers) -> Figure:
    """Draw both forces against rho^2, with a dot where they balance."""
    kappa, decay, rest = numbers["kappa"], numbers["decay"], numbers["rest"]
    square = array(numbers["rho_sq"]) / kappa
    fig, ax = new_figure(6.2, 3.6)
    ax.plot(square, np.full_like(square, decay), color=INK, label="weight decay, inwards")
    for (eg, grow), colour in zip(numbers["growth"].items(), elr_colours([1.0, 10.0])):
        ax.plot(square, grow, color=colour, label=f"gradients, outwards, effective norm {float(eg):g}")
        ax.plot([rest[eg] / kappa], [decay], "o", color=colour)
    ax.axvspan(*(at / kappa for at in rest.values()), color=INK, alpha=0.07, lw=0)
    log_axis(ax, "xy")
    ax.set(xlabel="ρ² / κ", ylabel="relative change of ρ² in a step")
    ax.set_title("Forces on the norm: in the band between the dots they balance")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def numbers_bounds(context: Context) -> dict[str, Any]:
    """Simulate paths under constant l and L, random, and the adversary that waits at the lower end to kick; times in
    1/(lr wd), ``arrival``: the bound of the time to within 10 %.
    """
    kappa = theory.kappa(LR, BOUND_WD)
    bottom, top = theory.norm_interval_exact(LOW, BOUND_HIGH, LR, BOUND_WD)
    steps = int(3 / (LR * BOUND_WD))
    laws = {
        "constant l": recursion.constant(LOW),
        "constant L": recursion.constant(BOUND_HIGH),
        "random in [l, L]": recursion.uniform(LOW, BOUND_HIGH, seed=1),
        "adversary: l, then a kick of L": recursion.adversary(LOW, BOUND_HIGH, bottom * 1.05),
    }
    return {
        "lr": LR,
        "wd": BOUND_WD,
        "kappa": kappa,
        "interval": [bottom, top],
        "arrival": theory.time_to_interval(30 * kappa, BOUND_HIGH, LR, BOUND_WD, 0.1) * LR * BOUND_WD,
        "time": np.arange(steps + 1) * LR * BOUND_WD,
        "rho_sq": {name: recursion.run(30 * kappa, LR, BOUND_WD, law, steps)[:, 0] for name, law in laws.items()},
    }


@style()
def draw_bounds(numbers: Numbers) -> Figure:
    """Draw the paths, and the interval of the theorem as a band."""
    kappa, (bottom, top) = numbers["kappa"], numbers["interval"]
    fig, ax = new_figure(6.6, 3.9)
    ax.axhspan(bottom / kappa, top / kappa, color=INK, alpha=0.08, lw=0, label="[κl, κL], Theorem 1")
    for (name, path), colour in zip(numbers["rho_sq"].items(), elr_colours([1, 3, 10, 30])):
        ax.plot(numbers["time"], array(path) / kappa, color=colour, label=name, lw=1.1)
    ax.axvline(numbers["arrival"], color=INK, ls=":", lw=0.9, label="within 10 % at the latest (bound)")
    log_axis(ax, "y")
    ax.set(xlabel="steps · lr · wd", ylabel="ρ² / κ", title="Generalised equilibrium")
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def numbers_periods(context: Context) -> dict[str, Any]:
    """Simulate one group, alpha = 1."""
    record = toy.simulate([1.0], [LR], STEPS, seeds=[3], every=1, wd=TOY_WD, noise=NOISE, rho0=0.5)
    rho_sq = record.rho_sq[:, 0, 0]
    return {
        "lr": LR,
        "wd": TOY_WD,
        "noise": NOISE,
        "loss": record.loss[:, 0, 0],
        "rho_sq": rho_sq,
        "elr": rates.elr_of_square(LR, rho_sq),
        "cosine_distance": 1 - record.cosine[:, 0, 0],
    }


@style()
def draw_periods(numbers: Numbers) -> Figure:
    """Draw three panels over the same steps."""
    fig, axes = new_figure(7.0, 5.6, nrows=3, sharex=True)
    axes[0].plot(numbers["loss"], color=regime_colours[3], lw=1)
    log_axis(axes[0], "y")
    axes[0].set(ylabel="F", title="Toy function with weight decay: it converges and is thrown out again")
    axes[1].plot(numbers["rho_sq"], color=regime_colours[1], lw=1)
    axes[1].set_ylabel("ρ²")
    axes[2].plot(numbers["elr"], color=regime_colours[2], lw=1)
    axes[2].axhline(1.0, color=INK, ls="--", lw=0.9, label="1/α: above it the minimum repels")
    axes[2].set(ylabel="ELR = lr / ρ²", xlabel="step")
    axes[2].legend(loc="lower right")
    return fig
