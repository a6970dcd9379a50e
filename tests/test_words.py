"""One word for one thing: what docs/about/glossary.md decided holds in code, pages, messages and documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: words that are not used, and the one that is
NOT_USED = {
    r"destabili[sz]": "break-down",
    r"\bunconstrained\b|\bfull (weight |parameter )?space\b": "whole space",
    r"\bstandard training\b": "training in the whole space, or of the standard network",
    r"\b(go(es|ing)?|gone|went) on (from|where|after a kill|bit for bit|again)\b": "resume, or start from",
    r"\b(command|call|run|sweep|launcher) (that )?(goes|went) on\b": "resume, or start from",
    r"\b(run|runs|job|jobs) (can|may|could|must)( not)? go on\b": "resume",
}
#: where the words of the papers are explained, the old name of an attribute is kept, and history is told
ALLOWED = {
    "docs/about/glossary.md": r"destabili[sz]|unconstrained|standard training",
    "src/scaleinv/analysis/periods/result.py": r"destabili[sz]",
}
SUFFIXES = {".py", ".md", ".j2", ".js", ".css", ".ini", ".toml", ".yml", ".yaml", ".ipynb", ".cff"}
PLACES = ("src", "docs", "examples", "benchmarks", "README.md", "CONTRIBUTING.md", "mkdocs.yml", "Makefile", ".github")


def used(text: str, file: str = "") -> list[str]:
    """List the words of a text that are not used, each with the one to take; a phrase may lie across two lines."""
    flat = re.sub(r"\s+(#: |# )?", " ", text)
    found = []
    for pattern, instead in NOT_USED.items():
        for match in re.finditer(pattern, flat, re.IGNORECASE):
            if not re.match(ALLOWED.get(file, r"(?!)"), match.group(0), re.IGNORECASE):
                found.append(f"{file}: {flat[max(0, match.start() - 30) : match.end() + 30]!r}: say {instead!r}")
    return found


def files() -> list[Path]:
    here = [place for name in PLACES for place in [ROOT / name, *(ROOT / name).rglob("*")]]
    return [path for path in here if path.is_file() and (path.suffix in SUFFIXES or path.name == "Makefile")]


def test_words_that_the_glossary_does_not_choose_are_not_used() -> None:
    looked = files()
    assert len(looked) > 300
    found = []
    for path in looked:
        name = path.relative_to(ROOT).as_posix()
        found += used(path.read_text(encoding="utf-8"), name)
    assert found == []


@pytest.mark.parametrize(
    "said",
    [
        "2 destabilisations",
        "the same call goes on where it stopped",
        "it went on\n    from a run",
        "# a sweep goes on\n# from its checkpoint",
        "training in the unconstrained space",
        "in the full space",
        "such a run may go on",
    ],
)
def test_such_a_word_is_seen(said: str) -> None:
    assert used(said) != []


def test_the_plain_verb_is_free() -> None:
    assert used("training goes on; its loss goes on falling; jobs resume") == []


def test_the_glossary_has_the_words_that_are_used() -> None:
    text = (ROOT / "docs" / "about" / "glossary.md").read_text(encoding="utf-8")
    for word in ("break-down", "whole space", "resume", "start from"):
        assert f"| **{word}**" in text, word
