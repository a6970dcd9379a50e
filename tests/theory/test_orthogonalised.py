"""Muon's update: what the polar factor of an average keeps of it, and where that comes to rest."""

import numpy as np
import pytest

from scaleinv.theory import orthogonalised

RUNS = 100


def polar(matrix: np.ndarray) -> np.ndarray:
    u, _, v = np.linalg.svd(matrix, full_matrices=False)
    return u @ v


@pytest.mark.parametrize("shape", [(24, 24), (12, 48), (48, 12)], ids=str)
@pytest.mark.parametrize("c", [0.3, 0.7, 0.95])
def test_correlation_of_polar_factors(shape: tuple[int, int], c: float) -> None:
    draw = np.random.default_rng(0)
    seen = []
    for _ in range(RUNS):
        a, b = draw.standard_normal((2, *shape))
        seen.append(float(np.sum(polar(a) * polar(c * a + np.sqrt(1 - c * c) * b))) / min(shape))
    h = orthogonalised.kept_share(*shape)
    # the part beyond the first order is taken as a fifth power
    assert np.mean(seen) == pytest.approx(h * c + (1 - h) * c**5, abs=0.01 if c < 0.9 else 0.05)
    assert np.mean(seen) < c


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("b", [0.5, 0.95])
def test_correlation_of_the_blend(b: float, nesterov: bool) -> None:
    terms = (1 - b) * b ** np.arange(4000.0)
    weights = b * terms if nesterov else terms
    weights[0] += (1 - b) * nesterov
    for lag in (1, 2, 7):
        seen = float(weights[:-lag] @ weights[lag:] / (weights @ weights))
        assert seen == pytest.approx(orthogonalised.blend(b, nesterov) * b**lag, rel=1e-9)


def test_angle_and_norm_are_of_one_motion() -> None:
    """A step of length lr U, less what decay takes, turns a weight of that norm by that angle."""
    lr, wd, b, kept, update = 0.01, 0.1, 0.9, 0.7205, 3.0
    turn = orthogonalised.angle(lr, wd, b, 1.0, kept)
    norm = orthogonalised.norm(lr, wd, b, 1.0, kept, update)
    assert norm * turn == pytest.approx(lr * update, rel=0.01)
