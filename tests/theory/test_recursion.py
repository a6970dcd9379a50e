"""The scalar recursion and its laws of the gradient."""

import numpy as np
import pytest

from scaleinv.errors import UserError
from scaleinv.theory.simulators import recursion


def test_against_two_lines_of_arithmetic():
    path, eg = recursion.run([1.0, 4.0], 0.5, 0.2, recursion.uniform(1.0, 2.0, 3), 3, keep_eg=True)
    y = 4.0
    for t in range(3):
        y = 0.81 * y + 0.25 * eg[t, 1] ** 2 / y
        assert path[t + 1, 1] == pytest.approx(y, rel=1e-14)
    assert path.shape == (4, 2)
    assert eg.shape == (3, 2)
    assert eg.min() >= 1
    assert eg.max() <= 2


def test_laws():
    y = np.array([1.0, 3.0])
    assert recursion.constant(2.0)(0, y).tolist() == [2, 2]
    assert recursion.adversary(1.0, 5.0, 2.0)(0, y).tolist() == [5, 1]
    assert set(recursion.either(1.0, 5.0, 0)(0, np.ones(100)).tolist()) == {1.0, 5.0}
    assert recursion.given([[1.0, 2.0], [3.0, 4.0]])(1, y).tolist() == [3, 4]


def test_first_below():
    path = np.array([[3.0, 3.0], [2.0, 3.0], [1.0, 3.0]])
    assert recursion.first_below(path, 2.5)[0] == 1
    assert np.isnan(recursion.first_below(path, 2.5)[1])


@pytest.mark.parametrize("bad", [{"rho0_sq": 0.0}, {"lr": -1.0}, {"wd": -0.1}, {"lr": 20.0}, {"steps": 0}])
def test_refusals(bad):
    call = {"rho0_sq": 1.0, "lr": 0.1, "wd": 0.1, "steps": 3, **bad}
    with pytest.raises(UserError):
        recursion.run(call["rho0_sq"], call["lr"], call["wd"], recursion.constant(1.0), call["steps"])
