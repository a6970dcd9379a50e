"""Cosines between the weights of epochs: the obvious computation, tiny angles, resuming, real runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from scaleinv.analysis.similarity import cosines
from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.similarity import EpochSimilarity
from scaleinv.lab.start import find_start
from scaleinv.lab.train import run
from scaleinv.lab.weights import kept_epochs, read_weights
from scaleinv.runfolder.read import load_run

pytestmark = pytest.mark.numerics


def groups(seed: int = 0) -> dict[str, list[Tensor]]:
    g = torch.Generator().manual_seed(seed)
    return {"a": [torch.randn(4, 3, generator=g)], "b": [torch.randn(5, generator=g), torch.randn(2, 2, generator=g)]}


def flat(tensors: list[Tensor]) -> np.ndarray:
    return np.concatenate([t.numpy().astype(np.float64).ravel() for t in tensors])


def slow_cosine(u: np.ndarray, v: np.ndarray) -> float:
    return float(u @ v / math.sqrt(u @ u) / math.sqrt(v @ v))


def move(tensors: dict[str, list[Tensor]], size: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    for t in (t for ts in tensors.values() for t in ts):
        t.add_(size * torch.randn(t.shape, generator=g))


def test_the_obvious_computation() -> None:
    weights = groups()
    similarity = EpochSimilarity(weights)
    history = [{name: flat(ts) for name, ts in weights.items()}]
    for epoch in range(1, 4):
        move(weights, 0.3, epoch)
        history.append({name: flat(ts) for name, ts in weights.items()})
        rows = similarity.rows(10 * epoch, epoch)
        found = {(r.group, r.quantity): r.value for r in rows}
        assert {(r.step, r.epoch, r.split) for r in rows} == {(10 * epoch, epoch, "weights")}
        assert len(rows) == 6
        for quantity, other in (("cos_previous_epoch", history[-2]), ("cos_start", history[0])):
            for name in ("a", "b"):
                assert found[name, quantity] == pytest.approx(slow_cosine(history[-1][name], other[name]), abs=1e-14)
            whole = [np.concatenate(list(h.values())) for h in (history[-1], other)]
            assert found["total", quantity] == pytest.approx(slow_cosine(*whole), abs=1e-14)


def test_an_epoch_cut_short_has_no_previous_one() -> None:
    weights = groups()
    similarity = EpochSimilarity(weights)
    assert {r.quantity for r in similarity.rows(5, 1, whole=False)} == {"cos_start"}


def test_tiny_angles_keep_their_digits() -> None:
    weights = {"a": [torch.zeros(2, dtype=torch.float64)]}
    weights["a"][0][0] = 1.0
    similarity = EpochSimilarity(weights)
    weights["a"][0][1] = 1e-6
    value = similarity.rows(1, 1)[0].value
    assert 1 - value == pytest.approx(5e-13, rel=1e-3)


def test_no_direction_is_not_a_number() -> None:
    for bad in (0.0, math.inf, math.nan):
        weights = groups()
        similarity = EpochSimilarity(weights)
        weights["b"][0].fill_(bad)
        weights["b"][1].fill_(bad)
        found = {(r.group, r.quantity): r.value for r in similarity.rows(1, 1)}
        assert math.isnan(found["b", "cos_start"])
        assert found["a", "cos_start"] == 1
        assert math.isnan(found["total", "cos_start"]) == (bad != 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3))
def test_norms_do_not_matter(seed: int, scale: float) -> None:
    values = []
    for factor in (1.0, scale):
        weights = groups(seed)
        similarity = EpochSimilarity(weights)
        move(weights, 0.5, seed + 1)
        for t in (t for ts in weights.values() for t in ts):
            t.mul_(factor)
        values.append([r.value for r in similarity.rows(1, 1)])
    assert values[0] == pytest.approx(values[1], abs=1e-6)  # float32 products


@pytest.mark.parametrize("keep_start", [False, True])
@pytest.mark.parametrize("within", [False, True])
def test_a_state_within_and_between_epochs(keep_start: bool, within: bool) -> None:
    weights = groups()
    similarity = EpochSimilarity(weights, keep_start=keep_start)
    move(weights, 0.3, 1)
    similarity.rows(1, 1)
    if within:
        move(weights, 0.3, 2)
    state = similarity.state_dict()
    assert set(state) == {name for name, there in (("previous", within), ("start", keep_start)) if there}
    # the network as it was built, or another one where the start is kept
    fresh = groups(9 if keep_start else 0)
    resumed = EpochSimilarity(fresh, keep_start=keep_start)
    for name, tensors in fresh.items():
        for t, now in zip(tensors, weights[name]):
            t.copy_(now)
    resumed.load_state_dict(state)
    move(weights, 0.3, 3)
    move(fresh, 0.3, 3)
    assert resumed.rows(2, 2) == similarity.rows(2, 2)


def test_rows_of_a_run_are_those_of_its_kept_weights(tmp_path: Path) -> None:
    chosen = Settings(subset=100, batch_size=20, steps=18, width=4, model="mlp", keep_every=1)  # 3.6 epochs
    data = load_data(chosen)
    first = tmp_path / "first"
    run(resolve(chosen, data, elr=0.03, lr=None, seed=0, threads=1), data, first)
    loaded = load_run(first)
    assert kept_epochs(first) == [0, 1, 2, 3, 4]
    names = loaded.groups()
    weights = [flat([read_weights(first, e)[name] for name in names]) for e in range(5)]
    found = cosines(loaded)
    assert found.epochs.tolist() == [1, 2, 3]  # the last epoch was cut short
    expected = [slow_cosine(a, b) for a, b in zip(weights[1:4], weights[:3])]
    assert found.previous == pytest.approx(expected, abs=1e-12)
    start = loaded.series("weights", "total", "cos_start")[1]
    assert start == pytest.approx([slow_cosine(w, weights[0]) for w in weights[1:]], abs=1e-12)
    # a run that started from another one: its start is where it came from
    second = tmp_path / "second"
    origin = find_start(first)
    config = resolve(chosen, data, elr=0.01, lr=None, seed=0, threads=1, start=origin.checksum)
    run(config, data, second, start=origin)
    later = flat([read_weights(second, 1)[name] for name in names])
    assert load_run(second).series("weights", "total", "cos_start")[1][0] == pytest.approx(
        slow_cosine(later, weights[4]), abs=1e-12
    )
