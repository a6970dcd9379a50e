"""Values at a point against slow ones, and that nothing of the network changes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.landscape.nets import fingerprint, surface, turned
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.landscape.surface import Surface, Values, values

pytestmark = pytest.mark.numerics

SLICES = [slice(0, 16), slice(16, 32), slice(32, 49)]


def slow_values(s: Surface, state: dict[str, Tensor]) -> Values:
    """The mlp by hand: its own batch norm, the mean of the batch statistics for the test pass."""
    net: Any = s.model
    head, bias = state["head.weight"], state.get("head.bias")
    layers = [state[n] for n in s.names]

    def forward(
        x: Tensor, statistics: list[tuple[Tensor, Tensor]] | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        hidden, seen = x.flatten(1), []
        for i, w in enumerate(layers):
            hidden = hidden @ w.T
            seen.append((hidden.mean(0), hidden.var(0, unbiased=True)))
            mean, var = (hidden.mean(0), hidden.var(0, unbiased=False)) if statistics is None else statistics[i]
            hidden = torch.relu((hidden - mean) / var.sqrt())
        logits = hidden @ head.T
        return (logits if bias is None else logits + bias), seen

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        return -torch.log_softmax(logits, 1)[torch.arange(len(y)), y]

    assert not net.norms[0].affine
    x, y = s.train
    seen, total, wrong = [], 0.0, 0
    for cut in SLICES:
        logits, statistics = forward(x[cut], None)
        seen.append(statistics)
        total += float(loss(logits, y[cut]).sum())
        wrong += int((logits.argmax(1) != y[cut]).sum())
    mean = [tuple(torch.stack([b[i][k] for b in seen]).mean(0) for k in (0, 1)) for i in range(len(layers))]
    logits, _ = forward(s.test[0], mean)  # type: ignore[arg-type]
    y = s.test[1]
    return Values(total / 49, wrong / 49, float(loss(logits, y).mean()), float((logits.argmax(1) != y).double().mean()))


def close(a: Values, b: Values) -> bool:
    return [a.train_loss, a.train_error, a.test_loss, a.test_error] == pytest.approx(
        [b.train_loss, b.train_error, b.test_loss, b.test_error], rel=1e-9
    )


def test_values_equal_slow_ones() -> None:
    s = surface("mlp", images=49)
    for seed in range(2):
        state = turned(s.weights(), s.names, 0.5, seed)
        before = fingerprint(s.model)
        assert close(values(s, state), slow_values(s, state))
        assert fingerprint(s.model) == before


def test_running_statistics_on_request() -> None:
    s = surface("convnet", images=49)
    found = values(s, recompute_bn=False)
    s.model.eval()
    with torch.no_grad():
        logits = s.model(s.test[0])
    assert found.test_loss == pytest.approx(float(s.loss(logits, s.test[1])), rel=1e-12)
    assert found.test_loss != pytest.approx(values(s).test_loss, rel=1e-3)
    assert found.train_loss == values(s).train_loss


@pytest.mark.parametrize("model", ["mlp", "convnet", "resnet18"])
def test_restored_whatever_happens(model: str) -> None:
    s = surface(model, images=32, norm_eps=1e-5, dtype=torch.float32)
    s.model.eval()
    s.tensors[0].requires_grad_(False)
    before = fingerprint(s.model)
    state = turned(s.weights(), s.names, 0.2, 1)
    with s.at(state):
        assert torch.equal(s.model.state_dict()[s.names[0]], state[s.names[0]])
        assert s.model.training
        assert all(t.requires_grad for t in s.tensors)
        s.model(s.train[0][:8])  # moves the running statistics
    with pytest.raises(ZeroDivisionError), s.at(state):
        1 / 0  # noqa: B018
    assert fingerprint(s.model) == before


def test_names_and_sphere() -> None:
    s = surface("convnet")
    assert s.names == [f"convs.{i}.weight" for i in range(4)]
    state = s.weights()
    moved = s.on_sphere(state, 2.5)
    assert s.radius(moved) == pytest.approx(2.5, rel=1e-14)
    assert all(moved[n] is state[n] for n in state if n not in s.names)
    assert s.radius(state) == pytest.approx(
        float(np.sqrt(sum(float((t.detach() ** 2).sum()) for t in s.tensors))), rel=1e-14
    )


def test_batches() -> None:
    assert surface(images=49).batches() == SLICES
    assert surface(images=49).batches(20) == [slice(0, 16), slice(16, 20)]
    assert surface(images=49, batch_size=None).batches() == [slice(0, 49)]
    with pytest.raises(UserError, match="at least 2"):
        surface().batches(1)


def test_no_test_images() -> None:
    s = surface("mlp")
    bare = Surface(s.model, s.groups, s.loss, s.train, (s.test[0][:0], s.test[1][:0]), 16)
    assert math.isnan(values(bare).test_loss)
    assert math.isfinite(values(bare).train_loss)
