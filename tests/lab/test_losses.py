"""The losses against numpy, and their normalisation as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.losses import LOSSES, get_loss
from scaleinv.lab.own_losses import NAMED
from scaleinv.theory.guessing import CONSTANT_LOSS, chance_error, constant_loss

pytestmark = pytest.mark.numerics


def sample(n: int = 7, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return 3 * torch.randn(n, classes, generator=g, dtype=torch.float64), torch.randint(classes, (n,), generator=g)


def test_cross_entropy() -> None:
    logits, labels = sample()
    o = logits.numpy()
    expected = np.mean([math.log(np.exp(row).sum()) - row[y] for row, y in zip(o, labels.tolist())])
    assert float(get_loss("ce")(logits, labels)) == pytest.approx(expected, rel=1e-14)


def test_the_squared_loss_is_a_mean_over_images_and_classes() -> None:
    logits, labels = sample()
    o, n, c = logits.numpy(), *logits.shape
    one_hot = np.eye(c)[labels.numpy()]
    assert float(get_loss("mse")(logits, labels)) == pytest.approx(((o - one_hot) ** 2).sum() / n / c, rel=1e-14)
    closed = np.mean([(row @ row - 2 * row[y] + 1) / c for row, y in zip(o, labels.tolist())])  # Nakhodnov et al. 2022
    assert float(get_loss("mse")(logits, labels)) == pytest.approx(closed, rel=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_float32_logits_are_float32_scalars(name: str) -> None:
    logits, labels = sample()
    value = get_loss(name)(logits.float(), labels)
    assert value.dtype == torch.float32
    assert value.shape == ()


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_chance_is_the_best_constant_answer(name: str, classes: int) -> None:
    labels = torch.arange(classes).repeat(3)  # every class as often
    answer = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    constant = torch.full((classes,), 1 / classes if name == "mse" else 0.0, dtype=torch.float64)
    with torch.no_grad():
        answer += constant
    value = get_loss(name)(answer.expand(len(labels), classes), labels)
    value.backward()
    assert value.item() == pytest.approx(constant_loss(name, classes), rel=1e-12)
    assert answer.grad is not None
    assert (
        float(answer.grad.abs().max()) < 1e-14
    )  # both losses are convex in the answer: a zero gradient is the minimum


def test_unknown_losses_are_refused() -> None:
    with pytest.raises(UserError, match="unknown loss 'hinge'; choose ce"):
        get_loss("hinge")
    for name in set(NAMED) - set(LOSSES):
        with pytest.raises(UserError, match="is for data of your own"):
            get_loss(name)


@pytest.mark.parametrize("name", list(LOSSES))
def test_the_level_of_unequal_classes_is_the_best_constant_answer(name: str) -> None:
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([14, 3, 2, 1]))
    shares = tuple(n / 20 for n in (14, 3, 2, 1))
    best = torch.tensor(shares, dtype=torch.float64)
    answer = (best.log() if name == "ce" else best).requires_grad_()
    value = get_loss(name)(answer.expand(20, 4), labels)
    value.backward()
    assert answer.grad is not None
    assert float(answer.grad.abs().max()) < 1e-15  # no constant answer is better: both losses are convex
    assert value.item() == pytest.approx(constant_loss(name, 4, shares), rel=1e-12)
    equal = (0.25, 0.25, 0.25, 0.25)
    assert constant_loss(name, 4, equal) == pytest.approx(constant_loss(name, 4), rel=1e-14)
    assert chance_error(4, shares) == pytest.approx(float((labels != 0).double().mean()))


def test_every_loss_of_the_lab_has_its_level() -> None:
    assert CONSTANT_LOSS.keys() == LOSSES.keys()
    assert constant_loss("hinge", 4) is None
