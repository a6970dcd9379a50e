"""The regime of series whose story is known, and the boundaries of maps whose shape is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleinv.analysis.regimes import FEWEST_EPOCHS, Verdict, boundaries, classify, correlated_from, describe, window
from scaleinv.runfolder.read import Run, Series
from scaleinv.runfolder.stored import complete
from scaleinv.theory.guessing import constant_loss

THRESHOLD = 0.01 * math.log(10)
Floats = np.ndarray


def series(values: Any, epochs: Any = None) -> Series:
    values = np.atleast_1d(np.asarray(values, dtype=np.float64))
    epochs = np.arange(1, len(values) + 1) if epochs is None else np.asarray(epochs)
    return Series(90 * epochs, epochs, values)


def run(
    loss: Floats,
    *,
    eg: Floats | float | None = None,
    error: Floats | float = 0.3,
    cosine: Floats | float = 0.99,
    random: tuple[float, ...] = (8.4, 9.1, 8.8, 9.5, 8.1, 8.9, 9.0, 8.6),
    present: Floats | None = None,
    limit: tuple[float, ...] = (),
    status: str = "finished",
    config: Mapping[str, Any] | None = None,
) -> Run:
    n = len(loss)

    def whole(x: Floats | float) -> Floats:
        return np.broadcast_to(np.asarray(x, dtype=np.float64), (n,)).copy()

    metrics = {
        ("online", "total", "loss"): series(loss),
        ("online", "total", "error"): series(whole(error)),
        ("online", "total", "cosine"): series(whole(cosine)),
        ("online", "total", "eg"): series(50 * loss if eg is None else whole(eg)),
        ("online", "total", "ess"): series(whole(0.1)),
    }
    for i, level in enumerate(random):
        metrics["reference", f"direction-{i}", "loss"] = series([level], [0])
    if present is not None:
        for i, levels in enumerate(present):
            metrics["reference_present", f"direction-{i}", "loss"] = series(levels, np.arange(31, 31 + len(levels)))
    for i, level in enumerate(limit):
        metrics["reference_limit", f"direction-{i}", "loss"] = series([level], [0])
    result = {"status": status, "message": "it was too much"}
    told = {"elr": 1e-2, "seed": 0, "loss": "ce", "classes": 10, **(config or {})}
    return Run(Path("run"), complete(told), "", {}, result, metrics)


def noise(n: int, sigma: float, seed: int = 0, phi: float = 0.0) -> Floats:
    """exp of a stationary autoregressive series of standard deviation sigma."""
    rng = np.random.default_rng(seed)
    x = np.empty(n)
    x[0] = rng.normal()
    for i in range(1, n):
        x[i] = phi * x[i - 1] + math.sqrt(1 - phi**2) * rng.normal()
    return np.exp(sigma * x)


def epochs(n: int = 60) -> Floats:
    return np.arange(1.0, n + 1)


def expect(verdict: Verdict, regime: int | None, *words: str) -> None:
    assert verdict.regime == regime, verdict.evidence
    for word in words:
        assert word in verdict.evidence["reason"]


# -- levels that are not known -----------------------------------------------------------------------------------------

UNTOLD: dict[str, Any] = {"classes": 4, "chance_error": None, "constant_loss": None}


def test_without_both_levels_nothing_is_judged() -> None:
    for level in (1e-4, 0.5, 8.8):
        found = classify(run(level * noise(60, 0.05), config=UNTOLD))
        expect(found, None, "no chance_error", "and no constant_loss", "give it to RunFolder")
        assert math.isnan(found.evidence["threshold"])
    assert classify(diverged_at(0.75, UNTOLD)).regime is None


def diverged_at(error: float, config: Mapping[str, Any]) -> Run:
    """Uncorrelated iterates at the loss of random directions."""
    return run(8.8 * noise(60, 0.05), error=error, cosine=0.01, config=config)


def test_without_the_error_of_guessing_the_loss_decides() -> None:
    told = {**UNTOLD, "constant_loss": math.log(4)}
    expect(classify(run(1e-3 * noise(60, 0.05), config=told)), 1, "below 0.014")
    expect(classify(run(0.5 * noise(60, 0.05), config=told)), 2)
    expect(classify(run(2.0 * noise(60, 0.05), config=told)), None, "chance_error is not given", "correlated")
    expect(classify(diverged_at(0.2, told)), 3, "loss 8.93 is not below that of a constant answer (1.39)")


def test_an_error_that_was_not_measured_is_not_taken_for_a_good_one() -> None:
    four = {"classes": 4}
    unknown = {"error": math.nan, "config": four}
    expect(classify(run(0.5 * noise(60, 0.05), **unknown)), 2, "error not measured")
    expect(classify(run(2.0 * noise(60, 0.05), **unknown)), None, "the error was not measured and loss 2", "correlated")


def test_without_the_constant_loss_the_error_tells_guessing() -> None:
    told = {**UNTOLD, "chance_error": 0.75}
    expect(classify(diverged_at(0.75, told)), 3)
    expect(classify(diverged_at(0.3, told)), None, "no constant_loss")


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("classes", [2, 4, 100])
def test_thresholds_follow_the_classes(loss: str, classes: int) -> None:
    level = constant_loss(loss, classes)
    assert level is not None
    options = {"config": {"loss": loss, "classes": classes}}
    expect(classify(run(0.009 * level * noise(60, 0.01), **options)), 1)
    expect(classify(run(0.011 * level * noise(60, 0.01), **options)), 2)
    evidence = classify(run(0.5 * noise(60, 0.05), **options)).evidence
    assert (evidence["threshold"], evidence["chance_error"]) == (0.01 * level, 1 - 1 / classes)


def test_an_error_within_its_scatter_of_chance_is_chance() -> None:
    """Of few images in two classes the error of guessing scatters by more than 5 %."""
    rng = np.random.default_rng(0)
    error = 0.46 + 0.15 * rng.normal(size=60)
    two = {"config": {"classes": 2}}
    expect(classify(run(8.8 * noise(60, 0.05), error=error, cosine=0.01, **two)), 3)
    expect(classify(run(0.5 * noise(60, 0.05), error=0.46, **two)), 2)  # without scatter
    # 3 standard errors would reach from 0.78 to 0.9, but that is an accuracy twice that of guessing among ten
    error = 0.78 + 0.4 * rng.normal(size=60)
    expect(classify(run(0.5 * noise(60, 0.05), error=error)), 2)


# -- stories -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_converged_run(seed: int) -> None:
    loss = 2.0 * np.exp(-epochs() / 3) + 1e-3 * noise(60, 0.3, seed)
    verdict = classify(run(loss, error=0.0))
    expect(verdict, 1, "below 0.023 in 100% of epochs 31-60")
    assert verdict.evidence["window"] == [31, 60]
    assert verdict.evidence["horizon_epochs"] == 60
    assert verdict.evidence["threshold"] == pytest.approx(THRESHOLD)


@pytest.mark.parametrize("power", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(4))
def test_a_power_law_that_has_not_arrived_is_convergence(power: float, seed: int) -> None:
    loss = 8.0 * epochs() ** -power * noise(60, 0.03, seed)
    verdict = classify(run(loss, eg=400 * loss))
    expect(verdict, 1)
    if power < 2:  # else it has arrived
        expect(verdict, 1, "loss still falls", "effective gradient with it")


def test_a_falling_loss_without_a_falling_gradient_is_not_convergence() -> None:
    loss = 8.0 * epochs() ** -1.0 * noise(60, 0.03)
    expect(classify(run(loss, eg=50 * noise(60, 0.05, 3))), None, "the level still moves")
    expect(classify(run(loss, eg=loss**-1)), None, "the level still moves")
    expect(classify(run(loss, eg=np.full(60, math.nan))), None)
    expect(classify(run(loss, eg=np.full(60, math.inf))), None)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.6])
@pytest.mark.parametrize("phi", [0.0, 0.6])
@pytest.mark.parametrize("seed", range(6))
def test_a_stationary_level_is_never_called_another_regime(sigma: float, phi: float, seed: int) -> None:
    loss = 0.5 * noise(60, sigma, seed, phi) + 3 * np.exp(-epochs() / 2)
    verdict = classify(run(loss))
    assert verdict.regime in (2, None), verdict.evidence  # a chance trend of a short series may leave it undecided
    if sigma <= 0.3 and phi == 0:
        expect(verdict, 2, "stationary at loss", "above 0.023 in 100%")
        assert verdict.evidence["loss"] == pytest.approx(
            0.5 * math.exp(sigma**2 / 2), abs=4 * verdict.evidence["loss_se"]
        )


def test_a_level_that_rises_or_falls_slowly_is_undecided() -> None:
    for change in (0.5, 2.0):
        loss = 0.5 * change ** (epochs() / 60) ** 1.0 * noise(60, 0.02)
        eg = 30 * noise(60, 0.02, 1)
        expect(classify(run(loss, eg=eg)), None, "the level still moves")


@pytest.mark.parametrize("factor", [0.89, 0.93, 1.08])
def test_a_small_drift_that_is_steady_is_no_equilibrium(factor: float) -> None:
    """A language model at a very low ELR lost 7 % from third to third of ten epochs, epoch by epoch: it is learning."""
    n = 40
    loss = 2.2 * factor ** np.linspace(0, 3, n) * noise(n, 0.004)
    expect(classify(run(loss, eg=np.full(n, 8.0))), None, "slowly and steadily", "train longer")
    rests = 2.2 * 0.995 ** np.linspace(0, 3, n) * noise(n, 0.0001)  # half a per cent: as good as none
    expect(classify(run(rests, eg=np.full(n, 8.0))), 2, "stationary")


def test_the_approach_to_a_level_is_not_convergence() -> None:
    # falls all the time, gradient and all, but ever more slowly: where it ends is not seen
    loss = 0.4 * (1 + 1.5 * np.exp(-(epochs() - 31) / 6)) * noise(60, 0.01)
    expect(classify(run(loss, eg=100 * loss)), None, "falls ever more slowly")
    settled = 0.4 * (1 + 1.5 * np.exp(-epochs() / 6)) * noise(60, 0.01)
    expect(classify(run(settled, eg=100 * settled)), 2)


def test_late_convergence_is_not_equilibrium() -> None:
    # long at a level, then to the minimum: the mean is far above the threshold, the truth is not regime 2
    for arrival in (46, 50, 53):
        loss = np.where(epochs() < arrival, 0.5, 5e-4) * noise(60, 0.4, arrival)
        expect(classify(run(loss)), None, "only now", "train longer")


def test_a_slow_fall_through_the_threshold_is_no_intermittent_band() -> None:
    # as of CIFAR-10 at a low ELR: it falls all the time, with a spike that spoils its rank, and is below at the end
    loss = 0.04 * 0.5 ** ((epochs() - 30) / 20) * noise(60, 0.1)
    loss[[34, 41]] *= 2
    gradient = 300 * np.sqrt(loss) * noise(60, 0.2, 1)
    expect(classify(run(loss, eg=gradient)), None, "only now", "train longer")


def test_thrown_out_at_the_end_is_not_convergence() -> None:
    for out in (2, 3, 8, 14):
        loss = np.where(epochs() <= 60 - out, 5e-4, 0.5) * noise(60, 0.2, out)
        expect(classify(run(loss)), None, "thrown out" if out <= 3 else "intermittent")


def test_one_excursion_within_a_long_convergence_does_not_undo_it() -> None:
    for at in (35, 45, 59):
        loss = 5e-4 * noise(60, 0.2)
        loss[at] = 0.3
        expect(classify(run(loss)), 1, "below 0.023 in 97%")


@pytest.mark.parametrize("share", [0.2, 0.3, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_the_intermittent_band_is_undecided(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    out = rng.permutation(60) < 60 * share
    loss = np.where(out, 0.4, 2e-3) * noise(60, 0.2, seed)
    found = float((loss[30:] > THRESHOLD).mean())
    verdict = classify(run(loss))
    assert verdict.evidence["share_above_threshold"] == found
    if 0.1 < found < 0.5:
        expect(verdict, None, "intermittent")


def test_random_labels_of_an_intermittent_run_do_not_reach_a_confident_answer_by_the_last_value() -> None:
    # the same window, cut at other lengths: the last value is high or low, the verdict is not
    loss = np.where((np.arange(120) // 4) % 3 == 0, 0.4, 2e-3) * noise(120, 0.1)
    for n in range(60, 120):
        assert classify(run(loss[:n])).regime is None


def test_frequent_visits_of_the_minimum_do_not_hide_an_equilibrium() -> None:
    loss = 0.4 * noise(60, 0.2)
    loss[::5] = 2e-3
    expect(classify(run(loss, eg=20 * noise(60, 0.1))), 2, "above 0.023 in 80%")


# -- chance ------------------------------------------------------------------------------------------------------------


def diverged(level: float = 9.5, n: int = 60, **options: Any) -> Run:
    return run(level * noise(n, 0.08, 5), **{"error": 0.9 + 0.01 * np.log(noise(n, 1.0, 6)), "cosine": 0.01, **options})


def test_divergence() -> None:
    expect(classify(diverged()), 3, "error 90% is chance", "uncorrelated (cos 0.01)", "random directions (8.8")
    expect(classify(diverged(13.0)), 3)  # gradient ascent is worse than random


def test_a_loss_below_the_random_level_is_the_onset() -> None:
    expect(classify(diverged(6.0)), None, "below the level of random directions", "onset")


def test_the_limit_of_large_elrs_is_a_little_below_random_directions() -> None:
    expect(classify(diverged(8.8 * 0.88, random=(8.8, 8.81, 8.79, 8.8))), 3)
    expect(classify(diverged(8.8 * 0.83, random=(8.8, 8.81, 8.79, 8.8))), None, "onset")


def test_the_level_of_an_infinite_elr_may_stand_in() -> None:
    limit = (6.6, 6.4, 6.5, 6.7, 6.3, 6.5)
    expect(classify(diverged(6.1, limit=limit)), 3, "in the limit of an infinite ELR (6.5 +- ")
    expect(classify(diverged(5.2, limit=limit)), None, "onset")
    expect(classify(diverged(6.1, limit=(2.0, 11.0, 6.5))), None, "onset")  # too vague


def test_the_level_of_the_present_norms_may_stand_in() -> None:
    present = 6.0 * np.exp(0.05 * np.random.default_rng(0).normal(size=(8, 5)))
    expect(classify(diverged(6.1, present=present)), 3, "present norms")
    expect(classify(diverged(4.0, present=present)), None, "onset")


def test_correlated_iterates_at_chance_are_the_onset() -> None:
    for cosine in (0.31, 0.8, -0.5):
        expect(classify(diverged(cosine=cosine)), None, "correlated")
    expect(classify(diverged(cosine=-0.2)), 3)
    expect(classify(diverged(cosine=math.nan)), None, "cosine of consecutive iterates was not measured")


@pytest.mark.parametrize(
    "config",
    [
        {"optimizer": "adam"},
        {"momentum": 0.9},
        {"optimizer": "adamw", "optimizer_args": '{"betas": [0.9, 0.95]}'},
    ],
)
def test_what_momentum_alone_correlates_does_not_hide_divergence(config: dict[str, Any]) -> None:
    expect(classify(diverged(cosine=0.92, config=config)), 3, "correlated by momentum alone (cos 0.92)")
    expect(classify(diverged(cosine=0.96, config=config)), None, "onset of divergence")
    expect(classify(diverged(cosine=0.92, config={"optimizer": "RMSprop"})), None, "onset of divergence")


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9])
def test_the_limit_of_the_cosine_is_that_of_long_steps_with_a_memory(memory: float) -> None:
    """Steps of 3.18 radii along averages of random gradients, on the sphere, in many dimensions."""
    rng = np.random.default_rng(0)
    x, average, found = rng.normal(size=20000), rng.normal(size=20000), []
    x /= np.linalg.norm(x)
    for _ in range(60):
        average = memory * average + rng.normal(size=len(x)) * math.sqrt(1 - memory**2)
        before, x = x, x - math.sqrt(1 / 0.3**2 - 1) * average / np.linalg.norm(average)
        x /= np.linalg.norm(x)
        found.append(float(before @ x))
    # the formula takes the iterate to lie along the last step, which is so up to a part in r
    assert np.mean(found[20:]) == pytest.approx(correlated_from(memory), abs=0.03)


def test_without_a_measured_level_there_is_no_regime_3() -> None:
    expect(classify(diverged(random=())), None, "was not measured")


def test_a_vague_level_decides_nothing() -> None:
    # a draw of the head whose random directions scatter from 2 to 20: any loss would be "not significantly below"
    expect(classify(diverged(4.0, random=(2.0, 3.0, 20.0, 2.5))), None, "too uncertain")
    expect(classify(diverged(4.0, present=np.array([[2.0, 15.0]] * 4))), None, "onset")


def test_a_start_that_was_never_left_is_not_the_onset_of_divergence() -> None:
    loss = 9.5 - 0.001 * epochs() + 0.01 * np.log(noise(60, 1.0))
    expect(classify(run(loss, error=0.9, cosine=1.0)), None, "a start that was never left")
    falling = 9.5 * 0.97 ** epochs()
    expect(classify(run(falling, error=0.88, cosine=1.0)), None, "still falls", "train longer")


def test_nearly_all_wrong_on_many_classes_is_not_chance() -> None:
    # an error of 94 % is within 5 % of guessing among 100 classes, and six times better
    loss = 4.0 * noise(60, 0.03)
    options: dict[str, Any] = {"error": 0.94, "cosine": 0.2, "random": (4.1, 4.2, 4.0, 4.15)}
    many = {"config": {"classes": 100}}
    expect(classify(run(loss, **options, **many)), 2)
    expect(classify(run(loss, **{**options, "error": 0.988}, **many)), 3)
    expect(classify(run(loss, **{**options, "error": 0.86})), 3)
    expect(classify(run(loss, **{**options, "error": 0.85})), 2)


# -- runs that say little ----------------------------------------------------------------------------------------------


def test_a_run_that_left_the_numbers_is_undecided() -> None:
    loss = 5.0 * noise(60, 0.1)
    loss[40:] = math.nan
    expect(classify(run(loss)), None, "produced NaN or infinity")
    expect(classify(run(5.0 * noise(60, 0.1), status="diverged")), None, "produced NaN or infinity: it was too much")
    loss[:] = math.inf
    expect(classify(run(loss, status="running")), None, "produced NaN or infinity")


@pytest.mark.parametrize("n", [1, 2, 5, 10, FEWEST_EPOCHS - 1])
@pytest.mark.parametrize("level", [1e-4, 0.5, 9.5])
def test_short_runs_are_undecided(n: int, level: float) -> None:
    error = 0.9 if level > 5 else 0.1
    expect(classify(run(level * noise(n, 0.05), error=error, cosine=0.0)), None, "too few to judge")


@pytest.mark.parametrize("n", range(FEWEST_EPOCHS, FEWEST_EPOCHS + 6))
def test_the_shortest_judged_runs_have_a_stationarity_test(n: int) -> None:
    verdict = classify(run(0.5 * noise(n, 0.05)))
    expect(verdict, 2)
    assert math.isfinite(verdict.evidence["loss_drift"])
    assert math.isfinite(verdict.evidence["loss_drift_se"])


def test_a_run_without_metrics_is_undecided() -> None:
    empty = Run(Path("run"), {"loss": "ce"}, "", {}, None, {})
    expect(classify(empty), None, "0 epochs are too few")
    assert len(window(empty).loss) == 0


def test_the_threshold_follows_the_loss() -> None:
    squared = constant_loss("mse", 10)
    assert squared == pytest.approx(0.09)
    assert constant_loss("ce", 100) == pytest.approx(math.log(100))
    loss = 5e-4 * noise(60, 0.1)
    expect(classify(run(loss, config={"loss": "mse"})), 1)
    expect(classify(run(4 * loss, config={"loss": "mse"})), 2)  # above 1 % of 0.09, though far below 1 % of log 10
    expect(classify(run(4 * loss)), 1)


# -- properties --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(-9, 3), st.floats(0, 1.5), st.floats(0, 0.95), st.floats(0, 1), st.floats(-1, 1),
    st.integers(20, 80),
)  # fmt: skip
def test_any_series_gets_an_answer_with_a_reason(
    seed: int, log_level: float, sigma: float, phi: float, error: float, cosine: float, n: int
) -> None:
    verdict = classify(run(math.exp(log_level) * noise(n, sigma, seed, phi), error=error, cosine=cosine))
    evidence = verdict.evidence
    assert verdict.regime in (1, 2, 3, None)
    assert evidence["reason"]
    if verdict.regime == 3:
        assert error >= 0.85
        assert abs(cosine) < 0.3
    if verdict.regime == 2:
        assert error < 0.86
        assert min(evidence["share_above_threshold_by_third"]) >= 0.5
        assert 0.5 <= evidence["loss_last_third_to_first"] <= 2 or abs(evidence["loss_drift"]) <= math.log(1.15)
    if verdict.regime == 1:
        assert evidence["share_above_threshold"] <= 0.1 or evidence["loss_drift"] < -math.log(1.2)


def test_stationary_series_are_rarely_called_convergence() -> None:
    # the worst case: a level in the numbers' noise with a long memory, and an effective gradient that follows it
    wrong = 0
    for seed in range(300):
        loss = 0.3 * noise(60, 0.3, seed, 0.9)
        wrong += classify(run(loss, eg=100 * loss)).regime == 1
    assert wrong / 300 < 0.02


# -- boundaries --------------------------------------------------------------------------------------------------------

Point = tuple[float, int, int | None]


def line(regimes: str, seed: int = 0) -> list[Point]:
    """One seed's runs at the rates 1, 2, 3, ...; "." is undecided."""
    return [(float(i + 1), seed, None if r == "." else int(r)) for i, r in enumerate(regimes)]


@pytest.mark.parametrize(
    ("regimes", "first", "second"),
    [
        ("111222333", (3, 4, True), (6, 7, True)),
        ("11..22.33", (2, 5, True), (6, 8, True)),
        ("123", (1, 2, True), (2, 3, True)),
        ("1211223", (1, 5, True), (6, 7, True)),  # thrown out once: the boundary is where it is seen on both sides
        ("1122323", (2, 3, True), (4, 7, True)),
        ("111", (3, None, False), (None, None, False)),
        ("222", (None, 1, False), (3, None, False)),
        ("333", (None, 1, False), (None, 1, False)),
        ("...", (None, None, False), (None, None, False)),
        ("", (None, None, False), (None, None, False)),
        ("11.33", (2, 4, False), (None, 4, False)),  # regime 2 was missed: neither boundary was seen from both sides
        ("1122", (2, 3, True), (4, None, False)),
        ("2233", (None, 1, False), (2, 3, True)),
    ],
)
def test_boundaries_of_one_seed(regimes: str, first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    found = boundaries(line(regimes))
    for key, (low, high, decided) in (("1/2", first), ("2/3", second)):
        assert found[key] == {"low": low, "high": high, "decided": decided}, key


def test_several_seeds_give_the_union() -> None:
    points = line("1112233", 0) + line("1222333", 1)
    assert boundaries(points) == {
        "1/2": {"low": 1, "high": 4, "decided": True},
        "2/3": {"low": 4, "high": 6, "decided": True},
    }
    assert boundaries(points + line(".......", 2))["1/2"] == {"low": 1, "high": 4, "decided": False}
    assert "not decided on this grid" in describe(boundaries(line("111")))
    assert describe(boundaries(points)).startswith("convergence -> chaotic equilibrium between 1 and 4")


maps = st.lists(st.sampled_from("123."), min_size=1, max_size=12).map("".join)
ordered = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)).map(
    lambda n: "1" * n[0] + "2" * n[1] + "3" * n[2]
)


@given(ordered, st.data())
def test_a_clean_map_has_the_neighbours_as_boundaries(regimes: str, data: st.DataObject) -> None:
    a, b = regimes.index("2"), regimes.index("3")
    clean = boundaries(line(regimes))
    assert clean["1/2"] == {"low": a, "high": a + 1, "decided": True}
    assert clean["2/3"] == {"low": b, "high": b + 1, "decided": True}
    # forgetting a run can only widen the intervals
    drop = data.draw(st.integers(0, len(regimes) - 1))
    fewer = boundaries(line(regimes[:drop] + "." + regimes[drop + 1 :]))
    for key in clean:
        if fewer[key]["decided"]:
            assert fewer[key]["low"] <= clean[key]["low"]
            assert fewer[key]["high"] >= clean[key]["high"]


@given(st.lists(maps, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_boundaries_of_any_map_are_consistent(regimes: list[str], random: Any) -> None:
    points = [p for seed, r in enumerate(regimes) for p in line(r, seed)]
    found = boundaries(points)
    shuffled = list(points)
    random.shuffle(shuffled)
    assert boundaries(shuffled) == found
    assert boundaries([(rate, 100 - seed, regime) for rate, seed, regime in points]) == found
    for key, below in (("1/2", 1), ("2/3", 2)):
        b = found[key]
        alone = [boundaries(line(r, 0))[key] for r in regimes]
        assert b["decided"] == all(a["decided"] for a in alone)
        for a in alone:  # the union holds every seed's interval
            assert a["low"] is None or b["low"] <= a["low"]
            assert a["high"] is None or b["high"] >= a["high"]
        if b["decided"]:
            assert b["low"] < b["high"]
            # outside the interval nothing contradicts it
            for rate, _, regime in points:
                if regime is not None:
                    assert not (rate < b["low"] and regime > below)
                    assert not (rate > b["high"] and regime <= below)
