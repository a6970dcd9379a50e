"""The doctor's answer for people: a table on the terminal, a page of HTML."""

from __future__ import annotations

import html
from importlib.resources import files
from typing import TYPE_CHECKING

from scaleinv.symmetry.result import Symmetries, group_name, rescaling_name
from scaleinv.theory import rates

if TYPE_CHECKING:
    from rich.console import RenderableType

Row = tuple[str, str, str, str, str, str]  # kind, tensors, norm, ELR, eps, remark

NOTES = {
    "single": "weight decay on these only sets the ELR",
    "joint": "scale-invariant only together; weight decay on all of them only sets the ELR",
    "dead": "weight decay on dead tensors does nothing to the function",
}


def table_rows(found: Symmetries, lr: float | None) -> list[Row]:
    """One row per finding; the norm, the ELR lr/rho^2 (SGD) and the norm at which eps makes 1 % error for the groups."""
    rows: list[Row] = []
    for kind, groups in (("single", [(n,) for n in found.single]), ("joint", list(found.joint))):
        for tensors in groups:
            rho = found.norm(tensors)
            elr = "" if lr is None else ("-" if rho == 0 else f"{rates.elr(lr, rho):.2e}")
            eps = found.defect.get(group_name(tensors), {})
            one_percent = eps.get("norm_1_percent")
            limit = "" if one_percent is None else f"{one_percent:.2g}"
            remarks = []
            if any(n in found.frozen for n in tensors):
                remarks.append(
                    "frozen" if all(n in found.frozen for n in tensors) else "frozen in part: not free in training"
                )
            if found.is_affine(tensors):
                remarks.append("affine pair of a norm" if len(tensors) == 2 else "gains and biases")
            if kind == "single" and tensors[0] in found.row:
                dim = found.row_dim.get(tensors[0], 0)
                remarks.append("each row by itself" if dim == 0 else f"each slice of dim {dim} by itself")
            if one_percent is not None and rho < one_percent:
                remarks.append("eps is felt: more than 1 % error at this norm")
            rows.append((kind, "\n".join(tensors), f"{rho:.3g}", elr, limit, "; ".join(remarks)))
    for part in found.partial:
        spans = ", ".join(f"{a}:{b}" for a, b in part.ranges)
        rows.append(("partial", part.name, "", "", "", f"scale-invariant in dim {part.dim}: {spans}"))
    for pair in found.rescaling:
        rows.append(("rescaling", rescaling_name(pair), "", "", "", ""))
    if found.dead:
        rows.append(("dead", "\n".join(found.dead), "", "", "", NOTES["dead"]))
    if found.fixed:
        rows.append(("fixed", "\n".join(found.fixed), "", "", "", "have a scale of their own"))
    return rows


def evidence_line(found: Symmetries) -> str:
    """How sure the answer is, in one line."""
    e = found.evidence
    dropped = "none is zero" if e["largest_dropped"] is None else f"largest dropped {e['largest_dropped']:.1e}"
    kept = "none kept" if e["smallest_kept"] is None else f"smallest kept {e['smallest_kept']:.1e}"
    worst = max((max(r.values()) for r in e["residuals"].values()), default=0.0)
    parts = [
        f"verdict {e['verdict']}",
        f"singular values: {kept}, {dropped}",
        f"{e['outputs'] - e['skipped_outputs']} outputs",
        f"{e['dtype']}, eps {e['eps']:g}",
        f"every claim tried by scaling: largest residual {worst:.1e}",
    ]
    if e["skipped_outputs"]:
        parts.append(f"{e['skipped_outputs']} outputs skipped: a constant channel amplifies rounding there")
    if e["eps_by_hand"]:
        numbers = ", ".join(f"{v:g}" for v in e["eps_by_hand"])
        parts.append(f"{numbers} added in the code taken for eps: the groups hold up to it, the defect falls as c^-2")
    return "; ".join(parts)


def terminal_table(found: Symmetries, lr: float | None = None) -> list[RenderableType]:
    """What the terminal shows, answer first; needs rich."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("kind", no_wrap=True)
    table.add_column("tensors", overflow="fold")
    table.add_column("norm", justify="right", no_wrap=True)
    if lr is not None:
        table.add_column("ELR", justify="right", no_wrap=True)
    table.add_column("1 % eps", justify="right", no_wrap=True)
    table.add_column("remark")
    for row in table_rows(found, lr):
        cells = [Text(cell) for i, cell in enumerate(row) if not (i == 3 and lr is None)]
        table.add_row(*cells)
    lines: list[RenderableType] = [Text(found.headline(), style="bold"), Text(""), table, Text("")]
    if found.single or found.joint:
        note = f"{NOTES['single']}. '1 % eps' is the norm at which eps makes 1 % error in the effective gradient."
        if lr is not None:
            note = f"ELR is lr/norm^2 at lr {lr:g} (SGD; for Adam and its kin the rate is lr/norm). " + note
        lines.append(Text(note[0].upper() + note[1:], style="dim"))
    lines.append(Text(evidence_line(found), style="dim"))
    return lines


def html_page(found: Symmetries, title: str, lr: float | None = None) -> str:
    """A page of its own with the same table, in the style of all pages (``page.css``)."""
    heads = [("kind", "text"), ("tensors", "wrap"), ("norm", ""), ("ELR", ""), ("1 % eps", ""), ("remark", "wrap")]
    shown = [i for i in range(len(heads)) if not (i == 3 and lr is None)]
    head = "".join(f'<th class="{"text" if heads[i][1] else ""}">{heads[i][0]}</th>' for i in shown)
    rows = "".join(
        "<tr>"
        + "".join(f'<td class="{heads[i][1]}">{html.escape(row[i]).replace(chr(10), "<br>")}</td>' for i in shown)
        + "</tr>"
        for row in table_rows(found, lr)
    )
    css = files("scaleinv").joinpath("page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{css}</style></head><body><main>"
        f'<h1>{html.escape(title)}</h1><p class="answer">{html.escape(found.headline())}</p>'
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="about">{html.escape(evidence_line(found))}</p></main></body></html>\n'
    )
