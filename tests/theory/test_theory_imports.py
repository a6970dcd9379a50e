"""Formulas, the list of claims and the list of figures load neither torch nor matplotlib nor numba."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "statement",
    [
        "import scaleinv.theory.simulators.toy, scaleinv.theory.simulators.random_gradients",
        "from scaleinv.papers.shelf import claims; claims()",
        "from scaleinv.papers.shelf import figures; figures()",
    ],
)
def test_light(statement):
    code = f"{statement}\nimport sys; print([m for m in ('torch', 'matplotlib', 'numba', 'rich') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
