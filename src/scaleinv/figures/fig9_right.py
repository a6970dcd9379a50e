"""Fig. 9, right (after Nakhodnov et al. 2022): squared loss on a small set, with all three regimes."""

from __future__ import annotations

from scaleinv.figures.registry import Context, Drawn, figure


@figure(
    "fig9-right",
    paper="Nakhodnov et al. 2022",
    place="5000 objects (fewer where the network is narrower)",
    title="Squared loss on a small set: all three regimes",
    scales={"digits": 30, "mnist": 60, "cifar-small": 420, "paper": 7e5},
)
def draw(context: Context) -> Drawn:
    """Loss and the diagram, by ELR."""
    from scaleinv.figures._diagram import draw_traces, edges, table, trace_all
    from scaleinv.lab.experiments import squared

    requests = squared.small(context.scale)
    traces = trace_all(context, requests)
    objects = requests[0].settings.subset
    numbers = {
        "head_norm": requests[0].settings.head_norm,
        "objects": objects,
        "boundaries": edges(traces),
        "runs": table(traces),
        "traces": [{k: t[k] for k in ("elr", "start", "steps", "loss", "eg", "cosine")} for t in traces],
    }
    return draw_traces(traces, f"Squared loss, {objects} objects", context, numbers)
