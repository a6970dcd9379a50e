"""The registry of claims and the sheet of comparisons."""

import re
from pathlib import Path

import numpy as np
import pytest

from scaleinv.claims import registry
from scaleinv.claims.registry import QUICK_BUDGET, SCALES, Sheet, claims, select
from scaleinv.errors import UserError


def test_every_claim_is_complete():
    known = claims()
    assert {"1-identities", "2-one-group", "3-many-groups", "13-jumps", "15-rotation", "16-one-sample"} <= set(known)
    assert {"17-ideal-gas", "prop-1", "prop-2", "prop-3", "cor-1", "thm-1"} <= set(known)
    for id, claim in known.items():
        assert re.fullmatch(r"[a-z0-9-]+", id)
        assert claim.statement.endswith(".")
        assert len(claim.statement) <= 120
        assert claim.paper
        assert claim.place
        assert claim.scales
        assert all(scale in SCALES and cost > 0 for scale, cost in claim.scales.items())
        assert claim.check.__doc__, f"{id} does not say how it is checked"


def test_the_quick_set_is_affordable():
    cost = sum(claim.scales[scale] for claim, scale in select("quick"))
    assert cost <= QUICK_BUDGET
    assert sum(claim.scales[scale] for claim, scale in select("toy")) <= 100


def test_select():
    toy = select("toy")
    assert toy == sorted(toy, key=lambda pair: (-pair[0].scales["toy"], pair[0].id))
    assert {c.id for c, _ in toy} <= {c.id for c, _ in select("quick")}
    assert [(c.id, s) for c, s in select("toy", ("prop-1", "prop-1"))] == [("prop-1", "toy")]
    with pytest.raises(UserError, match="unknown claim 'prop-9'"):
        select("toy", ("prop-9",))
    with pytest.raises(UserError, match="scale 'huge'"):
        select("huge")
    with pytest.raises(UserError, match="they have: toy"):
        select("paper", ("prop-1",))


def test_one_id_one_claim():
    with pytest.raises(RuntimeError, match="twice"):
        registry.claim("prop-1", paper="p", place="q", statement="s.", scales={"toy": 1.0})(lambda context: None)


@pytest.mark.parametrize(
    ("measured", "se", "verdict"),
    [(1.0, 0.0, "holds"), (1.0999, 0.0, "holds"), (1.1001, 0.0, "fails"), (1.05, 0.02, "holds")]
    + [(1.09, 0.02, "undecided")]
    + [(1.2, 0.02, "fails"), (1.13, 0.02, "undecided"), (float("nan"), 0.0, "fails"), (float("inf"), 0.0, "fails")],
)
def test_close(measured, se, verdict):
    assert Sheet().close("x", measured, 1.0, rel=0.05, abs=0.05, se=se) == verdict


def test_bounds():
    assert Sheet().at_most("x", 1.0, 1.0) == "holds"
    assert Sheet().at_most("x", 1.1, 1.0) == "fails"
    assert Sheet().at_most("x", 0.99, 1.0, se=0.02) == "undecided"
    assert Sheet().at_least("x", 0.9, 1.0) == "fails"
    assert Sheet().at_least("x", 1.01, 1.0, se=0.02) == "undecided"
    assert Sheet().at_most("x", float("nan"), 1.0) == "fails"
    assert Sheet().true("x", 3, 3) == "holds"
    assert Sheet().true("x", False, True) == "fails"


def test_the_worst_comparison_decides_and_is_named():
    sheet = Sheet()
    assert sheet.result().verdict == "undecided"  # nothing compared, nothing decided
    sheet.close("good", np.float64(1.0), 1.0)
    assert sheet.result().verdict == "holds"
    sheet.undecided("too few events")
    assert sheet.result().verdict == "undecided"
    sheet.at_most("bad", 2.0, 1.0)
    result = sheet.result()
    assert result.verdict == "fails"
    assert "fails: bad is 2, expected at most 1\n" in result.evidence
    assert "too few events" in result.evidence
    assert type(result.measured["good"]) is float
    with pytest.raises(RuntimeError, match="twice"):
        sheet.true("good", 1, 1)


def test_every_finding_is_of_a_claim_and_its_page_is_there() -> None:
    from scaleinv.claims.findings import FINDINGS

    root = Path(__file__).parents[2]
    for (id, scale), known in FINDINGS.items():
        assert scale in claims()[id].scales
        assert id in (root / known.page).read_text(encoding="utf-8"), f"{known.page} does not speak of {id}"
        assert known.why
