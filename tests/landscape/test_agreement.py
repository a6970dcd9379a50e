"""Agreement of minima against counts by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.landscape.nets import fingerprint, surface, turned

from scaleinv.errors import UserError
from scaleinv.landscape.agreement import agreement, predictions

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("average", ["softmax", "output"])
def test_agreement_equals_counting(average: str) -> None:
    s = surface("convnet", images=48)
    points = [s.weights(), turned(s.weights(), s.names, 0.4, 1), turned(s.weights(), s.names, 1.0, 2)]
    before = fingerprint(s.model)
    found = agreement(s, points, average=average)
    assert fingerprint(s.model) == before
    outputs = [predictions(s, p).numpy() for p in points]
    labels = s.test[1].numpy()
    assert found.images == 100
    assert found.pairs == [(0, 1), (0, 2), (1, 2)]
    for i in range(3):
        assert found.error[i] == np.mean(outputs[i].argmax(1) != labels)
        assert found.equal[i, i] == 1.0
        assert found.angle[i, i] == 0.0
        assert found.ensemble[i, i] == found.error[i]
    for i, j in found.pairs:
        same, wrong, gains = 0, 0, []
        for a, b, y in zip(outputs[i], outputs[j], labels):
            same += a.argmax() == b.argmax()
            if average == "softmax":
                together = np.exp(a) / np.exp(a).sum() + np.exp(b) / np.exp(b).sum()
            else:
                together = a + b
            wrong += together.argmax() != y
            gains.append(((a.argmax() != y) + 0.0 + (b.argmax() != y)) / 2 - (together.argmax() != y))
        assert found.equal[i, j] == found.equal[j, i] == same / 100
        assert found.ensemble[i, j] == wrong / 100
        assert found.gain[i, j] == pytest.approx((found.error[i] + found.error[j]) / 2 - wrong / 100)
        assert found.gain_error[i, j] == pytest.approx(np.std(gains, ddof=1) / 10, rel=1e-9)
        flat = [np.concatenate([p[n].numpy().ravel() for n in s.names]) for p in (points[i], points[j])]
        cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
        assert found.angle[i, j] == pytest.approx(math.acos(cosine), rel=1e-9)


def test_a_minimum_agrees_with_itself_at_another_norm() -> None:
    s = surface("mlp", images=48)
    here = s.weights()
    found = agreement(s, [here, s.on_sphere(here, 2 * s.radius(here))])
    assert found.equal[0, 1] == 1.0
    assert found.gain[0, 1] == 0.0
    assert found.angle[0, 1] < 1e-12


def test_predictions_without_recomputing() -> None:
    s = surface("convnet", images=48)
    s.model.eval()
    with torch.no_grad():
        expected = s.model(s.test[0])
    torch.testing.assert_close(predictions(s, s.weights(), recompute_bn=False), expected)
    assert not torch.allclose(predictions(s, s.weights()), expected)


def test_refusals() -> None:
    s = surface("mlp", images=16)
    with pytest.raises(UserError, match="two points"):
        agreement(s, [s.weights()])
    with pytest.raises(UserError, match="choose one of"):
        agreement(s, [s.weights()] * 2, average="vote")
    bare = replace(s, test=(s.test[0][:0], s.test[1][:0]))
    with pytest.raises(UserError, match="test images"):
        agreement(bare, [s.weights()] * 2)
