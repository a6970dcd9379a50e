"""Show the doctor's answer to people: a table on the terminal, a page of HTML."""

from importlib.resources import files
from typing import Any

from scaleinv.symmetry.result import Symmetries, group_name
from scaleinv.symmetry.wrapped import Wrapped
from scaleinv.text import esc
from scaleinv.theory import rates

Row = tuple[str, str, str, str, str, str]
#: heads of the columns, and how they are set: text or wrapped text to the left, numbers to the right
_HEADS = (("kind", "text"), ("tensors", "wrap"), ("norm", ""), ("ELR", ""), ("1 % eps", ""), ("remark", "wrap"))
_ELR = 3
_POWERS = "rescaling a^+1, b^-1: no output changes when a is multiplied by c and b divided by it."


def table_rows(found: Symmetries, lr: float | None, law: rates.Law = "sgd") -> list[Row]:
    """Make a row of each finding; of a group with its norm, its ELR by ``law`` and where eps makes 1 % error."""
    rows: list[Row] = []
    for kind, tensors, remark in found.lines():
        norm = elr = limit = ""
        if kind in ("single", "joint"):
            rho = found.norm(tensors)
            norm = f"{rho:.3g}"
            elr = "" if lr is None else "-" if rho == 0 else f"{rates.elr(lr, rho, law):.2e}"
            one_percent = found.defect.get(group_name(tensors), {}).get("norm_1_percent")
            limit = "" if one_percent is None else f"{one_percent:.2g}"
            if one_percent is not None and rho < one_percent:
                remark = "; ".join(filter(None, (remark, "eps is felt: more than 1 % error at this norm")))
        rows.append((kind, "\n".join(tensors), norm, elr, limit, remark))
    return rows


def evidence_line(found: Symmetries) -> str:
    """Say in one line how sure the answer is."""
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
        numbers = ", ".join(e["eps_sites"])
        parts.append(f"{numbers} taken for an eps: the groups hold up to it, the defect falls as the weights grow")
    if e["random_draws"] > 1:
        parts.append(f"{e['random_draws']} random draws of the model's own randomness")
    if e["outputs_left_out"]:
        parts.append(f"outputs looked at: {', '.join(e['outputs_used'])}; left out: {', '.join(e['outputs_left_out'])}")
    return "; ".join(parts)


def terminal_table(found: Symmetries, lr: float | None = None, law: rates.Law | None = None) -> list[Any]:
    """Lay out what the terminal shows, answer first; needs rich. ``law``: None where no optimizer is known, SGD's."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, (name, kind) in enumerate(_HEADS):
        if i != _ELR or lr is not None:
            table.add_column(name, justify="left" if kind else "right", no_wrap=kind != "wrap", overflow="fold")
    for row in table_rows(found, lr, law or "sgd"):
        table.add_row(*(Wrapped(cell) for i, cell in enumerate(row) if i != _ELR or lr is not None))
    lines: list[Any] = [Text(found.headline(), style="bold"), Text(""), table, Text("")]
    if found.single or found.joint:
        note = "Weight decay on single and joint groups only sets the ELR. "
        note += "'1 % eps' is the norm at which eps makes 1 % error in the effective gradient."
        if lr is not None:
            note = f"{_elr_note(lr, law)} " + note
        lines.append(Text(note, style="dim"))
    if found.rescaling or found.weighted or found.sliced:
        lines.append(Text(_POWERS, style="dim"))
    lines += [Text(f"note: {note}") for note in found.evidence["notes"]]
    lines.append(Text(evidence_line(found), style="dim"))
    return lines


def _elr_note(lr: float, law: rates.Law | None) -> str:
    if law is None:
        return f"ELR is lr/norm^2 at lr {lr:g} (SGD; for Adam and its kin the rate is lr/norm)."
    return f"ELR is lr/norm{'^2' if law == 'sgd' else ''} at lr {lr:g}."


def html_page(
    found: Symmetries, title: str, lr: float | None = None, law: rates.Law | None = None, more: str = ""
) -> str:
    """Write the same table as a page of HTML, in the style of all pages (``page.css``); ``more``: what follows it."""
    heads = _HEADS
    shown = [i for i in range(len(heads)) if i != _ELR or lr is not None]
    head = "".join(f'<th class="{"text" if heads[i][1] else ""}">{heads[i][0]}</th>' for i in shown)
    rows = "".join(
        "<tr>"
        + "".join(f'<td class="{heads[i][1]}">{esc(row[i]).replace(chr(10), "<br>")}</td>' for i in shown)
        + "</tr>"
        for row in table_rows(found, lr, law or "sgd")
    )
    said = "; ".join([evidence_line(found), *found.evidence["notes"]])
    css = files("scaleinv").joinpath("page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Which weights have no scale: {esc(title)}</title><style>{css}</style></head><body><main>"
        f'<h1>Which weights have no scale</h1><p class="about">{esc(title)}</p>'
        f'<p class="answer">{esc(found.headline())}</p>'
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="about">{esc(said)}</p>{more}</main></body></html>\n'
    )
