"""Every python block of the README and the docs runs; every file a page links to exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def runnable() -> list[Any]:
    """The pages with blocks; those that train a sweep run nightly, the tutorial with ``make docs`` too."""
    long = {"docs/tutorials/regime-map.md", "README.md"}
    pages = [page for page in PAGES if BLOCK.search(page.read_text())]
    return [pytest.param(p, id=name(p), marks=[pytest.mark.nightly] if name(p) in long else []) for p in pages]


@pytest.mark.parametrize("page", runnable())
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a page run one after another in one namespace, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for match in BLOCK.finditer(text):
        line = text[: match.start()].count("\n") + 2
        code = compile("\n" * (line - 1) + match.group(1), str(page), "exec")
        exec(code, namespace)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [target for target in LINK.findall(page.read_text()) if not (page.parent / target).exists()]
    assert not missing, f"{page.name} links to {missing}"


def test_no_two_pages_write_into_one_folder() -> None:
    """Whoever follows one page and then another is not refused: a folder holds one run."""
    writes = re.compile(r"(?:--out |sinks=|RunFolder\(|digits_loop\.py \d+ )\"?(runs/[\w/-]+)")
    pages: dict[str, set[str]] = {}
    for page in PAGES:
        for folder in writes.findall(page.read_text()):
            pages.setdefault(folder, set()).add(name(page))
    assert pages["runs/mine"] == {"docs/howto/periods.md"}  # it sees them
    assert {folder: where for folder, where in pages.items() if len(where) > 1} == {}


def test_what_does_not_exist_is_not_promised() -> None:
    """There is no distribution of this name on a package index, and nothing that trains on a GPU."""
    sources = [*PAGES, *(ROOT / "src").rglob("*.py")]
    for words in (r"pip install '?scaleinv", r"for a GPU", r"17 claims"):
        found = [name(page) for page in [*sources, ROOT / "CHANGELOG.md"] if re.search(words, page.read_text())]
        assert not found, words


def test_the_papers_intervals_stand_by_their_rates() -> None:
    """Lobacheva et al. 2021, Fig. 3: 222 epochs of 391 steps at lr wd 1e-5, 64 at 3e-5."""
    assert [round(222 * 391 * 1e-5, 2), round(64 * 391 * 3e-5, 2)] == [0.87, 0.75]
    text = (ROOT / "docs" / "results" / "periods-claims.md").read_text()
    assert "(lr wd 1e-5 and 3e-5, intervals 0.87 and 0.75)" in text
