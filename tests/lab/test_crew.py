"""A crew of worker processes: what dies, raises or is interrupted, and what the others do meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from children import alive, children

from scaleinv.lab.launch.crew import Answer, Crew, Report, WorkerDied

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked up in /proc")


class Awkward(Exception):
    """Pickles, but does not come back."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def work(item: Any, report: Report) -> Any:
    what, value = item
    if what == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "raise":
        raise ValueError(value)
    elif what == "awkward":
        raise Awkward(1, 2)
    elif what == "lambda":
        return lambda: value
    elif what == "report":
        for number in range(value):
            report(number)
    elif what == "threads":
        return [os.environ.get(f"{name}_NUM_THREADS") for name in ("OMP", "MKL", "OPENBLAS")], os.getpid()
    elif what == "sleep":
        time.sleep(value)
    return value


def by_item(answers: list[Answer[Any, Any]]) -> dict[Any, Answer[Any, Any]]:
    return {answer.item: answer for answer in answers}


def test_one_that_dies_costs_its_own_item_only() -> None:
    given: list[Any] = []
    items = [("die", 0), *(("echo", number) for number in range(6))]
    answers = by_item(list(Crew(work, 2, tries=3).run(items, started=given.append)))
    assert [answers["echo", number].result for number in range(6)] == list(range(6))
    assert isinstance(answers["die", 0].error, WorkerDied)
    assert str(answers["die", 0].error) == "its worker process died 3 times (exit code -9; out of memory?)"
    assert answers["die", 0].result is None
    assert given.count(("die", 0)) == 3
    assert len(given) == len(items) + 2
    assert not running(os.getpid())


def test_what_is_raised_or_cannot_be_sent_is_an_error_of_its_item() -> None:
    items = [("raise", "a"), ("awkward", 0), ("lambda", 0), ("echo", 1)]
    raised, awkward, unsendable, fine = list(Crew(work, 1).run(items))  # one worker: it outlives them
    assert isinstance(raised.error, ValueError)
    assert str(raised.error) == "a"
    assert str(awkward.error) == "Awkward: 1 and 2"
    assert "pickle" in str(unsendable.error)
    assert (fine.result, fine.error) == (1, None)


def test_reports_come_before_the_answer_and_items_in_order() -> None:
    heard: list[Any] = []
    for answer in Crew(work, 1).run(
        [("report", 2), ("report", 1)], reported=lambda item, n: heard.append((item[1], n))
    ):
        heard.append(answer.result)
    assert heard == [(2, 0), (2, 1), 2, (1, 0), 1]
    assert list(Crew(work, 2).run([])) == []


def test_threads_are_set_in_workers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    (answer,) = Crew(work, 4, threads=3).run([("threads", 0)])
    assert answer.result is not None
    values, pid = answer.result
    assert values == ["3"] * 3
    assert pid != os.getpid()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_closed_it_ends_whatever_is_going_on() -> None:
    crew = Crew(work, 2)
    answers = crew.run([("echo", 1), ("sleep", 60), ("sleep", 61)])
    assert next(answers).result == 1
    begin = time.monotonic()
    crew.close()
    assert list(answers) == []
    crew.close()
    assert time.monotonic() - begin < 5
    assert not running(os.getpid())


SCRIPT = """
import sys
import test_crew
from scaleinv.lab.launch.crew import Crew
if __name__ == "__main__":
    answers = Crew(test_crew.work, 2).run([("echo", 0), ("sleep", 60), ("sleep", 61)])  # nobody closes it
    for answer in answers:
        print("ready", flush=True)
        if sys.stdin.readline() == "raise":
            raise SystemError("out of the loop")
"""


@pytest.mark.parametrize("how", ["interrupt", "kill", "raise"])
def test_it_ends_with_its_parent(how: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in background jobs
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    workers = running(process.pid)
    assert len(workers) == 2
    begin = time.monotonic()
    if how == "interrupt":
        os.killpg(process.pid, signal.SIGINT)  # as Ctrl-C does: to all processes of the terminal
    elif how == "kill":
        process.kill()
    _, said = process.communicate("raise" if how == "raise" else None, timeout=30)
    while any(map(alive, workers)):
        assert time.monotonic() - begin < 20
        time.sleep(0.01)
    # no word of the workers nor of the resource tracker
    lines = [line for line in said.splitlines() if line and not line.startswith(" ")]
    expected = {"interrupt": ["KeyboardInterrupt"], "kill": [], "raise": ["SystemError: out of the loop"]}[how]
    assert lines == ["Traceback (most recent call last):"] * bool(expected) + expected


def running(parent: int) -> list[int]:
    """Worker processes of ``parent`` that live."""
    return [pid for pid, lives, command in children(parent) if lives and b"spawn_main" in command]
