"""Fig. 9, left (after Nakhodnov et al. 2022): squared loss on the full set, where no ELR converges."""

from __future__ import annotations

from scaleinv.figures.registry import Context, Drawn, figure


@figure(
    "fig9-left",
    paper="Nakhodnov et al. 2022",
    place="full train set",
    title="Squared loss on the full set: regimes 2 and 3 alone",
    scales={"digits": 35, "mnist": 150, "cifar-small": 600, "paper": 7e6},
)
def draw(context: Context) -> Drawn:
    """Loss and the diagram, by ELR."""
    from scaleinv.figures._diagram import draw_traces, edges, table, trace_all
    from scaleinv.lab.experiments import squared

    requests = squared.full(context.scale)
    traces = trace_all(context, requests)
    numbers = {
        "head_norm": requests[0].settings.head_norm,
        "boundaries": edges(traces),
        "runs": table(traces),
        "traces": [{k: t[k] for k in ("elr", "start", "steps", "loss", "eg", "cosine")} for t in traces],
    }
    return draw_traces(traces, "Squared loss, full set", context, numbers)
