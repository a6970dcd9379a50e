"""The dissertation statement by statement, and the records that its page is made from."""

import importlib.util
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from scaleinv.analysis.statistics import Estimate
from scaleinv.analysis.trajectories import Trajectory
from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.papers import context as contexts
from scaleinv.papers.claim import Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.kodryan2022 import trajectories
from scaleinv.papers.lobacheva2021 import shape
from scaleinv.papers.records import read_records, write_records
from scaleinv.papers.shelf import claims, figures
from scaleinv.papers.statements import check_ids, found, statements
from scaleinv.papers.verify import Outcome
from scaleinv.studies.obtain import Request

DOCS = Path(__file__).parents[2] / "docs"


def page_writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_statements", DOCS / "statements.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcome(verdict: str = "holds", scale: Any = "digits", **changes: Any) -> Outcome:
    values = {"share": 0.9734, "periods": 40}, {"share": ">= 0.9", "periods": ">= 20"}
    tolerance = {"share": "s.e. 0.01", "periods": "needed"}
    return Outcome(
        "jump-envelope", scale, verdict, *values, tolerance, "fails: share is low", 1.25, ["ab12"], **changes
    )


def test_every_statement_is_checked_by_claims_that_are_there() -> None:
    check_ids(list(claims()), list(figures()))
    assert [one.number for one in statements()] == list(range(1, len(statements()) + 1))
    assert all(one.claims or one.needs for one in statements())
    assert len({one.says for one in statements()}) == len(statements())


def test_a_statement_that_names_no_claim_is_told() -> None:
    with pytest.raises(UserError, match="statement 1 names the claim 'identities', which is not there"):
        check_ids([], list(figures()))


def test_every_claim_of_the_three_papers_is_in_a_statement() -> None:
    named = {id for one in statements() for id in one.claims}
    # ours, of other papers, or about the toy function's own theory
    beyond = {
        "angle-after-lr-drop",
        "break-down-window",
        "critical-elr",
        "edge-of-stability-toy",
        "edge-with-weight-decay",
    }
    beyond |= {"ideal-gas", "rotation-on-a-net", "rotation-on-raw-pixels", "toy-one-sample"}
    assert set(claims()) - named == beyond


def test_the_page_is_made_from_the_records() -> None:
    writer = page_writer()
    assert writer.PAGE.read_text(encoding="utf-8") == writer.page(read_records(writer.DATA)), (
        "run: python docs/statements.py"
    )


def test_records_of_the_repository_are_of_claims_at_scales_they_have() -> None:
    records = read_records(DOCS / "results" / "data")
    assert records
    for (claim, scale), one in records.items():
        assert scale in claims()[claim].scales
        assert one.verdict in ("holds", "fails", "undecided")


def test_a_record_is_written_and_read(tmp_path: Path) -> None:
    broken = outcome("broke", "toy", broke=True)
    (path,) = write_records([outcome(), broken], tmp_path / "data", seed_offset=1000)
    assert path.name == "jump-envelope-digits.json"
    record = read_records(tmp_path / "data")["jump-envelope", "digits"]
    assert record.measured == {"share": 0.9734, "periods": 40}
    assert record.runs == ("ab12",)
    assert record.seed_offset == 1000
    assert set(record.made) == {"git", "scaleinv", "python", "torch", "numpy", "sources", "processor"}


@pytest.mark.parametrize("text", ["{", "[]", '{"claim": "a"}', json.dumps({"evidence": [], "runs": [], "new": 1})])
def test_a_file_that_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="no record of a claim"):
        read_records(tmp_path)


def test_a_verdict_stands_with_what_decided(tmp_path: Path) -> None:
    write_records([outcome(), outcome("fails", "cifar-small")], tmp_path)
    strong, weak = found("jump-envelope", read_records(tmp_path))
    assert (strong.scale, strong.words) == ("cifar-small", "share is low")
    assert weak.words == "share: 0.973 (s.e. 0.01), expected at least 0.9"
    writer = page_writer()
    one = next(one for one in statements() if one.claims == ("jump-envelope",))
    assert "| fails | `jump-envelope` fails (cifar-small; digits: holds). share is low |" in writer.line(
        one, [[strong, weak]]
    )
    assert writer.verdict(one, [[]]) == "not run"
    assert writer.verdict(one, [[weak], [strong]]) == "fails"


def test_an_offset_moves_every_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def obtain(root: Path, requests: Sequence[Request], **options: Any) -> list[Path]:
        asked.extend(request.seed for request in requests)
        return [root / f"run{request.seed}" for request in requests]

    monkeypatch.setattr(contexts, "obtain_many", obtain)
    context = Context("digits", Path("x"), seed_offset=1000)
    requests = [Request(settings=Settings(), elr=0.1, seed=seed) for seed in (0, 1, 0)]
    context.folders(requests)
    assert asked == [1000, 1001, 1000]
    assert list(context.used) == ["run1000", "run1001"]


def test_scatter_of_intervals_tells_chance_from_a_clock() -> None:
    rng = np.random.default_rng(0)
    chance = shape.scatter_of_intervals(rng.exponential(size=4000))
    assert chance.value == pytest.approx(1.0, abs=4 * chance.error)
    even = shape.scatter_of_intervals(1 + 0.1 * rng.standard_normal(400))
    assert even.value == pytest.approx(0.1, abs=4 * even.error)
    assert math.isnan(shape.scatter_of_intervals(np.array([1.0, 2.0])).error)


@pytest.mark.parametrize(
    ("at", "error", "verdict"), [(60.0, 1.5, "holds"), (30.0, 1.5, "fails"), (51.0, 1.5, "undecided")]
)
def test_the_peak_of_the_gradient_is_compared_with_the_rest(at: float, error: float, verdict: str) -> None:
    sheet = Sheet()
    late = {2e-4: Estimate(14.0, 1.0), 4e-4: Estimate(8.0, 1.0), 8e-4: Estimate(at, error), 2e-3: Estimate(49.0, 0.5)}
    trajectories.stands_out(sheet, "seed 0", late, 4e-4, 8e-4)
    assert sheet.result().verdict == verdict


def path(slope: float, noise: float = 0.0) -> Trajectory:
    loss = np.geomspace(1, 1e-4, 60)
    wiggle = np.exp(noise * np.random.default_rng(1).standard_normal(60))
    return Trajectory("", 1e-3, "train", np.arange(60), loss, 50 * loss**slope * wiggle, 0 * loss)


def test_the_slope_of_a_trajectory_at_low_losses() -> None:
    assert trajectories.line(path(0.8), 1e-2).value == pytest.approx(0.8, abs=1e-12)
    noisy = trajectories.line(path(0.8, 0.1), 1e-2)
    assert noisy.value == pytest.approx(0.8, abs=4 * noisy.error)
    assert math.isnan(trajectories.line(path(1.0), 1e-4).value)
