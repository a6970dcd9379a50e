"""Two processes at once on everything that writes: one waits or is refused in a line, and what is written is whole."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("children are forked beside torch", allow_module_level=True)

import scenarios
from injection import Ended, begin, in_child
from trials import prepared, scratch, warm

from scaleinv.papers.verify import Outcome, _load, _store


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=scratch()) as place:
        yield Path(place)


def both(first: Callable[[], None], second: Callable[[], None]) -> list[Ended]:
    """Begin two children, then wait for both."""
    children = [begin(first), begin(second)]
    return [end() for end in children]


@pytest.mark.parametrize(
    "name", ["run", "sweep", "shared data", "landscape", pytest.param("report", marks=pytest.mark.slow)]
)
def test_two_commands_on_one_folder(name: str, root: Path) -> None:
    """One does it; the other finds it done, or is refused; what is there is what one alone leaves."""
    warm(name)
    act = scenarios.SCENARIOS[name].act
    alone, folder = prepared(name, root), prepared(name, root)
    assert in_child(lambda: act(alone)).how == "ok"
    ended = both(lambda: act(folder), lambda: act(folder))
    assert "ok" in {one.how for one in ended}, ended
    for one in ended:
        assert one.how == "ok" or "another process is working on" in one.said, one
    assert scenarios.difference(scenarios.content(folder), scenarios.content(alone)) == ""
    for page in folder.rglob("*.html"):
        assert page.read_text().rstrip().endswith("</html>")
    assert not list(folder.rglob("*.part"))


def test_two_monitors_have_a_folder_each(root: Path) -> None:
    warm("monitor")
    alone, folder = prepared("monitor", root), prepared("monitor", root)
    assert in_child(lambda: scenarios.training(alone / "run", alone / "a.pt")).how == "ok"
    ended = both(
        lambda: scenarios.training(folder / "run", folder / "a.pt"),
        lambda: scenarios.training(folder / "run", folder / "b.pt"),
    )
    assert [one.how for one in ended] == ["ok", "ok"], ended
    assert sorted(path.name for path in folder.iterdir()) == ["a.pt", "b.pt", "run", "run-2"]
    wanted = scenarios.content(alone / "run")
    assert scenarios.difference(scenarios.content(folder / "run"), wanted) == ""
    assert scenarios.difference(scenarios.content(folder / "run-2"), wanted) == ""


def after(first: Callable[[], None], made: Path, second: Callable[[], None]) -> tuple[Ended, Ended]:
    """Begin the second child once the first has made a file."""
    end = begin(first)
    deadline = time.monotonic() + 60
    while not made.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return in_child(second), end()


def test_a_monitor_and_a_run_do_not_share_a_folder(root: Path) -> None:
    """A Monitor goes beside a run; a run is refused where a Monitor writes. The first is as it is alone."""
    warm("run")
    warm("monitor")
    run, watched, alone = (prepared("run", root) for _ in range(3))
    assert in_child(lambda: scenarios.run(alone)).how == "ok"
    monitor, first = after(
        lambda: scenarios.run(run),
        run / "run" / "config.json",
        lambda: scenarios.training(run / "run", run / "state.pt"),
    )
    assert (monitor.how, first.how) == ("ok", "ok"), (monitor, first)
    assert scenarios.difference(scenarios.content(run / "run"), scenarios.content(alone / "run")) == ""
    assert (run / "run-2" / "manifest.json").exists()

    second, monitor = after(
        lambda: scenarios.training(watched / "run", watched / "state.pt"),
        watched / "run" / "config.json",
        lambda: scenarios.run(watched),
    )
    assert (second.how, monitor.how) == ("user error", "ok"), (second, monitor)
    assert str(watched / "run") in second.said
    assert scenarios.difference(scenarios.content(watched / "run"), scenarios.content(run / "run-2")) == ""


def test_two_checks_keep_one_result(root: Path) -> None:
    """Two `scaleinv verify` at once keep what they found under one name, whole."""
    path = root / "cache" / "claims" / "a.json"

    def outcome(number: int) -> Outcome:
        return Outcome("a", "toy", "holds", {"x": 0.25}, {"x": 0.5}, {"x": str(number) * 2000}, "said", 1.5)

    def store(number: int) -> None:
        for _ in range(40):
            _store(path, outcome(number))
            found = _load(path, "a", "toy")
            assert found is not None
            assert replace(found, cached=False) in (outcome(1), outcome(2))

    ended = both(lambda: store(1), lambda: store(2))
    assert [one.how for one in ended] == ["ok", "ok"], ended
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
