"""What surrounds the package says the same as the package, and nothing that does not exist."""

import re
from pathlib import Path

import pytest

from scaleinv import __version__

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


def test_hooks_run_the_tools_of_make_lint() -> None:
    hooks, makefile = read(".pre-commit-config.yaml"), read("Makefile")
    for tool in ("ruff check", "ruff format --check", "mypy"):
        assert tool in hooks
        assert tool in makefile
