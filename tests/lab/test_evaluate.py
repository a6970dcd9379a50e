"""Exact metrics against slow float64 computations on a small network and real digits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from scaleinv import Sphere, geometry
from scaleinv.lab import batchnorm, evaluate, levels
from scaleinv.lab import build as lab_groups
from scaleinv.lab.config import Settings
from scaleinv.lab.data import load_dataset
from scaleinv.lab.evaluate import Evaluated
from scaleinv.lab.losses import get_loss
from scaleinv.lab.models import build_model
from scaleinv.runfolder.read import load_run
from scaleinv.runfolder.rows import Row
from scaleinv.studies.obtain import obtain

pytestmark = pytest.mark.numerics

N, BATCH = 161, 32  # five full batches and one image more, which joins the last
SLICES = [slice(0, 32), slice(32, 64), slice(64, 96), slice(96, 128), slice(128, 161)]
RATES = [0.7, 0.7, 0.7, 0.7, 0.7]


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    data = load_dataset("digits", subset=N)
    return data.train_images.double(), data.train_labels, data.test_images.double(), data.test_labels


def network(seed: int = 0, **options: Any) -> Any:
    net = build_model(
        "convnet", classes=10, width=3, in_shape=(1, 8, 8), generator=torch.Generator().manual_seed(seed), **options
    ).double()
    for i, layer in enumerate(m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        g = torch.Generator().manual_seed(50 + i)  # running statistics that differ from the recomputed ones
        layer.running_mean.copy_(0.1 * torch.randn(layer.num_features, generator=g))
        layer.running_var.copy_(0.5 + torch.rand(layer.num_features, generator=g))
    return net


Statistics = list[tuple[Tensor, Tensor]]


def slow_logits(net: Any, x: Tensor, statistics: Statistics | None = None, seen: list[Any] | None = None) -> Tensor:
    """The network by hand: with batch statistics (collected in ``seen``), or with given ones, (mean, variance)."""
    for i, conv in enumerate(net.convs):
        x = functional.conv2d(x, conv.weight, padding=1)
        flat = x.transpose(0, 1).flatten(1)
        mean, var = flat.mean(1), flat.var(1, unbiased=False)
        if seen is not None:
            seen.append((mean.detach(), flat.var(1, unbiased=True).detach()))
        if statistics is not None:
            mean, var = statistics[i]
        x = torch.relu((x - mean[:, None, None]) / (var[:, None, None] + 1e-5).sqrt())
        if i > 0:
            x = functional.max_pool2d(x, 2)
    return x.amax((2, 3)) @ net.head.weight.T + net.head.bias


def slow_loss(name: str, logits: Tensor, labels: Tensor) -> Tensor:
    if name == "ce":
        return -torch.log_softmax(logits, 1)[torch.arange(len(labels)), labels].mean()
    return ((logits - torch.eye(10, dtype=logits.dtype)[labels]) ** 2).mean()


def table(rows: list[Row]) -> dict[tuple[str, str, str], float]:
    found = {(r.split, r.group, r.quantity): r.value for r in rows}
    assert len(found) == len(rows)
    return found


def fingerprint(net: Any) -> list[bytes]:
    """All weights, buffers, modes and gradients of a network."""
    tensors = [*net.parameters(), *net.buffers()]
    grads = [p.grad for p in net.parameters()]
    return [t.detach().numpy().tobytes() for t in tensors] + [
        repr((grads, [m.training for m in net.modules()])).encode()
    ]


def groups_of(net: Any) -> dict[str, tuple[Tensor, ...]]:
    names = lab_groups.group_names(type(net).__name__.lower(), "si", "batch", (1, 8, 8), 10)
    return lab_groups.group_tensors(net, names)


def seen(net: Any, digits: tuple[Tensor, ...], loss: str = "ce") -> Evaluated:
    x, y, tx, ty = digits
    return Evaluated(net, groups_of(net), get_loss(loss), (x, y), (tx, ty), BATCH)


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_exact_metrics_equal_slow_ones(digits: tuple[Tensor, ...], loss: str) -> None:
    x, y, tx, ty = digits
    net = network()
    groups = groups_of(net)
    before = fingerprint(net)
    rows = evaluate.exact_metrics(seen(net, digits, loss), RATES, step=40, epoch=8)
    assert fingerprint(net) == before  # weights, buffers, modes, gradients
    assert {(r.step, r.epoch) for r in rows} == {(40, 8)}
    found = table(rows)

    tensors = [ts[0] for ts in groups.values()]
    total, wrong, norms, batches = 0.0, 0, [], []
    for part in SLICES:
        of_batch: list[tuple[Tensor, Tensor]] = []
        logits = slow_logits(net, x[part], seen=of_batch)
        batches.append(of_batch)
        value = slow_loss(loss, logits, y[part])
        gradients = torch.autograd.grad(value, tensors)
        norms.append([float(np.linalg.norm(g.numpy())) for g in gradients])
        total += value.item() * len(y[part])
        wrong += int((logits.argmax(1) != y[part]).sum())
    assert found["train", "total", "loss"] == pytest.approx(total / N, rel=1e-12)
    assert found["train", "total", "error"] == wrong / N
    rho = [float(np.linalg.norm(t.detach().numpy())) for t in tensors]
    for i, name in enumerate(groups):
        g = float(np.mean([row[i] for row in norms]))
        elr = 0.7 / rho[i] ** 2
        expected = {"rho": rho[i], "g": g, "eg": g * rho[i], "elr": elr, "ess": elr * g * rho[i]}
        for quantity, value_ in expected.items():
            assert found["train", name, quantity] == pytest.approx(value_, rel=1e-10), (name, quantity)
    # the mean of the norms over the batches, not the norm of the mean gradient
    g = float(np.mean([np.linalg.norm(row) for row in norms]))
    whole = float(np.linalg.norm(rho))
    expected = {"rho": whole, "g": g, "eg": g * whole, "elr": 0.7 / whole**2, "ess": 0.7 / whole * g}
    for quantity, value_ in expected.items():
        assert found["train", "total", quantity] == pytest.approx(value_, rel=1e-10), quantity

    running = [(m.running_mean, m.running_var) for m in net.norms]
    recomputed = [
        (
            torch.stack([b[i][0] for b in batches]).mean(0),
            torch.stack([b[i][1] for b in batches]).mean(0),
        )
        for i in range(4)
    ]
    for suffix, statistics in (("", running), ("_recomputed_bn", recomputed)):
        with torch.no_grad():
            logits = slow_logits(net, tx, statistics)
            assert found["test", "total", f"loss{suffix}"] == pytest.approx(
                slow_loss(loss, logits, ty).item(), rel=1e-10
            )
            assert found["test", "total", f"error{suffix}"] == float((logits.argmax(1) != ty).double().mean())
    assert found["test", "total", "loss"] != pytest.approx(found["test", "total", "loss_recomputed_bn"], rel=1e-3)


def test_the_online_mode_measures_the_test_set_the_same(digits: tuple[Tensor, ...]) -> None:
    net = network()
    before = fingerprint(net)
    at = {"step": 1, "epoch": 1}
    exact = table(evaluate.exact_metrics(seen(net, digits), RATES, **at))
    online = table(evaluate.test_rows(seen(net, digits), recompute_bn=True, **at))
    assert fingerprint(net) == before
    assert set(online) == {("test", "total", q) for q in ("loss", "error", "loss_recomputed_bn", "error_recomputed_bn")}
    for key, value in online.items():
        assert value == pytest.approx(exact[key], rel=1e-12)
    plain = table(evaluate.test_rows(seen(net, digits), recompute_bn=False, **at))
    assert set(plain) == {("test", "total", "loss"), ("test", "total", "error")}


def test_networks_without_running_statistics_have_nothing_to_recompute(digits: tuple[Tensor, ...]) -> None:
    g = torch.Generator().manual_seed(0)
    net = build_model("convnet", classes=10, width=4, norm="group", in_shape=(1, 8, 8), generator=g).double()
    assert not batchnorm.has_bn_statistics(net)
    at = {"step": 1, "epoch": 1}
    for rows in (
        evaluate.exact_metrics(seen(net, digits), RATES, **at),
        evaluate.test_rows(seen(net, digits), recompute_bn=True, **at),
    ):
        assert not [r for r in rows if r.quantity.endswith("recomputed_bn")]


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_every_module_survives(digits: tuple[Tensor, ...], mode: bool) -> None:
    net = network()
    net.train(mode)
    net.norms[1].train(not mode)  # a layer someone has frozen
    before = fingerprint(net)
    at = {"step": 1, "epoch": 1}
    evaluate.exact_metrics(seen(net, digits), RATES, **at)
    evaluate.test_rows(seen(net, digits), recompute_bn=True, **at)
    levels.reference_rows(seen(net, digits), torch.Generator().manual_seed(0), **at)
    assert fingerprint(net) == before


def test_without_test_images_the_test_metrics_are_nan(digits: tuple[Tensor, ...]) -> None:
    _, _, tx, ty = digits
    loss, error = evaluate.test_metrics(network(), tx[:0], ty[:0], get_loss("ce"))
    assert math.isnan(loss)
    assert math.isnan(error)


def test_a_network_that_left_the_numbers_is_a_result(digits: tuple[Tensor, ...]) -> None:
    net = network()
    with torch.no_grad():
        net.convs[2].weight[0] = math.nan
    rows = evaluate.exact_metrics(seen(net, digits), RATES, step=0, epoch=0)
    assert math.isnan(table(rows)["train", "total", "loss"])


# -- the level of random directions ------------------------------------------------------------------------------------


def reference(net: Any, digits: tuple[Tensor, ...], seed: int, step: int = 0) -> list[Row]:
    return levels.reference_rows(seen(net, digits), torch.Generator().manual_seed(seed), step=step, epoch=step)


def test_random_directions_equal_slow_ones(digits: tuple[Tensor, ...]) -> None:
    x, y = digits[:2]
    net = network()
    before = fingerprint(net)
    rows = reference(net, digits, seed=11)
    assert fingerprint(net) == before
    found = table(rows)
    assert {r.split for r in rows} == {"reference"}
    assert len(found) == 2 * levels.REFERENCE_DIRECTIONS
    generator = torch.Generator().manual_seed(11)
    radius = math.sqrt(sum(float(c.weight.detach().square().sum()) for c in net.convs))
    twin = network()
    for k in range(levels.REFERENCE_DIRECTIONS):
        point = [torch.randn(c.weight.shape, generator=generator, dtype=torch.float64) for c in twin.convs]
        size = math.sqrt(sum(float(p.square().sum()) for p in point))
        with torch.no_grad():
            for conv, p in zip(twin.convs, point):
                conv.weight.copy_(p * (radius / size))
            total, wrong = 0.0, 0
            for part in SLICES:
                logits = slow_logits(twin, x[part])
                total += slow_loss("ce", logits, y[part]).item() * len(y[part])
                wrong += int((logits.argmax(1) != y[part]).sum())
        assert found["reference", f"direction-{k}", "loss"] == pytest.approx(total / N, rel=1e-10)
        assert found["reference", f"direction-{k}", "error"] == wrong / N


def test_random_directions_at_the_present_norms_keep_the_norm_of_every_row(
    digits: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = network()
    with torch.no_grad():
        net.convs[1].weight[2] *= 1e-6  # a row that eps silences
    rows_before = [c.weight.detach().flatten(1).norm(dim=1) for c in net.convs]
    visited: list[list[Tensor]] = []
    forward: Callable[[Tensor], Tensor] = net.forward

    def watch(x: Tensor) -> Tensor:
        visited.append([c.weight.detach().clone() for c in net.convs])
        return forward(x)

    monkeypatch.setattr(net, "forward", watch)
    before = fingerprint(net)
    rows = reference(net, digits, seed=3, step=5)
    assert fingerprint(net) == before
    assert {(r.split, r.step, r.epoch) for r in rows} == {("reference_present", 5, 5)}
    assert len(visited) == len(SLICES) * levels.REFERENCE_DIRECTIONS
    for weights in visited:
        for w, expected in zip(weights, rows_before):
            np.testing.assert_allclose(w.flatten(1).norm(dim=1), expected, rtol=1e-12)
    assert not torch.equal(visited[0][0], visited[-1][0])


def test_the_limit_of_an_infinite_elr_is_where_the_sphere_leads(digits: tuple[Tensor, ...]) -> None:
    """Against SGD on a sphere with an ELR so large that nothing of the weights before a step is left."""
    x, y = digits[:2]
    net = network()
    before = fingerprint(net)
    draw = torch.Generator().manual_seed
    rows = levels.limit_rows(seen(net, digits), draw(4))
    assert fingerprint(net) == before
    found = table(rows)
    assert {(r.split, r.step, r.epoch) for r in rows} == {("reference_limit", 0, 0)}
    assert len(found) == 2 * levels.REFERENCE_DIRECTIONS
    twin, generator = network(), draw(4)
    weights = [c.weight for c in twin.convs]
    radius = math.sqrt(sum(float(w.detach().square().sum()) for w in weights))
    for k in range(levels.REFERENCE_DIRECTIONS):
        with torch.no_grad():
            for w, p in zip(weights, geometry.random_direction(weights, generator, radius)):
                w.copy_(p)
        sphere = Sphere(torch.optim.SGD(weights, lr=1.0), weights, elr=1e13)
        for j in range(levels.LIMIT_STEPS):
            part = SLICES[(k * levels.LIMIT_STEPS + j) % len(SLICES)]
            sphere.zero_grad()
            slow_loss("ce", slow_logits(twin, x[part]), y[part]).backward()
            sphere.step()
        total = 0.0
        with torch.no_grad():
            for part in SLICES:
                total += slow_loss("ce", slow_logits(twin, x[part]), y[part]).item() * len(y[part])
        assert found["reference_limit", f"direction-{k}", "loss"] == pytest.approx(total / N, rel=1e-3)


def test_the_level_depends_on_the_seed_and_on_nothing_else(digits: tuple[Tensor, ...]) -> None:
    net = network()
    a, b, c = (reference(net, digits, seed=s) for s in (1, 1, 2))
    assert a == b
    assert a != c


def test_the_weights_come_back_even_if_the_loss_fails(digits: tuple[Tensor, ...]) -> None:
    net = network()
    before = fingerprint(net)

    def broken(logits: Tensor, labels: Tensor) -> Tensor:
        raise RuntimeError("no loss today")

    with pytest.raises(RuntimeError, match="no loss today"):
        levels.reference_rows(replace(seen(net, digits), loss=broken), torch.Generator().manual_seed(0))
    assert fingerprint(net) == before


def test_at_most_so_many_images_judge_a_direction(digits: tuple[Tensor, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    net = network()
    monkeypatch.setattr(levels, "REFERENCE_IMAGES", 70)
    some = reference(net, digits, seed=4)
    cut = (*(t[:70] for t in digits[:2]), *digits[2:])
    assert some == reference(net, cut, seed=4)
    assert table(some)["reference", "direction-0", "error"] * 70 == pytest.approx(
        round(table(some)["reference", "direction-0", "error"] * 70)
    )


def test_the_limit_of_large_elrs_is_near_the_level_of_random_directions_but_not_at_it() -> None:
    """A huge step leads to minus a gradient. Its loss against that of random directions: the margin of regime 3."""
    data = load_dataset("digits")
    x, y = data.train_images, data.train_labels
    ratios, significant = [], []
    for head in range(2, 6):
        net: Any = build_model(
            "convnet",
            classes=10,
            width=8,
            in_shape=(1, 8, 8),
            generator=torch.Generator().manual_seed(0),
            head_generator=torch.Generator().manual_seed(head),
        )
        weights = [conv.weight for conv in net.convs]
        generator = torch.Generator().manual_seed(1)
        levels: list[list[float]] = [[], []]
        for _ in range(40):
            parts = torch.randperm(len(y), generator=generator)[:160].split(16)
            point = [torch.randn(w.shape, generator=generator) for w in weights]
            for found in levels:
                with torch.no_grad():
                    size = math.sqrt(sum(float(p.square().sum()) for p in point))
                    for w, p in zip(weights, point):
                        w.copy_(10 * p / size)
                    found.append(float(np.mean([functional.cross_entropy(net(x[i]), y[i]).item() for i in parts[1:]])))
                objective = functional.cross_entropy(net(x[parts[0]]), y[parts[0]])
                point = [-g for g in torch.autograd.grad(objective, weights)]
        random, limit = (np.array(found) for found in levels)
        ratios.append(limit.mean() / random.mean())
        difference = limit - random
        significant.append(difference.mean() < -3 * difference.std() / math.sqrt(len(difference)))
    assert 0.85 < min(ratios) < max(ratios) < 1.1, ratios
    assert any(significant), ratios


@pytest.mark.parametrize("model", ["convnet", "mlp"])
@pytest.mark.parametrize("count", [360, 777])
def test_the_test_set_in_small_parts_gives_the_same_bits(model: str, count: int) -> None:
    images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(10, (count,), generator=torch.Generator().manual_seed(2))
    net = build_model(model, classes=10, in_shape=(1, 8, 8), width=8, generator=torch.Generator().manual_seed(0))
    loss = get_loss("ce")
    found = evaluate.test_metrics(net, images, labels, loss)
    net.eval()
    total, wrong = 0.0, 0
    with torch.no_grad():
        for start in range(0, count, evaluate.TEST_BATCH):
            x, y = images[start : start + evaluate.TEST_BATCH], labels[start : start + evaluate.TEST_BATCH]
            logits = net(x)
            total += float(loss(logits, y).double() * len(y))
            wrong += int((logits.argmax(1) != y).sum())
    assert found == (total / count, wrong / count)


def test_only_a_run_that_guesses_is_compared_with_random_directions_again(tmp_path: Path) -> None:
    settings = Settings(model="mlp", width=8, subset=64, batch_size=16, epochs=6, evaluation="online", eval_every=1)
    epochs, limits = {}, {}
    for elr in (1e-2, 1e4):
        run = load_run(obtain(tmp_path, settings, elr=elr))
        assert run.reference().size == levels.REFERENCE_DIRECTIONS
        epochs[elr] = run.series("reference_present", "direction-0", "loss")[0].tolist()
        limits[elr] = run.series("reference_limit", "direction-7", "loss")[0].tolist()
        errors = run.series("online", "total", "error")[1]
        assert errors[-1] < 0.6 if elr == 1e-2 else errors[-1] > 0.8, errors
    assert epochs == {1e-2: [], 1e4: [4, 5, 6]}
    assert limits == {1e-2: [], 1e4: [6]}
