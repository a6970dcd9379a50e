"""The registry of claims and the sheet of comparisons."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.papers import shelf
from scaleinv.papers.claim import Claim, Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.figure import FigureEntry
from scaleinv.papers.scales import SCALES
from scaleinv.papers.shelf import QUICK_BUDGET, claims, figures, present_ids, select

NAN, INF = float("nan"), float("inf")


def test_every_claim_is_complete():
    known = claims()
    assert {
        "identities",
        "toy-one-group",
        "toy-many-groups",
        "jumps-of-the-recursion",
        "rotation-at-equilibrium",
        "toy-one-sample",
    } <= set(known)
    assert {
        "ideal-gas",
        "jump-size",
        "jump-times-of-the-recursion",
        "toy-convergence",
        "jump-frequency",
        "norm-interval-of-the-recursion",
    } <= set(known)
    for id, claim in known.items():
        assert re.fullmatch(r"[a-z0-9-]+", id)
        assert claim.statement.endswith(".")
        assert len(claim.statement) <= 120
        assert claim.paper
        assert claim.place
        assert claim.scales
        assert all(scale in SCALES and cost > 0 for scale, cost in claim.scales.items())
        assert claim.tolerance, f"{id} does not say how it is checked"
        module, _, function = claim.check.partition(":")
        assert callable(getattr(importlib.import_module(module), function))


def test_the_quick_set_is_affordable():
    cost = sum(claim.scales[scale] for claim, scale in select("quick"))
    assert cost <= QUICK_BUDGET
    assert sum(claim.scales[scale] for claim, scale in select("toy")) <= 100


def test_select():
    toy = select("toy")
    assert toy == sorted(toy, key=lambda pair: (-pair[0].scales["toy"], pair[0].id))
    assert {c.id for c, _ in toy} <= {c.id for c, _ in select("quick")}
    assert [(c.id, s) for c, s in select("toy", ("jump-size", "jump-size"))] == [("jump-size", "toy")]
    with pytest.raises(UserError, match="unknown claim 'prop-9'"):
        select("toy", ("prop-9",))
    with pytest.raises(UserError, match="scale 'huge'"):
        select("huge")
    with pytest.raises(UserError, match="they have: toy"):
        select("paper", ("jump-size",))


def test_ids_speak():
    """No numbering; the ids of the first version are still understood."""
    assert not [id for id in claims() if re.match(r"\d|prop-|thm-|cor-", id)]
    assert present_ids(["4-three-regimes", "three-regimes"]) == dict.fromkeys(
        ["4-three-regimes", "three-regimes"], "three-regimes"
    )
    assert [c.id for c, _ in select("digits", ("4-three-regimes",))] == ["three-regimes"]
    former = [claim.was for claim in claims().values() if claim.was]
    assert len(former) == len(set(former))
    assert not set(former) & set(claims())


class Entry:
    """An installed package that adds to the papers."""

    name, value = "mine", "mypackage.catalogue"

    def __init__(self, **content):
        self.content = content

    def load(self):
        if not self.content:
            raise ImportError("no module named mypackage")
        return type("catalogue", (), self.content)


def mine(id="my-claim"):
    return Claim(
        id=id, paper="Mine 2026", place="Fig. 1", statement="It holds.", tolerance="exact", scales={"toy": 1.0},
        check="tests.claims.test_claims_registry:check_mine",
    )  # fmt: skip


def check_mine(sheet, context):
    sheet.true("scale", context.scale, "toy")


def test_a_package_adds_claims_and_figures(monkeypatch):
    figure = FigureEntry("my-figure", "Mine 2026", "Fig. 1", "A line", {"toy": 1.0}, "mine:numbers", "mine:draw")
    monkeypatch.setattr(shelf, "entry_points", lambda group: [Entry(CLAIMS=[mine()], FIGURES=[figure])])
    assert claims()["my-claim"].run(Context("toy")).verdict == "holds"
    assert figures()["my-figure"] is figure
    assert [c.id for c, _ in select("toy", ("my-claim",))] == ["my-claim"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "cannot be loaded: ImportError: no module named mypackage"),
        ({"CLAIMS": [mine("jump-size")]}, "has the id 'jump-size', as has scaleinv.papers.lobacheva2021.catalogue"),
        ({"CLAIMS": ["my-claim"]}, "holds 'my-claim', not a Claim"),
    ],
)
def test_a_package_that_adds_nonsense_is_named(content, words, monkeypatch):
    monkeypatch.setattr(shelf, "entry_points", lambda group: [Entry(**content)])
    with pytest.raises(UserError, match=re.escape(words)) as caught:
        claims()
    assert "mypackage.catalogue" in str(caught.value)


@pytest.mark.parametrize(
    ("measured", "se", "verdict"),
    [(1.0, 0.0, "holds"), (1.0999, 0.0, "holds"), (1.1001, 0.0, "fails"), (1.05, 0.02, "holds")]
    + [(1.09, 0.02, "undecided")]
    + [(1.2, 0.02, "fails"), (1.13, 0.02, "undecided"), (NAN, 0.0, "undecided"), (INF, 0.0, "fails")]
    + [(1.0, NAN, "undecided"), (9.0, NAN, "undecided"), (1.0, INF, "undecided"), (INF, INF, "undecided")],
)
def test_close(measured, se, verdict):
    assert Sheet().close("x", measured, 1.0, rel=0.05, abs=0.05, se=se) == verdict


def test_bounds():
    assert Sheet().at_most("x", 1.0, 1.0) == "holds"
    assert Sheet().at_most("x", 1.1, 1.0) == "fails"
    assert Sheet().at_most("x", 0.99, 1.0, se=0.02) == "undecided"
    assert Sheet().at_least("x", 0.9, 1.0) == "fails"
    assert Sheet().at_least("x", 1.01, 1.0, se=0.02) == "undecided"
    assert Sheet().true("x", 3, 3) == "holds"
    assert Sheet().true("x", False, True) == "fails"


def test_what_scatters_by_factors():
    assert Sheet().at_least("x", 30.0, 10.0, log_se=0.5) == "holds"  # 30 / e
    assert Sheet().at_least("x", 20.0, 10.0, log_se=0.5) == "undecided"
    assert Sheet().at_least("x", 4.0, 10.0, log_se=0.5) == "undecided"
    assert Sheet().at_least("x", 3.0, 10.0, log_se=0.5) == "fails"
    assert Sheet().at_most("x", 3.0, 10.0, log_se=0.5) == "holds"
    assert Sheet().at_most("x", 30.0, 10.0, log_se=0.5) == "fails"
    assert Sheet().at_most("x", 30.0, 10.0, log_se=1e3) == "undecided"


@pytest.mark.parametrize("compare", ["at_most", "at_least", "close"])
@pytest.mark.parametrize(
    "numbers", [{"measured": NAN}, {"measured": np.float32("nan")}, {"bound": NAN}, {"se": NAN}, {"se": -1.0}]
)
def test_what_was_not_measured_decides_nothing(compare, numbers):
    sheet, given = Sheet(), {"measured": 1.0, "bound": 1.0, **numbers}
    options = {"se": given["se"]} if "se" in given else {}
    assert getattr(sheet, compare)("x", given["measured"], given["bound"], **options) == "undecided"
    result = sheet.result()
    assert result.verdict == "undecided"
    assert ("x is nan, not measured, expected" in result.evidence) == ("measured" in numbers)


def test_infinity_is_a_number():
    assert Sheet().at_most("loss", INF, 1.0) == Sheet().at_least("loss", -INF, 1.0) == "fails"
    assert Sheet().at_least("loss", INF, 1.0) == "holds"
    assert Sheet().at_least("loss", INF, 1.0, log_se=0.3) == "holds"


def test_no_answer_is_no_contradiction():
    assert Sheet().true("x", None, True) == Sheet().true("x", NAN, 1.0) == "undecided"
    words = {"periodic": "holds", "equilibrium": "fails", "not yet": "undecided", "undecided": "undecided"}
    for found, verdict in words.items():
        assert Sheet().answer("x", found, "periodic", open=("undecided", "not yet")) == verdict


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [([True], "holds"), ([True] * 3, "holds"), ([False] * 2, "fails"), ([False], "undecided"), ([], "undecided")]
    + [([True, False, False], "undecided"), ([True, None], "undecided"), ([False, None], "undecided")],
)
def test_one_draw_may_show_what_another_lacks(outcomes, verdict):
    sheet = Sheet()
    assert sheet.every("x", outcomes) == verdict
    assert sheet.measured["x"] == f"{sum(map(bool, outcomes))} of {len(outcomes)}"


@pytest.mark.parametrize(("events", "ratio", "verdict"), [(20, 1.1, "holds"), (20, 9.0, "fails")]
                         + [(17, 1.1, "undecided"), (17, 9.0, "undecided"), (NAN, 1.1, "undecided")])  # fmt: skip
def test_too_little_data_decides_nothing(events, ratio, verdict):
    sheet = Sheet()
    enough = sheet.needs("events", events, at_least=20)
    sheet.at_most("ratio", ratio, 1.6, given=enough)
    result = sheet.result()
    assert result.verdict == verdict
    assert ("undecided: events is 17, needed at least 20" in result.evidence) == (events == 17)
    assert ("rests on what is not enough" in result.evidence) == (not enough)


def test_a_contradiction_that_rests_on_nothing_missing_is_one():
    sheet = Sheet()
    sheet.at_most("ratio", 9.0, 1.6, given=sheet.needs("events", 17, at_least=20))
    sheet.at_most("drift", 5.0, 1.0)
    assert sheet.result().verdict == "fails"


def test_a_prerequisite_has_one_bound():
    assert Sheet().needs("drifting runs", 0, at_most=0)
    assert not Sheet().needs("drifting runs", 1, at_most=0)
    for bounds in ({}, {"at_least": 1, "at_most": 2}):
        with pytest.raises(RuntimeError, match="one of at_least and at_most"):
            Sheet().needs("x", 1, **bounds)


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
    from scaleinv.papers.findings import FINDINGS

    root = Path(__file__).parents[2]
    for (id, scale), known in FINDINGS.items():
        assert scale in claims()[id].scales
        assert id in (root / known.page).read_text(encoding="utf-8"), f"{known.page} does not speak of {id}"
        assert known.why


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((9, 9), "fails"), ((9, 9, 9), "fails"), ((9,), "undecided"), ((9, 1, 9), "undecided"), ((1, 1), "holds")]
    + [((9, NAN), "undecided")],
)
def test_a_miss_that_other_draws_do_not_share_is_one_draw(values, verdict):
    sheet = Sheet()
    names = [f"seed {k}" for k in range(len(values))]
    for name, value in zip(names, values):
        sheet.at_most(name, float(value), 2.0)
    sheet.draws(names)
    assert sheet.result().verdict == verdict
    assert ("in 2 of 3 draws" in sheet.result().evidence) == (values == (9, 1, 9))
