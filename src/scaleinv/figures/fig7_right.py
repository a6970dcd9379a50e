"""Fig. 7, right (Kodryan et al. 2022): regime 1, going on with a lower and with a higher ELR."""

from __future__ import annotations

from typing import Any

from scaleinv.figures.registry import Context, Drawn, figure, finish


@figure(
    "fig7-right",
    paper="Kodryan et al. 2022",
    place="Fig. 7, right",
    title="Regime 1, re-training: a lower ELR stays on its trajectory, a higher one moves to its own",
    scales={"digits": 40, "mnist": 300, "paper": 1e6},
)
def draw(context: Context) -> Drawn:
    """Dots: runs from scratch. Lines: from a run of a high ELR on with a low one, and the other way round."""
    from scaleinv.analysis.trajectories import compare, trajectory
    from scaleinv.figures import _sphere as sphere
    from scaleinv.figures.style import INK, new_figure, power_of_ten, style
    from scaleinv.lab.experiments import regimes

    net = regimes.find(context.scale)
    seed = net.seeds[0]
    fig, axes = new_figure(9.2, 4.2, ncols=2)
    found: list[dict[str, Any]] = []
    ways: list[tuple[str, float, float, int | None]]
    ways = [("Lower ELR", *regimes.LOWER[0]), ("Higher ELR", *regimes.HIGHER[0], None)]
    if context.scale != "digits":
        low, high = net.convergence[1], net.convergence[-2]
        first = net.settings.keep_every
        ways = [("Lower ELR", high, low, 2 * first if first else None), ("Higher ELR", low, high, None)]
    with style():
        for ax, (title, start, elr, epoch) in zip(axes, ways):
            folders = context.obtain(regimes.sweep(net, [seed], [start, elr]))
            again = context.obtain(regimes.retrained(net, folders[0], [elr], seed=seed + 100, epoch=epoch))
            one, other = sphere.curves(folders, [start, elr])
            after = sphere.Curve(again[0], INK, f"from {power_of_ten(start)} on with {power_of_ten(elr)}")
            for curve in (one, other):
                sphere.draw_path(ax, curve, start=False)
                ax.plot([], [], ".", color=curve.colour, label=f"ELR {power_of_ten(curve.elr)} from scratch")
            sphere.draw_path(ax, after, marker="x", start=False)
            ax.plot([], [], "x-", color=INK, ms=4, lw=0.8, label=after.label)
            sphere.finish_diagram(ax)
            sphere.zoom([ax], [one, other, after])
            ax.set_title(f"{title}: {power_of_ten(start)} to {power_of_ten(elr)}")
            ax.legend(loc="upper left")
            paths = {curve.elr: trajectory(curve.run) for curve in (one, other)}
            mine = trajectory(after.run)
            found.append(
                {
                    "start": start,
                    "elr": elr,
                    "epoch": epoch,
                    "log_offset_from_start": compare(mine, paths[start]).offset.value,
                    "log_offset_from_new": compare(mine, paths[elr]).offset.value,
                    "curves": [curve.numbers() for curve in (one, other, after)],
                }
            )
    return finish(fig, context, {"scale": context.scale, "runs": found})
