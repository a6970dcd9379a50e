"""A page is its tuple of sections over facts: nothing else decides what it shows, and every text is escaped."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import folders
import pytest
from test_period_page import full_space
from test_retraining_page import write
from test_sweep_page import EVIL, Reader

from scaleinv.plots.drawing import Drawing, new_drawing
from scaleinv.report import run_page, sweep_page, write_figures, write_report
from scaleinv.report import write as write_module
from scaleinv.report.facts import AnyFacts
from scaleinv.report.gather import run_facts, sweep_facts
from scaleinv.report.page import Section, fragment, render, section_page
from scaleinv.runfolder.read import load_run, load_sweep


class Own(Section[AnyFacts]):
    """A section of a user's own, with a figure."""

    def drawings(self, facts: AnyFacts) -> list[Drawing]:
        return [new_drawing((3, 2), "own", "Own figure", "Caption.", "An own figure", "x", "y")[0]]

    def html(self, facts: AnyFacts, drawn: Sequence[Drawing]) -> str:
        return fragment("parts.html.j2", "figures", "My own section", drawn, "")


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_a_section_in_the_tuple_is_on_the_page_and_among_the_files(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "run":
        folders.write_run(tmp_path / "r", 0.1, 12, 1)
    else:
        folders.write_sweep(tmp_path / "r", elrs=[1e-3, 0.1], epochs=12, diverged=False)
    name = f"{kind.upper()}_SECTIONS"
    monkeypatch.setattr(write_module, name, (Own(), *getattr(write_module, name)))
    reader = Reader(write_report(tmp_path / "r").read_text("utf-8"))
    on_page = [attrs["id"] for tag, attrs in reader.elements if tag == "figure"]
    assert on_page[0] == "own"
    assert "My own section" in reader.text
    assert [path.stem for path in write_figures(tmp_path / "r", ["svg"])] == on_page


@pytest.mark.usefixtures("undrawn")
def test_sections_read_no_folder(tmp_path: Path) -> None:
    """All is in the facts: the page is the same once the folders are gone."""
    swept = write(tmp_path)
    run = full_space.write_run(tmp_path / "r", full_space.saw(5700, 600, 1e-3), 0.1, 1e-2)
    pages = [write_report(folder, tmp_path / f"{folder.name}.html").read_text("utf-8") for folder in (swept, run)]
    of_sweep, of_run = sweep_facts(load_sweep(swept)), run_facts(load_run(run))
    for folder in (swept, swept.parent / "s1", run):
        shutil.rmtree(folder)
    assert section_page(sweep_page.sweep_title(of_sweep), sweep_page.SWEEP_SECTIONS, of_sweep) == pages[0]
    assert section_page(run_page.run_title(of_run), run_page.RUN_SECTIONS, of_run) == pages[1]


def test_every_text_is_escaped() -> None:
    """Names go into the templates as they are; only the autoescape of jinja2 stands between them and the page."""
    parts = [
        fragment("parts.html.j2", "card", EVIL, EVIL, EVIL, EVIL),
        fragment("parts.html.j2", "pairs", [(EVIL, EVIL)]),
        fragment("parts.html.j2", "items", [EVIL]),
        fragment("parts.html.j2", "table", [EVIL], [[EVIL, EVIL]], EVIL),
    ]
    reader = Reader(render("frame.html.j2", title=EVIL, body=parts))
    assert reader.text.count("<script>alert(1)</script>") == 11
    assert not {"script", "img"} & {tag for tag, _ in reader.elements}
    assert not any(name.startswith("on") for _, attrs in reader.elements for name in attrs)
    "".join(parts).encode("utf-8")  # lone surrogates are gone
