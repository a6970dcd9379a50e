"""What the whole space adds: optimizers, full batches, fixed norm, weight normalization; each against a slow twin."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scaleinv import geometry
from scaleinv.errors import UserError
from scaleinv.lab.build import Setup, build
from scaleinv.lab.config import Settings
from scaleinv.lab.data import batches
from scaleinv.lab.models import build_model
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.start import find_start
from scaleinv.lab.weights import read_weights, rebuild
from scaleinv.runfolder.read import load_run
from scaleinv.studies.obtain import obtain

pytestmark = pytest.mark.numerics

SMALL = Settings(model="mlp", subset=64, batch_size=16, steps=8, width=4, evaluation="online")
LR, WD = 0.1, 0.05


def start(settings: Settings) -> Setup:
    data = load_data(settings)
    return build(resolve(settings, data, elr=None, lr=LR, seed=0, threads=1), data)


def tensors(setup: Setup) -> list[Tensor]:
    return [t for ts in setup.groups.values() for t in ts]


def by_hand(settings: Settings) -> list[Tensor]:
    """The weights after all steps, from the formulas of the optimizers and nothing of the lab's loop."""
    setup = start(settings)
    images, labels = setup.train
    weights = tensors(setup)
    state: dict[int, list[Tensor]] = {i: [torch.zeros_like(w), torch.zeros_like(w)] for i, w in enumerate(weights)}
    radius = geometry.norm([w.detach() for w in weights])
    setup.model.train()
    for t in range(settings.steps or 0):
        order = batches(64, 16, seed=0, epoch=t // 4 if settings.gradient == "batch" else t)
        if settings.gradient == "batch":
            parts = [order[t % 4]]
        else:
            parts = [torch.arange(64)] if settings.gradient == "full" else order
        total = [torch.zeros_like(w) for w in weights]
        for part in parts:
            loss = setup.loss(setup.model(images[part]), labels[part])
            for g, new in zip(total, torch.autograd.grad(loss, weights)):
                g += new * len(part) / sum(map(len, parts))
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(weights, total)):
                if settings.optimizer == "sgd":
                    w -= LR * (g + settings.weight_decay * w)
                    continue
                if settings.optimizer == "adam":
                    g = g + settings.weight_decay * w
                else:
                    w *= 1 - LR * settings.weight_decay
                m, v = state[i]
                m.mul_(0.9).add_(0.1 * g)
                v.mul_(0.999).add_(0.001 * g * g)
                w -= LR * (m / (1 - 0.9 ** (t + 1))) / ((v / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
            if settings.fix_norm:
                size = geometry.norm(weights)
                for w in weights:
                    w *= radius / size
    return weights


CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "fixed norm": {"fix_norm": True},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw"},
    "full batch": {"gradient": "full"},
    "accumulated": {"gradient": "accumulate"},
    "weight normalization": {"normalization": "weight"},
}


@pytest.mark.parametrize("case", CASES)
def test_the_weights_are_those_of_the_formula(tmp_path: Path, case: str) -> None:
    settings = dataclasses.replace(SMALL, weight_decay=WD, **CASES[case])
    folder = obtain(tmp_path, settings, lr=LR)
    expected, found = by_hand(settings), read_weights(folder)
    setup = start(settings)
    names = [name for name, p in setup.model.named_parameters() if p.requires_grad]
    # where a pixel never changes the true gradient is 0, and AdamW makes steps of full size out of rounding errors
    changing = setup.train[0].flatten(1).std(dim=0) > 0
    assert 20 < int(changing.sum()) < 64
    for name, w in zip(names, expected):
        columns = changing if name == names[0] else slice(None)
        torch.testing.assert_close(found[name][:, columns], w.detach()[:, columns], rtol=2e-4, atol=2e-5)


def test_full_and_accumulated_gradients_differ_by_the_batch_statistics(tmp_path: Path) -> None:
    """With a norm that needs no batch they are the same, with batch norm they are not."""
    for normalization, same in (("layer", True), ("batch", False)):
        settings = dataclasses.replace(SMALL, normalization=normalization, weight_decay=WD)
        full, summed = (
            read_weights(obtain(tmp_path, dataclasses.replace(settings, gradient=kind), lr=LR))["layers.0.weight"]
            for kind in ("full", "accumulate")
        )
        assert torch.allclose(full, summed, rtol=1e-4, atol=1e-5) == same


def test_the_fixed_norm_is_fixed_and_another_norm_may_be_asked_for(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, weight_decay=WD, fix_norm=True, norm=2.5)
    folder = obtain(tmp_path, settings, lr=LR)
    table = pq.read_table(folder / "metrics" / "steps-final.parquet")
    rho_sq = sum(table[name].to_numpy().astype(float) for name in table.column_names if name.endswith(":rho_sq"))
    np.testing.assert_allclose(np.sqrt(rho_sq), 2.5, rtol=1e-6)
    free = pq.read_table(
        obtain(tmp_path, dataclasses.replace(settings, fix_norm=False), lr=LR) / "metrics/steps-final.parquet"
    )
    rho_sq = sum(free[name].to_numpy().astype(float) for name in free.column_names if name.endswith(":rho_sq"))
    assert rho_sq[0] == pytest.approx(2.5**2, rel=1e-6)
    assert np.ptp(rho_sq) > 0.01


def test_another_norm_is_the_same_network() -> None:
    plain, scaled = start(SMALL), start(dataclasses.replace(SMALL, norm=3.0, norm_eps=1e-12))
    plain_eps = start(dataclasses.replace(SMALL, norm_eps=1e-12))
    x = plain.train[0]
    assert float(geometry.norm([w.detach() for w in tensors(scaled)])) == pytest.approx(3.0, rel=1e-6)
    torch.testing.assert_close(scaled.model(x), plain_eps.model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["mlp", "convnet", "resnet18"])
def test_weight_normalization_forgets_the_norm_of_every_row(name: str) -> None:
    g = torch.Generator().manual_seed(0)
    net = build_model(name, classes=10, in_shape=(1, 8, 8), width=4, norm="weight", generator=g).double()
    x = torch.randn(5, 1, 8, 8, generator=g, dtype=torch.float64)
    before = net(x)
    with torch.no_grad():
        for w in net.parameters():
            if w.ndim > 1 and w.requires_grad:
                w *= torch.rand(len(w), *[1] * (w.ndim - 1), generator=g, dtype=torch.float64) + 0.5
    torch.testing.assert_close(net(x), before)
    assert float(before.detach().std()) > 1e-3


def test_weight_normalization_passes_on_the_mean_square() -> None:
    """Rows of norm sqrt 2 on the output of a ReLU: the mean square before the next ReLU is that before this one."""
    g = torch.Generator().manual_seed(0)
    net = build_model("mlp", classes=10, in_shape=(1, 8, 8), width=512, norm="weight", generator=g)
    layer = net.layers[1]  # type: ignore[index, union-attr]
    z = torch.randn(2000, 512, generator=g)
    assert float(layer(functional.relu(z)).detach().square().mean()) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("change", "rate", "why"),
    [
        ({"fix_norm": True}, {"elr": 0.1}, "fix-norm is for the whole space"),
        ({"norm": 0.0}, {"lr": 0.1}, "norm 0.0 is not a positive number"),
        ({"optimizer": "lion"}, {"lr": 0.1}, "unknown optimizer 'lion'"),
        ({"optimizer": "adam", "momentum": 0.9}, {"lr": 0.1}, "momentum 0.9 is SGD's"),
        ({"gradient": "half"}, {"lr": 0.1}, "unknown gradient 'half'"),
        ({"schedule": "warm"}, {"lr": 0.1}, "schedule 'warm' is not understood"),
        ({"warmup": 9}, {"lr": 0.1}, "warmup 9 is not a number of steps from 0 to the horizon, 8"),
        ({"keep_every": 0}, {"lr": 0.1}, "keep-every 0 is not a positive number of epochs"),
        ({"normalization": "none"}, {"lr": 0.1}, "unknown normalization 'none'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, change: dict[str, Any], rate: dict[str, float], why: str
) -> None:
    with pytest.raises(UserError, match=why):
        obtain(tmp_path / "runs", dataclasses.replace(SMALL, **change), **rate)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("variant", ["si", "standard"])
@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("mlp", {"norm": 50.0}),
        ("convnet", {"norm": 50.0}),
        ("resnet18", {"norm": 50.0}),  # the norms in its shortcuts do not follow a rescaled weight
        ("mlp", {"granularity": "row"}),
        ("convnet", {"granularity": "row"}),
        ("convnet", {"granularity": "row", "norm": 50.0}),
        ("convnet", {"granularity": "group"}),
    ],
)
def test_a_start_of_other_norms_is_the_same_function(
    tmp_path: Path, model: str, variant: str, change: dict[str, Any]
) -> None:
    """In eval mode as well: what BN has seen is rescaled with the weights."""
    settings = dataclasses.replace(SMALL, model=model, variant=variant, steps=40, norm_eps=1e-12)
    parent = obtain(tmp_path, settings, elr=0.01)
    data, at, same = load_data(settings), find_start(parent), rebuild(parent)
    config = resolve(dataclasses.replace(settings, **change), data, elr=0.01, lr=None, seed=0, threads=1)
    other = build(dataclasses.replace(config, start=at.checksum), data, start=at.file)
    if "norm" in change:
        assert float(geometry.norm([t.detach() for t in tensors(other)])) == pytest.approx(50.0)
    if change.get("granularity") == "row":
        assert float((tensors(other)[0] / tensors(same)[0]).detach().std()) > 1e-3  # rows have factors of their own
    images = other.test[0]
    with torch.no_grad():
        ours, theirs = other.model.eval()(images), same.model.eval()(images)
    assert float((ours - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


def test_a_start_of_the_same_norm_is_what_it_was(tmp_path: Path) -> None:
    parent = obtain(tmp_path, SMALL, lr=LR)
    at, same = find_start(parent), rebuild(parent)
    config = resolve(SMALL, load_data(SMALL), elr=None, lr=LR, seed=0, threads=1, start=at.checksum)
    other = build(config, load_data(SMALL), start=at.file)
    assert all(torch.equal(t, same.model.state_dict()[name]) for name, t in other.model.state_dict().items())


def test_exact_metrics_of_full_batches_see_the_whole_set(tmp_path: Path) -> None:
    """One BN batch, as in training: the exact loss before the step is the loss of the step."""
    settings = dataclasses.replace(SMALL, gradient="full", evaluation="exact", eval_every=1, steps=3)
    run = load_run(obtain(tmp_path, settings, lr=LR))
    exact, online = (run.series(split, "total", "loss")[1] for split in ("train", "online"))
    np.testing.assert_allclose(exact[:3], online, rtol=1e-5)


@pytest.mark.parametrize("evaluation", ["exact", "online"])
def test_full_batches_are_measured_with_the_statistics_of_the_whole_set(tmp_path: Path, evaluation: str) -> None:
    """Against the whole set at once, by hand, at the last weights."""
    settings = dataclasses.replace(SMALL, gradient="full", evaluation=evaluation)
    folder = obtain(tmp_path, settings, lr=LR)
    run, setup = load_run(folder), rebuild(folder)
    (x, y), (tx, ty), net = setup.train, setup.test, setup.model.double()
    hidden, held = x.double().flatten(1), tx.double().flatten(1)
    for layer in net.layers:
        hidden, held = hidden @ layer.weight.T, held @ layer.weight.T
        mean, var = hidden.mean(0), hidden.var(0, correction=0)
        held = torch.relu((held - mean.detach()) / (hidden.var(0).detach() + 1e-5).sqrt())
        hidden = torch.relu((hidden - mean) / (var + 1e-5).sqrt())
    loss = functional.cross_entropy(hidden @ net.head.weight.T + net.head.bias, y)
    test = functional.cross_entropy(held @ net.head.weight.T + net.head.bias, ty)
    g = float(geometry.norm(list(torch.autograd.grad(loss, tensors(setup)))))
    expected = {("test", "loss_recomputed_bn"): test.item()}
    if evaluation == "exact":
        expected |= {("train", "loss"): loss.item(), ("train", "g"): g}
    for (split, quantity), value in expected.items():
        assert run.series(split, "total", quantity)[1][-1] == pytest.approx(value, rel=1e-4), quantity
