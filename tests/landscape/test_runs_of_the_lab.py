"""Surfaces of run folders: what the run measured about itself is found again at its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.weights import kept_epochs, read_weights
from scaleinv.landscape.paths import linear_path
from scaleinv.landscape.runs import edge_of_run, points_of, surface_of
from scaleinv.landscape.sharpness import gradients
from scaleinv.landscape.surface import values
from scaleinv.landscape.walks import walk
from scaleinv.runfolder.read import load_run
from scaleinv.studies.obtain import obtain

SETTINGS = Settings(model="convnet", width=4, subset=100, epochs=4, keep_every=2, eval_every=2, recompute_bn=True)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return obtain(root, SETTINGS, elr=2e-3, seed=3)


@pytest.mark.parametrize("gradient", ["batch", "full", "accumulate"])
def test_the_runs_own_metrics_are_found_again(root: Path, gradient: str) -> None:
    folder = obtain(root, dataclasses.replace(SETTINGS, gradient=gradient), elr=2e-3, seed=3)
    run, surface = load_run(folder), surface_of(folder)
    assert kept_epochs(folder) == [0, 2, 4]
    for epoch, weights in points_of(folder):
        here = values(surface, weights)
        slopes = gradients(surface, weights)

        def measured(split: str, quantity: str, epoch: int = epoch) -> float:
            epochs, found = run.series(split, "total", quantity)
            return float(found[list(epochs).index(epoch)])

        # BN statistics of the same batches are averaged in the same order; only torch's own reductions differ
        assert here.train_loss == pytest.approx(measured("train", "loss"), rel=1e-6)
        assert here.train_error == measured("train", "error")
        assert here.test_loss == pytest.approx(measured("test", "loss_recomputed_bn"), rel=1e-6)
        assert values(surface, weights, recompute_bn=False).test_loss == pytest.approx(
            measured("test", "loss"), rel=1e-6
        )
        assert slopes.mean_norm == pytest.approx(measured("train", "eg"), rel=1e-5)
        assert slopes.rho == pytest.approx(measured("train", "rho"), rel=1e-6)


def test_a_walk_of_sgd_repeats_the_run(folder: Path) -> None:
    surface = surface_of(folder)
    weights = read_weights(folder, 2)
    steps = 2 * len(surface.batches())
    found = walk(surface, "sgd", 2e-3, steps, weights=weights, seed=3, epoch=2)
    last = read_weights(folder)
    for name in surface.names:
        torch.testing.assert_close(found.weights[name], last[name], rtol=0, atol=1e-5)


def test_paths_between_runs(root: Path, folder: Path) -> None:
    other = obtain(root, SETTINGS, elr=1e-3, seed=3)
    surface = surface_of(folder)
    path = linear_path(surface, read_weights(folder), read_weights(other), points=3)
    assert path.train_loss[0] == pytest.approx(values(surface, read_weights(folder)).train_loss, rel=1e-6)
    assert 0 < path.angle < 1
    wide = obtain(root, Settings(model="convnet", width=5, subset=100, epochs=1), elr=1e-3)
    with pytest.raises(UserError, match="another network"):
        linear_path(surface, read_weights(folder), read_weights(wide))


def test_edge_of_a_run_with_decay_and_schedule(root: Path) -> None:
    settings = Settings(
        model="mlp", width=8, subset=100, epochs=8, keep_every=4, gradient="full", weight_decay=0.01, schedule="linear"
    )
    folder = obtain(root, settings, lr=0.1)
    surface = surface_of(folder)
    assert surface.batch_size is None
    points = edge_of_run(folder)
    assert [p.step for p in points] == [0, 4, 8]
    rho = [surface.radius(w) for _, w in points_of(folder)]
    for point, r, share in zip(points, rho, (1.0, 0.5, 1 / 8)):
        lr = 0.1 * share
        assert point.elr == pytest.approx(lr / (1 - lr * 0.01) / r**2, rel=1e-12)
        assert np.isfinite(point.product)


def test_refusals(root: Path, folder: Path) -> None:
    plain = obtain(root, Settings(model="mlp", width=8, subset=64, epochs=1), elr=1e-3)
    with pytest.raises(UserError, match="keep_every"):
        list(points_of(plain))
    with pytest.raises(UserError, match="not kept"):
        list(points_of(folder, [1]))
    adam = obtain(root, Settings(model="mlp", width=8, subset=64, epochs=1, optimizer="adamw"), lr=1e-3)
    with pytest.raises(UserError, match="law of sgd"):
        edge_of_run(adam)
