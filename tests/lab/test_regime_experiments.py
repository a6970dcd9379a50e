"""The runs about the regimes: what they promise holds for every network declared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scaleinv.errors import UserError
from scaleinv.papers.kodryan2022 import runs as regimes


@pytest.mark.parametrize(("scale", "model"), list(regimes._NETS))
def test_elrs(scale: str, model: str) -> None:
    net = regimes.find(scale, model)
    for elrs in (net.elrs, net.convergence, net.equilibrium):
        assert list(elrs) == sorted(set(elrs))
    assert net.convergence[-1] < net.equilibrium[0]
    assert net.elrs[0] <= net.convergence[-1]
    assert net.elrs[-1] > net.equilibrium[-1]


def test_sweep_is_seeds_by_elrs() -> None:
    net = regimes.find("digits")
    requests = regimes.sweep(net, seeds=(0, 3))
    assert [(r.seed, r.elr) for r in requests] == [(s, e) for s in (0, 3) for e in net.elrs]


@pytest.mark.parametrize("scale", ["digits", "mnist", "cifar-small", "paper"])
def test_runs_inside_regime_1_go_on_from_runs_there(scale: str, tmp_path: Path) -> None:
    net = regimes.find(scale)
    ways = regimes.retrainings(scale)
    assert all(elr < start for start, elr, _ in ways["lower"])
    assert all(elr > start for start, elr, _ in ways["higher"])
    minima = {r.elr: r for r in regimes.minima(net, 7)}
    assert tuple(minima) == net.convergence
    for start, elr, epoch in (*ways["lower"], *ways["higher"]):
        assert {start, elr} <= set(minima)
        settings = minima[start].settings
        if epoch is not None:  # its weights are kept, with half of the run still to come
            assert epoch % settings.keep_every == 0
            assert epoch <= settings.epochs / 2
        (again,) = regimes.retrained(net, tmp_path, [elr], seed=107, epoch=epoch)
        assert again.settings.epochs == settings.epochs
    assert set(regimes.new_elrs(net)) <= set(minima)


def test_minima_are_the_sweeps_own_runs_unless_those_are_too_short() -> None:
    net = regimes.find("digits")
    assert regimes.minima(net, 0) == regimes.sweep(net, [0], net.convergence)
    small = regimes.find("cifar-small")
    longer = regimes.minima(small, 0)[0].settings
    assert longer.epochs > small.settings.epochs
    assert longer == replace(small.settings, epochs=longer.epochs, keep_every=longer.keep_every)


def test_runs_above_regime_1_are_evaluated_less_often_where_the_network_says_so() -> None:
    net = regimes.find("digits")
    assert net.level_eval_every > net.settings.eval_every
    for request in regimes.sweep(net, seeds=(0,)):
        every = net.settings.eval_every if request.elr <= net.convergence[-1] else net.level_eval_every
        assert request.settings == replace(net.settings, eval_every=every)
    paper = regimes.find("paper")
    assert {r.settings for r in regimes.sweep(paper)} == {paper.settings}


def test_paths_of_digits_are_between_minima_that_fit_redrawn_labels() -> None:
    net, plain = regimes.for_paths("digits"), regimes.find("digits")
    assert (net.settings.label_noise, plain.settings.label_noise) == (0.2, 0.0)
    assert (net.settings.model, net.settings.width) == (plain.settings.model, plain.settings.width)
    assert regimes.for_paths("cifar-small") is regimes.find("cifar-small")
    new = regimes.new_elrs(net)
    assert net.convergence[0] < min(new)
    assert max(new) < net.convergence[-1]  # neither the slowest nor the one at the boundary


@pytest.mark.parametrize("scale", list(regimes._PASSAGE))
def test_passages_cross_the_boundary(scale: str) -> None:
    requests = regimes.passages(scale)
    net = regimes.find(scale, regimes._PASSAGE[scale][0])
    assert len({r.seed for r in requests}) == (5 if scale == "digits" else len(net.seeds))
    clean, noisy = regimes.label_noise(scale)
    assert (clean.settings.label_noise, noisy.settings.label_noise) == (0.0, 0.2)
    assert clean.settings.epochs / clean.settings.eval_every >= 20  # what a verdict on double descent needs


def test_unknown_network() -> None:
    with pytest.raises(UserError, match="no regimes of 'vit'"):
        regimes.find("digits", "vit")
