"""The figures of Lobacheva et al. 2021: what is drawn is what lies in the run folders."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tests import full_space
from tests.figures.redraw import redrawn

from scaleinv.errors import UserError
from scaleinv.papers import shelf
from scaleinv.papers.context import Context
from scaleinv.papers.lobacheva2021 import fig3, fig4, runs, runs_figures
from scaleinv.papers.lobacheva2021 import fig_frequency as frequency
from scaleinv.papers.lobacheva2021.traces import rate_colours, rate_text, read_trace
from scaleinv.plots.style import elr_colour
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.steps import load_steps

TINY = {"model": "mlp", "width": 8, "weight_decay": 1e-2, "steps": 180}


@pytest.fixture(scope="module")
def saw(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, float, float]]:
    """Two runs with periods and one without: folder, lr, wd."""
    root = tmp_path_factory.mktemp("saw")
    found = []
    for k, (lr, length, steps) in enumerate(((0.1, 600, 6000), (0.2, 300, 3000), (0.01, 10**6, 3000))):
        series = full_space.saw(steps, length, lr * 1e-2, seed=k)
        found.append((full_space.write_run(root / f"r{k}", series, lr, 1e-2), lr, 1e-2))
    return found


def test_the_figures_train_what_they_need_and_draw_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = runs_figures.Shown(TINY, (0.05, 0.1), period=0.1, fixed=0.1)
    monkeypatch.setitem(runs_figures._SHOWN, "digits", shown)
    monkeypatch.setitem(runs_figures._NETWORKS, "digits", ((0.1,), (0.1,), {"steps": 24, "subset": 64}))
    monkeypatch.setitem(runs.TWICE_NORM, "digits", 9.0)
    monkeypatch.setattr(runs_figures, "frequency", runs_figures.rates)
    told = []
    context = Context("digits", tmp_path / "runs", watch=lambda job, event: told.append((job.config.lr, event.kind)))
    drawn = {}
    for id in ("fig3", "fig1", "frequency", "ablation"):
        entry = shelf.find_figure(id)
        drawn[id] = redrawn(entry.drawing, entry.compute(context), tmp_path / id)
    # runs are shared: two of fig3, the ResNet of fig1, two with a fixed norm
    assert [lr for lr, kind in told if kind == "ended"] == [0.05, 0.1, 0.1, 0.1, 0.1]
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 5

    for entry, lr in zip(drawn["fig3"]["runs"], (0.05, 0.1)):
        run, steps = load_run(tmp_path / "runs" / entry["run"]), load_steps(tmp_path / "runs" / entry["run"])
        assert entry["lr"] == lr == run.config["lr"]
        assert entry["steps_per_epoch"] == 90
        assert entry["epoch"] == [0, 1, 2]
        for quantity in ("loss", "rho", "eg", "elr"):
            means = run.series("online", "total", quantity)[1]
            assert entry[quantity] == [getattr(steps, quantity)[0], *means]
        assert entry["test_error_percent"] == pytest.approx(100 * run.series("test", "total", "error")[1])
        assert entry["elr"][0] == pytest.approx(lr / entry["rho"][0] ** 2, rel=1e-6)
        assert entry["verdict"] == "not yet"
    columns = drawn["fig1"]["columns"]
    assert list(columns) == ["ConvNet on digits", "ResNet-18 on digits"]
    assert columns["ConvNet on digits"][0] == drawn["fig3"]["runs"][1]
    assert drawn["frequency"]["fit"] is None
    fixed = drawn["ablation"]["runs"]
    assert np.ptp(fixed["fixed at 9"]["rho"]) < 1e-3
    assert fixed["fixed at 9"]["rho"][0] == pytest.approx(9.0)
    assert np.ptp(fixed["norm free"]["rho"]) > 1e-2


def test_one_period_is_the_one_that_is_there(saw: list[tuple[Path, float, float]], tmp_path: Path) -> None:
    numbers = redrawn(fig4.draw, fig4.read_period(*saw[0]), tmp_path)
    assert numbers["period"]["length"] == pytest.approx(600, abs=2)
    assert numbers["period"]["start"] % 600 == pytest.approx(0, abs=2)
    assert numbers["lead_of_the_loss"] > 0
    a, b, c = (numbers["phases"][phase] for phase in "ABC")
    assert a[1] == b[0] < b[1] == c[0] <= c[1]
    steps = load_steps(saw[0][0])
    part = steps.eg[b[0] : b[1]]
    band = numbers["envelope"][-1]
    assert [band["l"], band["L"]] == pytest.approx(np.percentile(part, [1, 99]).tolist())
    assert band["inside"] == pytest.approx(0.98, abs=0.02)  # of its own percentiles
    close = numbers["zoom"]
    assert close[0] < c[0] <= c[1] < close[1]


def test_a_run_without_a_period_cannot_show_one(saw: list[tuple[Path, float, float]]) -> None:
    with pytest.raises(UserError, match="no whole period"):
        fig4.read_period(*saw[2])


def test_the_frequency_line_has_the_slope_of_its_points(saw: list[tuple[Path, float, float]], tmp_path: Path) -> None:
    numbers = redrawn(frequency.draw, frequency.collect([read_trace(*one) for one in saw]), tmp_path)
    assert [point["verdict"] for point in numbers["points"]] == ["periodic", "periodic", "not yet"]
    assert [point["interval"] for point in numbers["points"][:2]] == pytest.approx([600, 300], rel=0.01)
    assert [point["unit"] for point in numbers["points"][:2]] == pytest.approx([1000, 500])
    assert numbers["fit"] is None  # two points have no scatter
    units = [100.0, 200.0, 400.0, 800.0]
    line = frequency.fit(units, [70.0, 110.0, 250.0, 440.0])
    assert line is not None
    slope, offset = np.polyfit(np.log10(units), np.log10([70.0, 110.0, 250.0, 440.0]), 1)
    assert (line.slope, line.offset) == pytest.approx((slope, offset), abs=1e-5)
    # scipy.stats.linregress: standard error 0.068768 of the slope; t of 2 degrees 4.3027
    assert line.high - line.slope == pytest.approx(line.slope - line.low, abs=2e-6)
    assert (line.high - line.slope) / 4.30265 == pytest.approx(0.068768, abs=2e-5)
    assert frequency.fit([100.0] * 3, [1.0, 2.0, 3.0]) is None


def test_a_run_says_what_was_found(saw: list[tuple[Path, float, float]]) -> None:
    found = [read_trace(*one) for one in saw]
    assert found[0]["said"] == "8 periods, mean 0.6/(lr wd)"
    assert found[2]["said"] == "no period yet"
    assert rate_text(found[0]["lr"]) == "LR 0.1"


def test_a_diverged_run_is_drawn(tmp_path: Path) -> None:
    series = full_space.saw(1000, 10**6, 1e-3)
    series["loss"][700:] = math.nan
    folder = full_space.write_run(tmp_path / "r", series, 0.1, 1e-2, status="diverged")
    numbers = redrawn(fig3.draw, {"scale": "digits", "runs": [read_trace(folder, 0.1, 1e-2)]}, tmp_path)
    (run,) = numbers["runs"]
    assert run["said"] == "diverged at step 700"
    assert run["loss"][-1] is None
    assert len(run["loss"]) == 21


@pytest.mark.parametrize("scale", ["digits", "cifar-tiny", "cifar-small", "paper"])
def test_every_scale_is_complete(scale: str) -> None:
    wanted = runs_figures.rates(scale)
    rates = [request.lr for request in wanted]
    assert len(rates) >= 3
    assert runs_figures.period(scale) in wanted
    free, *fixed = runs_figures.ablation(scale).values()
    assert free in wanted
    assert [request.settings.norm for request in fixed] == [None, runs.TWICE_NORM[scale]]
    assert {request.settings.weight_decay for request in wanted} == {runs.base(scale).weight_decay}
    for id in ("fig3", "fig4", "ablation"):
        assert scale in shelf.find_figure(id).scales
    if scale == "cifar-tiny":
        return
    convnet, resnet = runs_figures.networks(scale).values()
    assert all(request in wanted for request in convnet)
    assert {request.settings.model for request in resnet} == {"resnet18"}
    wanted = runs_figures.frequency(scale)
    products = {round((one.lr or 0) * one.settings.weight_decay, 12) for one in wanted}
    assert len(products) == 4
    assert len({one.settings.weight_decay for one in wanted}) == 2
    for id in ("fig1", "frequency"):
        assert scale in shelf.find_figure(id).scales


def test_colours_go_by_the_rank_of_the_rate() -> None:
    found = rate_colours((1.0, 1e-3, 0.03, 1e-3))
    assert found == {1e-3: elr_colour(0.0), 0.03: elr_colour(0.5), 1.0: elr_colour(1.0)}
