"""Every command of the README, the how-to pages and the tutorials runs as written, or is named here with the reason.

A fence of ``sh`` and an indented block hold commands. All of them are parsed, so that a flag that does not exist is
found at once; those of the README and of the pages in RUN run, in a folder that looks like a
clone; what takes long is run by the nightly tests.
"""

import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scaleinv.cli import COMMANDS
from scaleinv.cli.parse import parse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "howto").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]
PAGES = list(dict.fromkeys(PAGES))
FENCE = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"^ {4}((?:scaleinv|make|python|pip|git) .*)$", re.MULTILINE)

#: commands that are not run here at all, by how they begin, and why
NOT_RUN = {
    "git clone": "needs a network",
    "make ": "a target of the Makefile, checked below",
    "pip install": "make release-check installs the wheel",
}
#: those that take long, by how they begin: each page says what its commands take, and the nightly tests run them
LONG = (
    "scaleinv sweep",
    "scaleinv landscape",
    "scaleinv report runs/map",
    "scaleinv verify",
    "scaleinv reproduce fig3",
    "scaleinv train",
)
#: pages whose commands run here as written, one after another in one folder; the others are about a user's own files,
#: a cluster, data to fetch, or runs of hours, and say so
RUN = {
    "README.md": set(),
    "howto/monitor.md": {"pip install ."},
    "howto/periods.md": {"scaleinv periods runs/mine"},  # the run of a block of python of that page
    "concepts/theory.md": set(),
    "results/gallery.md": set(),
}
#: figures of the toy function or of theory alone: seconds each
QUICK_FIGURES = {"fig2", "forces", "norm-bounds", "toy-periods", "fig6-left", "bifurcation", "feedback"}
#: why the commands of the other pages are not run, by a word of theirs that says so
ELSEWHERE = {
    "howto/cluster.md": "Slurm",
    "howto/data.md": "fetch",
    "howto/doctor.md": "mynet.py",
    "howto/groups.md": "mynet.py",
    "howto/own-problem.md": "mynet.py",
    "howto/train.md": "minute",
    "concepts/symmetry.md": "mynet.py",
    "results/dissertation.md": "hours",
    "results/doctor.md": "benchmarks",
    "results/gpu.md": "On a GPU",
    "results/periods.md": "an hour",
}


def commands(page: Path) -> list[str]:
    """List the commands of a page, without comments, explanations set apart by three spaces, and line continuations."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    plain = re.sub(r"^```\w.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for fence in FENCE.findall(text) for line in fence.splitlines()] + INDENTED.findall(plain)
    found: list[str] = []
    for line in lines:
        said = re.split(r"\s+[#>] ?|\s{3,}", line.strip())[0]
        found += [part.strip() for part in said.split("&&") if part.strip()]
    return found


FOUND = [(page, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize(("page", "command"), FOUND, ids=lambda value: getattr(value, "name", value))
def test_a_command_exists(page: Path, command: str, tmp_path: Path) -> None:
    words = shlex.split(command)
    if words[0] == "scaleinv":
        if len(words) == 1 or words[1].startswith("-") or "--help" in words or words[1] == "COMMAND":
            return
        assert words[1] in COMMANDS
        if not any(re.fullmatch(r"\.\.\.|<.*>", word) for word in words):
            if "--config" in words:  # a file of the user
                place = tmp_path / "own.toml"
                place.write_text("epochs = 3\n")
                words[words.index("--config") + 1] = str(place)
            flags = importlib.import_module(f"scaleinv.cli.{words[1]}")
            parse(getattr(flags, f"{words[1].title()}Command"), words[2:])
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in targets
    elif words[0] == "python" and words[1].endswith(".py"):
        assert (ROOT / words[1]).exists()


def test_it_sees_the_commands() -> None:
    readme = commands(ROOT / "README.md")
    assert "scaleinv demo" in readme
    assert any(command.startswith("scaleinv doctor") for command in readme)
    assert len(FOUND) > 40


def name_of(page: Path) -> str:
    return page.name if page.parent == ROOT else page.relative_to(ROOT / "docs").as_posix()


def quoted(page: Path) -> dict[str, list[str]]:
    """The lines of output that a page shows right below a command, without those that leave something out."""
    shown = re.findall(
        r"^```sh\n([^\n]*)\n```\n\n```text\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return {command: [line for line in text.splitlines() if line.strip(" .")] for command, text in shown}


def same(shown: str, said: str) -> bool:
    """Compare two lines: words are the same, numbers within a tenth; what is shown may end early, by three dots."""
    left, right = shown.split(), said.split()
    if shown.endswith("..."):
        left = shown.removesuffix("...").split()
        right = right[: len(left)]
    number = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?")
    return [number.sub("0", word) for word in left] == [number.sub("0", word) for word in right] and all(
        abs(float(a) - float(b)) <= 0.1 * abs(float(b))
        for a, b in zip(number.findall(" ".join(left)), number.findall(" ".join(right)))
    )


def not_said(lines: list[str], output: str) -> list[str]:
    """Those of ``lines`` that ``output`` does not have, in their order."""
    rest = iter(output.splitlines())
    return [line for line in lines if not any(same(line, said) for said in rest)]


def run_one(command: str, place: Path) -> str:
    words = shlex.split(command)
    if words[0] == "scaleinv":
        words = [sys.executable, "-m", *words]
    else:
        words[0] = sys.executable
    wide = {**os.environ, "COLUMNS": "120"}
    done = subprocess.run(words, cwd=place, capture_output=True, text=True, check=False, env=wide)
    allowed = (0, 1) if command == "scaleinv data" else (0,)  # 1: a data set here is damaged
    assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def runs_here(page: str, command: str) -> bool:
    if command.split()[0] not in ("scaleinv", "python") or command in RUN[page]:
        return False
    if command.startswith("scaleinv reproduce"):
        return set(command.split()[2:]) <= QUICK_FIGURES or "--scale toy" in command
    return not any(command.startswith(start) for start in (*NOT_RUN, *LONG)) or command == "scaleinv verify --scale toy"


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    """As written, one after another, in one folder that looks like a clone; each prints what is shown below it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    ran, shown = [], quoted(path)
    for command in commands(path):
        if runs_here(page, command.replace("DIR", "figures")) and command != "scaleinv verify --scale toy":
            said = run_one(command.replace("DIR", "figures"), tmp_path)
            assert not_said(shown.pop(command, []), said) == [], said
            ran.append(command)
    assert shown == {}
    assert len(ran) >= 2
    if page == "README.md":
        assert {"demo", "doctor", "periods", "data", "toy"} <= {command.split()[1] for command in ran}


@pytest.mark.nightly
@pytest.mark.parametrize("page", ["README.md", "howto/train.md"])
def test_the_long_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = ROOT / page if page == "README.md" else ROOT / "docs" / page
    for command in commands(path):
        if command.startswith("scaleinv ") and "..." not in command and "--help" not in command:
            run_one(command, tmp_path)


def test_what_a_page_shows_is_compared() -> None:
    shown = quoted(ROOT / "README.md")
    assert [command.split()[1] for command in shown] == ["doctor", "examples/digits_loop.py", "periods"]
    assert min(map(len, shown.values())) >= 2
    assert not_said(["a 1.00  b", "c"], "a 1.05 b\nx\nc") == []
    assert not_said(["a 1.00"], "a 1.2") == ["a 1.00"]
    assert not_said(["a 1.00"], "b 1.00") == ["a 1.00"]
    assert not_said(["a", "b"], "b\na") == ["b"]
    assert not_said(["a 1 ..."], "a 1 and so on") == []


def test_each_page_with_commands_is_run_or_says_what_it_needs() -> None:
    pages = {name_of(page) for page, command in FOUND if command.split()[0] in ("scaleinv", "python")}
    assert pages == {*RUN, *ELSEWHERE}
    for name, word in ELSEWHERE.items():
        assert word in (ROOT / "docs" / name).read_text(encoding="utf-8"), (name, word)


def test_what_is_not_run_is_still_there() -> None:
    listed = commands(ROOT / "README.md")
    starts = [start for start in (*NOT_RUN, *LONG) if not start.startswith("pip")]
    assert [start for start in starts if not any(command.startswith(start) for command in listed)] == []
