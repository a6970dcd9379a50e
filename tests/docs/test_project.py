"""What surrounds the package says the same as the package, and nothing that does not exist."""

import re
import shlex
from pathlib import Path

import pytest

from scaleinv import __version__
from scaleinv.cli import command_class
from scaleinv.cli.parse import parse

ROOT = Path(__file__).parents[2]
HOME = "https://github.com/scaleinv/scaleinv"


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def substituted() -> str:
    """The README as the page of a package index shows it: by the substitutions of pyproject.toml."""
    text = read("README.md")
    rules = re.findall(r"^pattern = '(.*)'\nreplacement = '(.*)'$", read("pyproject.toml"), re.MULTILINE)
    assert len(rules) == 2
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


def test_the_readme_of_the_index_has_absolute_links_to_what_exists() -> None:
    text = substituted()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(links) > 20
    assert [link for link in links if not re.match(r"https://|#", link)] == []
    raw = "https://raw.githubusercontent.com/scaleinv/scaleinv/main/"
    for link in links:
        for start in (f"{HOME}/blob/main/", raw):
            if link.startswith(start):
                assert (ROOT / link.removeprefix(start)).exists(), link
    assert f"![Regime map: train loss over the effective learning rate, in three regimes]({raw}docs/images/" in text


def test_one_version_and_one_date() -> None:
    citation, changes = read("CITATION.cff"), read("CHANGELOG.md")
    assert f"version: {__version__}\n" in citation
    assert f'version = "{__version__}"' in read("pyproject.toml")
    date = re.search(r'date-released: "(\d{4}-\d\d-\d\d)"', citation)
    assert date is not None
    assert f"## [{__version__}] - {date.group(1)}" in changes
    assert changes.index("## [Unreleased]") < changes.index(f"## [{__version__}]")
    assert f"[{__version__}]: {HOME}/releases/tag/v{__version__}" in changes


@pytest.mark.parametrize("extra", ["cli", "lab", "report", "docs", "release", "dev"])
def test_extras_that_pages_name_exist(extra: str) -> None:
    assert re.search(rf"^{extra} = \[", read("pyproject.toml"), re.MULTILINE)


def test_workflows_name_files_that_exist() -> None:
    workflow = read(".github/workflows/ci.yml")
    for path in re.findall(r"\b(?:tests|examples|docs)/[\w/]+\.py", workflow):
        assert (ROOT / path).exists(), path
    for target in re.findall(r"run: make ([a-z-]+)", workflow):
        assert re.search(rf"^{target}:", read("Makefile"), re.MULTILINE), target
    for python in ("3.10", "3.11", "3.12", "3.13"):
        assert f'"{python}"' in workflow
        assert f"Python :: {python}" in read("pyproject.toml")


def steps() -> list[tuple[str, str]]:
    """The commands of the workflow: job and line."""
    yaml = pytest.importorskip("yaml")
    jobs = yaml.safe_load(read(".github/workflows/ci.yml"))["jobs"]
    return [(job, step["run"]) for job, told in jobs.items() for step in told["steps"] if "run" in step]


def test_the_workflow_is_one_that_github_reads() -> None:
    yaml = pytest.importorskip("yaml")
    told = yaml.safe_load(read(".github/workflows/ci.yml"))
    assert set(told[True]) == {"push", "pull_request"}  # YAML reads the key "on" as true
    for name, job in told["jobs"].items():
        assert {"runs-on", "steps"} <= set(job) <= {"runs-on", "steps", "strategy", "timeout-minutes"}, name
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step), step
            assert set(step) <= {"uses", "run", "with", "name", "env"}, step
            assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/checkout@v4"))


def test_commands_of_the_workflow_have_the_flags_they_use() -> None:
    known = []
    for _, line in steps():
        words = shlex.split(line)
        if words[0].endswith("scaleinv"):
            parse(command_class(words[1]), words[2:])
            known.append(words[1])
        elif "pytest" in words:
            missing = [word for word in words if word.startswith("tests/") and not (ROOT / word).exists()]
            assert missing == [], line
    assert {"doctor", "demo", "sweep", "verify"} <= set(known)


def test_the_lowest_versions_are_those_that_are_allowed() -> None:
    lines = " ".join(line for job, line in steps() if job == "lowest")
    project = read("pyproject.toml")
    for name in ("torch", "numpy", "filelock", "tyro", "rich"):
        lowest = re.search(rf'"{name}>=([\d.]+)"', project)
        tried = re.search(rf"\b{name}==([\d.]+)", lines)
        assert lowest is not None
        assert tried is not None
        assert tried.group(1).startswith(lowest.group(1)), name


def test_addresses_are_those_of_one_place() -> None:
    """Who publishes a fork sets [project.urls]; every other address of the project starts like one of these."""
    project = read("pyproject.toml")
    urls = re.findall(r'^\w+ = "(https://[^"]+)"', project.split("[project.urls]")[1].split("[", 1)[0], re.MULTILINE)
    assert HOME in urls
    source, pages = HOME.removeprefix("https://github.com/"), "scaleinv.github.io/scaleinv"
    known = (source, pages, f"raw.githubusercontent.com/{source}")
    assert f"https://{pages}/" in urls
    for name in (
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "mkdocs.yml",
        "CITATION.cff",
        "docs/build.py",
        "SECURITY.md",
    ):
        for owner in re.findall(r"github\.com/([\w-]+/scaleinv)\b|(scaleinv\.github\.io/[\w-]+)", read(name)):
            assert "".join(owner) in known, (name, owner)


def test_hooks_run_the_tools_of_make_lint() -> None:
    hooks, makefile = read(".pre-commit-config.yaml"), read("Makefile")
    for tool in ("ruff check", "ruff format --check", "mypy"):
        assert tool in hooks
        assert tool in makefile
