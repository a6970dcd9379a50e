"""Fig. 9, left (after Nakhodnov et al. 2022): squared loss on the full set, where no ELR converges."""

from __future__ import annotations

from scaleinv.papers.figure import Context, Drawn
from scaleinv.papers.nakhodnov2022 import runs as squared
from scaleinv.papers.nakhodnov2022.diagram import draw_traces, edges, table, trace_all


def draw_left(context: Context) -> Drawn:
    """Loss and the diagram, by ELR."""

    requests = squared.full(context.scale)
    traces = trace_all(context, requests)
    numbers = {
        "head_norm": requests[0].settings.head_norm,
        "boundaries": edges(traces),
        "runs": table(traces),
        "traces": [{k: t[k] for k in ("elr", "start", "steps", "loss", "eg", "cosine")} for t in traces],
    }
    return draw_traces(traces, "Squared loss, full set", context, numbers)


def draw_right(context: Context) -> Drawn:
    """Loss and the diagram, by ELR."""

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
