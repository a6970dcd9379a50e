# ruff: noqa: E501  (a page)
"""Write docs/results/dissertation.md from papers/statements.ini and the records in docs/results/data.

scaleinv verify --record docs/results/data    measure and record
python docs/statements.py                     write the page
"""

import html
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from scaleinv.papers.records import StoredResult, read_records
from scaleinv.papers.statements import OnRecord, Statement, found, statements

RESULTS = Path(__file__).parent / "results"
PAGE, DATA = RESULTS / "dissertation.md", RESULTS / "data"

HEAD = """# The dissertation, statement by statement

What Kodryan's dissertation (HSE, 2023; parts 3.1 and 3.2) says, in our words, and what came out when it was checked. A claim **holds**, **fails** or is
**undecided** (the evidence does not decide); beside the verdict stands what was compared first, or what decided. A statement is judged by the data nearest
to the papers'; what smaller data said stands behind it. At `digits` a claim takes seconds to minutes, at `cifar-small` up to hours. Scales: `toy` is formulas and simulators, `digits` 8x8 images, `cifar-tiny` 500 images of
CIFAR-10, `cifar-small` 5000 of them, and networks of a quarter to a half of the paper's width. Any line is made again, with its scale and claim, by

    scaleinv verify --scale digits --only jump-envelope

and all of what was compared, with commit, processor and the identities of the runs, is in `docs/results/data/CLAIM-SCALE.json`. This page is made from these
files by `python docs/statements.py`. What a failure means is told in [the claims about periods](periods-claims.md) and [the regimes, measured](regimes.md).

"""


def page(records: Mapping[tuple[str, str], StoredResult]) -> str:
    """Write the whole page."""
    rows = [line(one, [found(claim, records) for claim in one.claims]) for one in statements()]
    counts = Counter(verdict(one, [found(claim, records) for claim in one.claims]) for one in statements())
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    table = ["| | statement | verdict | what was compared | figures |", "|---|---|---|---|---|", *rows]
    return HEAD + f"{len(rows)} statements: {told}.\n\n" + "\n".join(table) + "\n\n" + made(records)


def verdict(one: Statement, by_claim: list[list[OnRecord]]) -> str:
    """Judge a statement by the first (strongest) record of each claim: the least favourable of them."""
    strongest = [claim[0].verdict for claim in by_claim if claim]
    if not strongest:
        return "not run" if one.needs or one.claims else "not checked"
    return next(word for word in ("fails", "undecided", "holds") if word in strongest)


def line(one: Statement, by_claim: list[list[OnRecord]]) -> str:
    """Write the row of a statement."""
    cells = []
    for id, claim in zip(one.claims, by_claim):
        if not claim:
            cells.append(f"`{id}`: not on record")
            continue
        first, *others = claim
        behind = "".join(f"; {other.scale}: {other.verdict}" for other in others)
        cells.append(f"`{id}` {first.verdict} ({first.scale}{behind}). {first.words}".rstrip())
    if one.missing:
        cells.append(f"Not judged: {one.missing}.")
    if one.needs:
        cells.append(f"Needs {one.needs}.")
    compared = "<br>".join(html.escape(cell, quote=False).replace("|", "&#124;") for cell in cells)
    figures = ", ".join(f"`{id}`" for id in one.figures)
    return f"| {one.number} | {one.says} ({one.place}) | {verdict(one, by_claim)} | {compared} | {figures} |"


def made(records: Mapping[tuple[str, str], StoredResult]) -> str:
    """Say by which code and on which processors the records were made."""
    places = Counter((str(one.made["git"])[:10], one.made["torch"], one.made["processor"]) for one in records.values())
    lines = [f"- {count} at commit {git}, torch {torch}, {name}" for (git, torch, name), count in places.most_common()]
    return "\n".join(["Made:", "", *lines, ""])


if __name__ == "__main__":
    PAGE.write_text(page(read_records(DATA)), encoding="utf-8")
    print(f"{PAGE} has {len(statements())} statements")
