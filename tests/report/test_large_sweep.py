"""The page of a thousand runs: every run is on it, a choice of them has lines, and it stays small, in any shape."""

from __future__ import annotations

import dataclasses
import re
import time
from itertools import product

import folders
import numpy as np
import pytest
from test_sweep_page import Reader

from scaleinv.report.choice import MOST_MAPS, MOST_RUNS, choose_runs, evenly
from scaleinv.report.facts import SweepFacts, SweptRun, by_series
from scaleinv.report.gather import sweep_facts as gather
from scaleinv.report.page import section_page
from scaleinv.report.sweep_page import SWEEP_SECTIONS
from scaleinv.runfolder.lineage import Origin, origin_of
from scaleinv.runfolder.read import load_sweep
from scaleinv.text import elr_text

#: benchmarks/sweep_page.py has the limit, 30 s; a machine that is busy may take twice as long
EPOCHS, SECONDS, BYTES = 100, 60, 3_000_000
#: rates, seeds, weight decays, starts
SHAPES = {"rates": (1000, 1, 1, 0), "seeds": (100, 10, 1, 0), "decays": (20, 1, 50, 0), "starts": (10, 1, 1, 100)}


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> SweepFacts:
    """A run of each regime, and one that diverged."""
    elrs = [1e-3, 0.1, 5.0, 10.0]
    return gather(load_sweep(folders.write_sweep(tmp_path_factory.mktemp("few") / "sweep", elrs, EPOCHS)))


def many(few: SweepFacts, rates: int, seeds: int, decays: int, starts: int) -> SweepFacts:
    """The same runs again and again, at other rates, seeds, weight decays and starts."""
    origins: list[Origin | None] = [None]
    if starts:
        told = {"run": "ab", "folder": "s1/runs/ab", "epoch": 20, "seed": 1}
        origins = [origin_of({**told, "weights": f"{k:064x}", "elr": 1e-3 * 1.1**k}) for k in range(starts)]
    runs: list[SweptRun] = []
    for k, elr in enumerate(np.geomspace(1e-4, 10, rates)):
        like = few.runs[0 if elr < 3e-2 else 1 if elr < 1 else 2 if k < rates - 1 else 3]
        for origin, decay, seed in product(origins, range(decays), range(seeds)):
            where = {"start": origin.weights, "start_name": f"s{origin.weights[-3:]}"} if origin else {}
            made = {"key": f"r{len(runs)}", "rate": float(elr), "rate_label": elr_text(float(elr), 3), "seed": seed}
            wd = 1e-4 * decay if decays > 1 else 0.0
            runs.append(dataclasses.replace(like, **made, **where, weight_decay=wd, origin=origin))
    return dataclasses.replace(few, runs=runs)


@pytest.mark.parametrize(
    "shape", [*SHAPES][:1] + [pytest.param(one, marks=pytest.mark.nightly) for one in [*SHAPES][1:]]
)
def test_a_thousand_runs(few: SweepFacts, shape: str) -> None:
    facts = many(few, *SHAPES[shape])
    begin = time.process_time()
    page = section_page("large", SWEEP_SECTIONS, facts)
    assert time.process_time() - begin < SECONDS
    assert len(page.encode()) < BYTES
    reader = Reader(page)
    rows = [attrs["data-run"] for tag, attrs in reader.elements if tag == "tr" and "data-run" in attrs]
    assert rows == [fact.key for fact in facts.runs]
    lines = re.search(r'id="curve-loss-train[^"]*".*?</figure>', page, re.S)
    assert lines is not None
    drawn = {gid.split(".")[1] for gid in re.findall(r'data-gid="([^"]+)"', lines.group())}
    assert len(drawn) == len(re.findall('class="chip"', page)) or shape in ("decays", "starts")
    assert 8 <= len(drawn) <= MOST_RUNS
    assert "Lines: " in reader.text
    assert "for all in sweep.json" in reader.text


def test_every_run_has_a_mark_in_the_map(few: SweepFacts) -> None:
    facts = many(few, 200, 1, 1, 0)
    page = section_page("large", SWEEP_SECTIONS, facts)
    whole = re.search(r'id="regime-map".*?</figure>', page, re.S)
    assert whole is not None
    for name in ("on-desk", "on-phone"):
        one = re.search(rf'class="plot {name}".*?</svg>', whole.group(), re.S)
        assert one is not None
        groups = re.findall(r'data-gid="[^"]*\.(\w+)\.\d+"(.*?)(?=data-gid=|</svg>)', one.group(), re.S)
        assert {key for key, _ in groups if key.startswith("others")} == {"others1", "others2", "others3"}
        marks = sum(len(re.findall("<use ", group)) for key, group in groups)
        keys = len(re.findall('class="legend|legend_1', one.group()))
        # the last group is followed by the marks of the legend: one for each of three regimes
        assert marks - 3 == 200 or (keys and marks >= 200)


def test_a_sweep_of_few_runs_is_drawn_whole(few: SweepFacts) -> None:
    facts = many(few, MOST_RUNS, 1, 1, 0)
    assert facts.drawn == facts.runs
    assert facts.others == []
    assert many(few, MOST_RUNS + 1, 1, 1, 0).drawn != facts.runs


def test_the_choice_keeps_ends_and_boundaries(few: SweepFacts) -> None:
    facts = many(few, 1000, 1, 1, 0)
    rates = facts.rates
    sides = {"1/2": {"low": rates[617], "high": rates[618]}, "2/3": {"low": rates[801], "high": None}}
    drawn = [fact.rate for fact in choose_runs(facts.runs, MOST_RUNS, sides)]
    assert drawn == sorted(drawn)
    assert {rates[0], rates[617], rates[618], rates[801], rates[-1]} <= set(drawn)
    assert MOST_RUNS - 4 <= len(drawn) <= MOST_RUNS
    steps = np.diff(np.log([rate for rate in drawn if rate not in rates[617:619] + rates[801:802]]))
    assert steps.max() < 2.5 * np.median(steps)  # evenly spread
    several = many(few, 100, 10, 1, 0)
    seeds = {rate: sum(fact.rate == rate for fact in several.drawn) for rate in {fact.rate for fact in several.drawn}}
    assert set(seeds.values()) == {4}
    assert len(seeds) == 16


def test_many_maps_have_their_answers_and_a_choice_figures(few: SweepFacts) -> None:
    parts = by_series(many(few, 20, 1, 50, 0))
    assert len(parts) == 50
    assert [part.drawn for part in parts].count(True) == MOST_MAPS
    assert parts[0].drawn
    assert parts[-1].drawn
    assert all(len(part.facts.drawn) <= MOST_RUNS // MOST_MAPS for part in parts)
    assert all(part.drawn for part in by_series(many(few, 3, 1, 20, 0)))  # 60 runs: all as ever


def test_evenly() -> None:
    assert evenly(range(10), 20) == list(range(10))
    assert evenly(range(10), 2) == [0, 9]
