"""The page of a sweep: the answer is right, the curves are the measured values, nothing is loaded, nothing escapes."""

from __future__ import annotations

import html
import json
import math
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import folders
import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.report import write_figures, write_report
from scaleinv.report.facts import SweepFacts
from scaleinv.report.gather import sweep_facts as gather
from scaleinv.report.sweep_map import regime_map
from scaleinv.report.words import boundary_words, reach, remarks, statement
from scaleinv.runfolder.read import load_sweep

EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(2)>$x_{'&\x00\ud800]]>"
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Reader(HTMLParser):
    """Every element with its attributes; fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_sweep(tmp_path_factory.mktemp("sweep") / "demo")


@pytest.fixture(scope="module")
def page(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(sweep, tmp_path_factory.mktemp("page")).read_text("utf-8")


def test_the_answer_comes_first(page: str) -> None:
    text = Reader(page).text
    answer = "Convergence up to 2.3e-2 ; chaotic equilibrium from 4.3e-2 to 0.89; divergence from 1.6; "
    answer += "horizon 60 epochs, 1 seed; 1 of 20 runs undecided."
    assert answer in text
    assert text.index(answer) < text.index("Train loss")
    assert "boundary 1/2 between 2.3e-2 and 4.3e-2" in text
    assert "1 run with a train loss that is not a finite number: ELR 10, seed 1." in text


def test_the_lowest_test_error_is_said(page: str) -> None:
    assert "Lowest test error: " in (text := Reader(page).text)
    assert text.index("Lowest test error") < text.index("boundary 1/2")


def test_each_run_can_be_shown_alone_and_columns_sort(page: str) -> None:
    elements = Reader(page).elements
    chips = [attrs["data-run"] for tag, attrs in elements if tag == "button" and attrs.get("class") == "chip"]
    assert chips == [f"r{i}" for i in range(20)]
    (told,) = [attrs["data-scripted"] for _, attrs in elements if "data-scripted" in attrs]
    assert told == "ELR, to show one alone:"
    assert "to show one alone" not in Reader(page).text  # a page without its script does not promise it
    assert [attrs for tag, attrs in elements if tag == "table" and attrs.get("class") == "sorts"]


def test_every_figure_and_every_run_is_there(page: str) -> None:
    reader = Reader(page)
    figures = [attrs["id"] for tag, attrs in reader.elements if tag == "figure"]
    assert figures == [
        "regime-map",
        "curve-loss-train",
        "curve-error-test",
        "curve-eg-train",
        "diagram",
        "step-size",
        "cosine",
        "group-ess",
    ]
    rows = [attrs["data-run"] for tag, attrs in reader.elements if tag == "tr" and "data-run" in attrs]
    assert rows == [f"r{i}" for i in range(20)]
    gids = [str(attrs["data-gid"]) for _, attrs in reader.elements if "data-gid" in attrs]
    # 20 runs in each of the 7 figures and in the map for phones; in that of the groups one has no finite number
    assert len(gids) == 8 * 20 + 19
    assert {gid.split(".")[1] for gid in gids} == set(rows)
    images = [attrs for tag, attrs in reader.elements if tag == "svg" and attrs.get("role") == "img"]
    assert len(images) == 9
    assert all(attrs["aria-label"] for attrs in images)
    assert "Loss 0.011 on average, below 0.023 in 97% of epochs 31-60" in reader.text
    assert "scaleinv sweep --data digits --elr 1e-4:10:20 --out runs/demo" in reader.text
    assert "sha256:0f3a" in reader.text


def test_the_page_loads_nothing(page: str) -> None:
    assert set(re.findall(r"https?://[^\s\"'<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    reader = Reader(page)
    for tag, attrs in reader.elements:
        assert tag not in ("iframe", "object", "embed", "img", "base", "form")
        assert "src" not in attrs
        assert (attrs.get("href") or "#").startswith(("#", "data:,"))
    policy = next(attrs["content"] for tag, attrs in reader.elements if tag == "meta" and "http-equiv" in attrs)
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_ids_are_unique(page: str) -> None:
    ids = [attrs["id"] for _, attrs in Reader(page).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def plotted(page: str, stem: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """A curve's values read back from the drawing, as the page's tooltip does."""
    part = page[page.index(f'id="{stem}"') :]
    axes = json.loads(html.unescape(re.search(r'data-axes="([^"]*)"', part).group(1)))  # type: ignore[union-attr]
    path = re.search(rf'data-gid="a\d+\.{key}\.\d+"><title>[^<]*</title><path d="([^"]*)"', part).group(1)  # type: ignore[union-attr]
    numbers = np.array([float(v) for v in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", path)]).reshape(-1, 2)
    box, values = axes[0]["box"], []
    for share, (_, scale, low, high) in (
        ((numbers[:, 0] - box[0]) / (box[1] - box[0]), axes[0]["x"]),
        ((numbers[:, 1] - box[2]) / (box[3] - box[2]), axes[0]["y"]),
    ):
        values.append(low * (high / low) ** share if scale == "log" else low + (high - low) * share)
    return values[0], values[1]


def test_the_curves_are_the_measured_values(sweep: Path, page: str) -> None:
    facts = gather(load_sweep(sweep))
    for fact in (facts.runs[0], facts.runs[9], facts.runs[15]):
        for stem, split, quantity, unit in (
            ("curve-loss-train", "online", "loss", 1),
            ("curve-eg-train", "online", "eg", 1),
            ("curve-error-test", "test", "error", 100),
        ):
            x, y = plotted(page, stem, fact.key)
            epochs, values = fact.series(split, quantity)
            np.testing.assert_allclose(x, epochs, atol=1e-3)
            np.testing.assert_allclose(y, unit * values, rtol=1e-3, atol=1e-3)


def test_a_curve_stops_where_it_is_not_finite(sweep: Path, page: str) -> None:
    facts = gather(load_sweep(sweep))
    assert facts.runs[-1].broken_at == 20
    x, _ = plotted(page, "curve-loss-train", facts.runs[-1].key)
    assert round(float(x.max())) == 19
    assert "loss not finite from epoch 20" in page


def test_the_page_is_small(tmp_path: Path) -> None:
    folder = folders.write_sweep(tmp_path / "s", epochs=100, seeds=3)
    assert write_report(folder).stat().st_size < 3e6


def test_the_page_of_long_runs_is_small(tmp_path: Path) -> None:
    folder = folders.write_sweep(tmp_path / "s", epochs=1500)
    assert write_report(folder).stat().st_size < 3e6


def test_the_same_folder_gives_the_same_bytes(sweep: Path, page: str, tmp_path: Path) -> None:
    assert write_report(sweep, tmp_path / "again.html").read_text("utf-8") == page


def test_names_cannot_escape(tmp_path: Path) -> None:
    parent = tmp_path / "<b>&'\"$x_{"
    folder = folders.write_sweep(
        parent / "s<script>", elrs=[1e-3, 0.1, 3.0], config={"data": EVIL, "model": EVIL, EVIL: EVIL}
    )
    summary = json.loads((folder / "sweep.json").read_text())
    for entry in summary["runs"]:
        entry["status"] = EVIL
        entry["evidence"] = {"reason": EVIL, EVIL: {EVIL: [EVIL]}, "statistics": {EVIL: None}}
    summary["runs"].append(
        {"run": EVIL, "elr": 0.5, "seed": EVIL, "regime": EVIL, "evidence": EVIL, "train_loss": EVIL}
    )
    (folder / "sweep.json").write_text(json.dumps(summary))
    text = write_report(folder).read_text("utf-8")
    reader = Reader(text)
    assert [tag for tag, _ in reader.elements].count("script") == 1
    assert not any(name.startswith("on") for _, attrs in reader.elements for name in attrs)
    assert not any(tag == "img" for tag, _ in reader.elements)
    assert "alert(1)" in reader.text  # shown, not run
    assert "\x00" not in text


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_in_progress(tmp_path: Path) -> None:
    folder = folders.write_sweep(tmp_path / "s", elrs=[1e-3, 0.1, 3.0], mapped=False, diverged=False)
    first = sorted((folder / "runs").iterdir())[0]
    (first / "result.json").unlink()
    shutil.rmtree(first / "metrics")
    text = Reader(write_report(folder).read_text("utf-8")).text
    assert "So far:" in text
    assert "The regime map is not written yet: 2 of the 3 runs so far have ended." in text
    assert "1 run not ended" in text
    assert "The run has not ended" in text
    assert "boundary 1/2 not known yet" in text


@pytest.mark.usefixtures("undrawn")
def test_a_sweep_without_runs(tmp_path: Path) -> None:
    folder = folders.write_sweep(tmp_path / "s", elrs=[0.1], mapped=False)
    shutil.rmtree(folder / "runs")
    text = Reader(write_report(folder).read_text("utf-8")).text
    assert "0 of the 0 runs so far have ended" in text


@pytest.mark.usefixtures("undrawn")
def test_a_run_whose_folder_is_gone_keeps_its_row(sweep: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(sweep, folder)
    shutil.rmtree(folder / "runs" / gather(load_sweep(sweep)).runs[3].name)
    text = write_report(folder).read_text("utf-8")
    assert text.count("<tr data-run=") == 20
    assert "1 run without a folder" in text


def test_a_sweep_of_learning_rates_says_so(tmp_path: Path) -> None:
    folder = folders.write_sweep(tmp_path / "s", elrs=[1e-3, 0.1, 3.0], diverged=False)
    head = json.loads((folder / "sweep-config.json").read_text())
    head["sweep"]["axis"] = "lr"
    (folder / "sweep-config.json").write_text(json.dumps(head))
    for i, run in enumerate(sorted((folder / "runs").iterdir())):
        content = json.loads((run / "config.json").read_text())
        content["config"] |= {"lr": 0.5 * (i + 1), "elr": None}
        (run / "config.json").write_text(json.dumps(content))
    facts = gather(load_sweep(folder))
    assert (facts.rate_name, facts.rates) == ("LR", [0.5, 1.0, 1.5])
    text = Reader(write_report(folder).read_text("utf-8")).text
    assert "Training, by learning rate" in text
    assert "LR 0.5, seed 1" in text


def facts_with(**bounds: Any) -> SweepFacts:
    runs = {1: 0.01, 2: 0.1, 3: 1.0}
    from scaleinv.report.facts import SweptRun

    def one(regime: int, elr: float) -> SweptRun:
        nan = math.nan
        return SweptRun(f"r{regime}", "n", "ELR", elr, str(elr), 1, regime, {}, "finished", *[nan] * 6, None)

    found = bounds.pop("seen", (1, 2, 3))
    return SweepFacts(Path("s"), {}, [one(r, runs[r]) for r in found], bounds, {"epochs": 60}, 2)


def span(low: float | None, high: float | None, decided: bool = True) -> dict[str, Any]:
    return {"low": low, "high": high, "decided": decided}


def test_the_statement_of_a_full_map() -> None:
    facts = facts_with(**{"1/2": span(0.01, 0.1), "2/3": span(0.1, 1.0)})
    assert statement(facts) == (
        "Convergence up to 1e-2; chaotic equilibrium from 0.1 to 0.1; divergence from 1; horizon 60 epochs, 1 seed."
    )
    assert boundary_words(facts, "2/3") == "between 0.1 and 1"


def test_the_statement_where_a_side_is_missing() -> None:
    nothing_diverges = facts_with(**{"1/2": span(0.01, 0.1), "2/3": span(0.1, None, False)}, seen=(1, 2))
    assert reach(nothing_diverges)[3] == "at none of the ELRs tried"
    assert boundary_words(nothing_diverges, "2/3") == "above 0.1, the upper side was not found"
    no_middle = facts_with(**{"1/2": span(0.01, 1.0, False), "2/3": span(None, 1.0, False)}, seen=(1, 3))
    assert reach(no_middle) == {1: "up to 1e-2", 2: "at none of the ELRs tried", 3: "from 1"}
    assert boundary_words(no_middle, "1/2") == "between 1e-2 and 1, not decided"
    assert boundary_words(no_middle, "2/3") == "below 1, the lower side was not found"
    empty = facts_with(**{"1/2": span(None, None, False)}, seen=(2,))
    assert boundary_words(empty, "1/2") == boundary_words(empty, "2/3") == "not found among the ELRs tried"
    assert reach(empty)[2] == "seen at 0.1"


def test_intervals_that_overlap_over_seeds_are_said() -> None:
    facts = facts_with(**{"1/2": span(0.01, 0.5), "2/3": span(0.1, 1.0)})
    assert reach(facts)[2] == "seen at 0.1, at no ELR in all seeds"
    assert remarks(facts) == [
        "3 runs without a folder, so without curves: ELR 0.01, seed 1, ELR 0.1, seed 1, ELR 1.0, seed 1."
    ]


@pytest.mark.parametrize("threshold", [0.0115, 0.03, 0.1, 0.5, 3.0])
def test_the_legend_of_the_map_covers_no_words(sweep: Path, threshold: float) -> None:
    facts = gather(load_sweep(sweep))
    for fact in facts.runs:
        fact.evidence["threshold"] = threshold
    drawing = regime_map(facts)
    for figure in (drawing.fig, drawing.narrow.fig):
        figure.canvas.draw()
        axes = figure.axes[1]
        legend = axes.get_legend().get_window_extent()
        words = [text for text in axes.texts if text.get_text().startswith("converged below")]
        assert len(words) == 1
        assert not legend.overlaps(words[0].get_window_extent())
        assert axes.get_window_extent().contains(*legend.max)


def test_figures_as_files(sweep: Path, tmp_path: Path) -> None:
    page = write_report(sweep, tmp_path / "page.html").read_text()
    paths = write_figures(sweep, ["svg", "png"], tmp_path / "page.html")
    assert len(paths) == len(set(paths)) == 2 * page.count("<figure")
    assert {path.parent for path in paths} == {tmp_path / "figures"}
    assert all(path.stat().st_size > 1000 for path in paths)
    with pytest.raises(UserError, match="'gif'"):
        write_figures(sweep, ["gif"], tmp_path)
    with pytest.raises(UserError, match="unknown figure format"):
        write_figures(sweep, [], tmp_path)


def test_a_place_that_cannot_be_written_is_told(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(sweep, tmp_path / "file" / "report.html")


def test_the_report_needs_no_torch(sweep: Path, tmp_path: Path) -> None:
    code = f"import sys; from scaleinv.report import write_report; write_report({str(sweep)!r}, {str(tmp_path)!r}); "
    code += "print('torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
