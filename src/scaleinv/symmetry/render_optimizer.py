"""Show what an optimizer does and which groups would suit: lines for the terminal, a section of HTML."""

from typing import Any

from scaleinv.symmetry.groups import ParamGroups
from scaleinv.symmetry.review import OptimizerReview
from scaleinv.symmetry.roles import Kind
from scaleinv.symmetry.wrapped import Wrapped
from scaleinv.text import count, esc

_HEADS = ("tensors", "lr", "decay", "what it does")
_WHY: dict[Kind, str] = {
    "scale-invariant": "decay sets their ELR and leaves the function alone",
    "own scale": "decay regularises the function",
    "gains and biases": "usual practice leaves them out; case by case above",
    "dead": "decay is all that would move them",
    "undecided": "matrices decay, vectors not",
}
_FINE = "Nothing in its groups is worth a change."


def effect_rows(review: OptimizerReview) -> list[tuple[str, str, str, str]]:
    """Make a row of the tensors that the optimizer treats alike: names, lr, weight decay, effect."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for t in review.tensors:
        lr, decay = ("-", "-") if t.lr is None or t.weight_decay is None else (f"{t.lr:g}", f"{t.weight_decay:g}")
        alike.setdefault((lr, decay, t.effect), []).append(t.name)
    return [("\n".join(names), *key) for key, names in alike.items()]


def group_rows(groups: ParamGroups) -> list[tuple[str, str, str, str]]:
    """Make a row of each group: names, lr, weight decay, why; the reasons tensor by tensor stand with the effects."""
    return [
        ("\n".join(names), f"{group['lr']:g}", f"{group['weight_decay']:g}", f"{group['name']}: {_WHY[group['name']]}")
        for group, names in zip(groups, groups.tensors)
    ]


def optimizer_lines(title: str, review: OptimizerReview, groups: ParamGroups) -> list[Any]:
    """Lay out both for the terminal; needs rich."""
    from rich.table import Table
    from rich.text import Text

    def table(rows: list[tuple[str, str, str, str]], last: str) -> Table:
        made = Table(box=None, pad_edge=False, header_style="bold")
        for i, name in enumerate((*_HEADS[:3], last)):
            made.add_column(name, justify="right" if i in (1, 2) else "left", no_wrap=i in (1, 2), overflow="fold")
        for row in rows:
            made.add_row(*map(Wrapped, row))
        return made

    lines: list[Any] = [Text(""), Text(f"What {title} does", style="bold")]
    lines += [Text(f"- {finding}") for finding in review.findings] or [Text(_FINE)]
    lines += [Text(""), table(effect_rows(review), _HEADS[3]), Text(""), Text(_suggestion(groups), style="bold")]
    return [*lines, table(group_rows(groups), "why")]


def optimizer_html(title: str, review: OptimizerReview, groups: ParamGroups) -> str:
    """Write the same as a section of HTML."""

    def cell(text: str, kind: str) -> str:
        return f'<td class="{kind}">{esc(text).replace(chr(10), "<br>")}</td>'

    def table(rows: list[tuple[str, str, str, str]], last: str) -> str:
        kinds = ("wrap", "", "", "wrap")
        heads = zip((*_HEADS[:3], last), kinds)
        head = "".join(f'<th class="{"text" if kind else ""}">{name}</th>' for name, kind in heads)
        body = "".join(f"<tr>{''.join(map(cell, row, kinds))}</tr>" for row in rows)
        return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    findings = "".join(f"<li>{esc(finding)}</li>" for finding in review.findings)
    return (
        f"<h2>What {esc(title)} does</h2>"
        + (f"<ul>{findings}</ul>" if findings else f"<p>{_FINE}</p>")
        + table(effect_rows(review), _HEADS[3])
        + f"<h2>{esc(_suggestion(groups))}</h2>"
        + table(group_rows(groups), "why")
    )


def _suggestion(groups: ParamGroups) -> str:
    return f"Better: {count(len(groups), 'group')} by scaleinv.param_groups(model, inputs, lr=..., weight_decay=...)"
