"""Running checks: processes, kept results, broken checks, the page."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaleinv.cli.actions.verify import verify_page
from scaleinv.errors import UserError
from scaleinv.papers import verify
from scaleinv.papers.claim import Claim, Sheet
from scaleinv.papers.context import Context
from scaleinv.papers.shelf import claims, select
from scaleinv.papers.verify import Outcome


def test_runs_in_processes_and_keeps(tmp_path):
    seen = []
    chosen = select("toy", ("jump-size", "neutral-centre"))
    first = verify.run(chosen, tmp_path, workers=2, ended=lambda o: seen.append(o.id))
    assert [o.id for o in first] == [c.id for c, _ in chosen]
    assert sorted(seen) == ["jump-size", "neutral-centre"]
    assert {o.verdict for o in first} == {"holds"}
    assert not any(o.cached for o in first)
    assert all(o.seconds > 0 for o in first)
    again = verify.run(chosen, tmp_path)
    assert all(o.cached for o in again)
    assert [o.measured for o in again] == [o.measured for o in first]
    fresh = verify.run(chosen[:1], tmp_path, fresh=True)
    assert not fresh[0].cached
    assert fresh[0].measured == first[0].measured  # deterministic
    assert not list(tmp_path.glob("fresh-*"))


def test_fresh_checks_share_a_folder_of_their_own(tmp_path, monkeypatch):
    seen = []

    class Pretended:
        def __init__(self, work, size):
            self.runs = work.args[0]

        def run(self, items, started):
            seen.append((self.runs, self.runs.is_dir()))
            (self.runs / "trained").mkdir()
            return []

        def close(self):
            seen.append((self.runs / "trained").is_dir())  # nothing is removed while checks may run

    monkeypatch.setattr(verify, "Crew", Pretended)
    (tmp_path / "runs").mkdir()
    one = select("toy", ("jump-size",))
    for fresh in (False, True):
        with pytest.raises(KeyError):  # nothing was checked
            verify.run(one, tmp_path, fresh=fresh)
    (kept, _), _, (new, there), still = seen
    assert kept == tmp_path / "runs"
    assert new.parent == tmp_path
    assert new != kept
    assert there
    assert still
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


def test_a_damaged_record_is_checked_again(tmp_path):
    chosen = select("toy", ("jump-size",))
    verify.run(chosen, tmp_path)
    (record,) = (tmp_path / "claims").glob("jump-size@toy-*.json")
    record.write_text('{"id": "jump-size", "verdict": ')
    assert not verify.run(chosen, tmp_path)[0].cached
    assert json.loads(record.read_text())["verdict"] == "holds"


def test_the_key_follows_the_sources(tmp_path, monkeypatch):
    chosen = select("toy", ("jump-size",))
    verify.run(chosen, tmp_path)
    monkeypatch.setattr(verify, "source_hash", lambda: "other")
    assert not verify.run(chosen, tmp_path)[0].cached


def broken(sheet: Sheet, context: Context) -> None:
    raise ZeroDivisionError("of this test")


def one_claim(id: str, check: str) -> Claim:
    return Claim(id, "p", "q", "s.", "t", {"toy": 1.0}, f"{__name__}:{check}")


def test_a_check_that_breaks_says_so_and_is_not_kept(tmp_path):
    # the second is not there
    chosen = [(one_claim("broken", "broken"), "toy"), (one_claim("absent", "absent"), "toy")]
    outcomes = verify.run(chosen, tmp_path, workers=1)
    assert [(o.id, o.verdict, o.broke) for o in outcomes] == [("broken", "broke", True), ("absent", "broke", True)]
    assert "ZeroDivisionError: of this test (test_verify_runs.py:" in outcomes[0].evidence
    assert "AttributeError" in outcomes[1].evidence
    assert not list(Path(tmp_path).glob("claims/*.json"))


def holds(sheet: Sheet, context: Context) -> None:
    sheet.true("it", 1, 1)


def dies(sheet: Sheet, context: Context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(sheet: Sheet, context: Context) -> None:
    try:
        (context.root / "died").mkdir(parents=True)
    except FileExistsError:
        return holds(sheet, context)
    return dies(sheet, context)


@pytest.mark.slow
def test_a_check_whose_process_dies_breaks_alone(tmp_path):
    checks = ("holds", "dies", "dies_once", "holds", "holds")
    chosen = [(one_claim(f"{number}-{check}", check), "toy") for number, check in enumerate(checks)]
    told = []
    outcomes = verify.run(chosen, tmp_path, workers=2, ended=lambda outcome: told.append(outcome.id))
    assert [o.verdict for o in outcomes] == ["holds", "broke", "holds", "holds", "holds"]
    assert outcomes[1].evidence == "its worker process died 2 times (exit code -9; out of memory?)"
    assert sorted(told) == [claim.id for claim, _ in chosen]
    assert len(list(tmp_path.glob("claims/*.json"))) == 4  # what broke is not kept


def test_a_missing_data_set_is_no_failure(tmp_path, monkeypatch):
    monkeypatch.delenv("SCALEINV_DATA", raising=False)
    with pytest.raises(UserError, match="mnist needs a data folder: set SCALEINV_DATA"):
        verify.run(select("mnist", ("regime-3",)), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def ill_fed(sheet: Sheet, context: Context) -> None:
    raise UserError("no such data")


def test_what_only_the_user_can_give_is_no_failure(tmp_path):
    with pytest.raises(UserError, match=r"ill-fed \(toy\): no such data"):
        verify.run([(one_claim("ill-fed", "ill_fed"), "toy")], tmp_path)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="children are found in /proc")
def test_killed_it_leaves_no_process_behind(tmp_path):
    command = [
        sys.executable,
        "-m",
        "scaleinv",
        "verify",
        "--only",
        "constant-interval",
        "--cache",
        str(tmp_path),
        "--quiet",
    ]
    process = subprocess.Popen(command, start_new_session=True)

    def at_work():
        group = [int(p.name) for p in Path("/proc").glob("[0-9]*") if _group(p) == process.pid]
        return [pid for pid in group if pid != process.pid]

    try:
        _until(lambda: list(tmp_path.glob("runs/**/*.json")))  # a check trains
        assert at_work()
        process.kill()
        process.wait()
        _until(lambda: not at_work())
    finally:
        for pid in at_work():
            os.kill(pid, signal.SIGKILL)


def _group(process: Path) -> int | None:
    try:
        state, group = (process / "stat").read_text().rpartition(") ")[2].split()[:3:2]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else int(group)


def _until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_page_is_whole_and_escapes():
    known = claims()
    measured, expected, tolerance = {"a<b": 1.0, "c": None}, {"a<b": "<= 2", "c": 1}, {"a<b": "1 %", "c": "0"}
    outcome = Outcome("jump-size", "toy", "fails", measured, expected, tolerance, "x & y", 1.5)
    page = verify_page([outcome], known)
    assert "a&lt;b" in page
    assert "x &amp; y" in page
    assert "not a number" in page
    assert "1 fails" in page
    assert "broke" not in page.replace(".broke", "")
    assert "1 broke" in verify_page([verify._broken("jump-size", "toy", "it raised", 0.1)], known)
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_json_has_no_nan():
    outcome = Outcome("jump-size", "toy", "fails", {"a": float("nan")}, {"a": float("inf")}, {"a": "0"}, "", 1.0)
    assert json.loads(json.dumps(outcome.to_dict(), allow_nan=False))["measured"] == {"a": None}


@pytest.mark.parametrize(
    "id",
    [
        "identities",
        "toy-many-groups",
        "jump-frequency",
        "phi-dynamics",
        "norm-interval-of-the-recursion",
        "toy-periods",
    ],
)
def test_claims_hold(id, tmp_path):
    result = claims()[id].run(Context("toy", tmp_path))
    assert result.verdict == "holds", result.evidence
