"""Every command of the README, the how-to pages and the tutorials runs as written, or is named here with the reason.

A fence of ``sh`` and an indented block hold commands. All of them are parsed, so that a flag that does not exist is
found at once; those of the README run, in a folder that looks like a clone.
"""

import importlib
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

#: commands that are not run here, by how they begin, and why
NOT_RUN = {
    "git clone": "needs a network",
    "make ": "a target of the Makefile, checked below",
    "scaleinv sweep": "minutes; a smaller one is run by tests/cli/test_sweep.py",
    "scaleinv landscape": "minutes, of the sweep above; tests/landscape/test_study.py",
    "scaleinv report runs/sweep": "of the sweep above; tests/cli/test_report.py",
    "scaleinv verify": "half a minute and more; `make test` runs it",
    "scaleinv reproduce": "minutes; tests/cli/test_reproduce.py",
    "scaleinv train": "half a minute each; smaller ones in tests/cli/test_train.py",
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


@pytest.mark.slow
def test_the_readme_runs(tmp_path: Path) -> None:
    """As written, one after another, in one folder."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    ran = []
    for command in commands(ROOT / "README.md"):
        if any(command.startswith(start) for start in NOT_RUN) or not command.startswith("scaleinv "):
            continue
        words = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        allowed = (0, 1) if command == "scaleinv data" else (0,)  # 1: a data set here is damaged
        assert done.returncode in allowed, f"{command}\n{done.stdout}\n{done.stderr}"
        ran.append(command.split()[1])
    assert {"demo", "doctor", "periods", "data", "toy"} <= set(ran)


def test_what_is_not_run_is_still_there() -> None:
    listed = commands(ROOT / "README.md")
    assert [start for start in NOT_RUN if not any(command.startswith(start) for command in listed)] == []
