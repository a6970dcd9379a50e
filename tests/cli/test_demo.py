"""``scaleinv demo``: regimes as theory has them, the doctor's table, nothing but the core and [cli] needed."""

import json
import subprocess
import sys

import pytest

from scaleinv.cli import run


def test_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    one, two, three = answer["toy"]
    assert [row["regime"] for row in answer["toy"]] == [1, 2, 3]
    assert one["level"] < 1e-6
    assert two["level"] == pytest.approx(two["theory"], rel=0.05)
    assert three["level"] == pytest.approx(three["theory"], rel=0.1)
    assert one["cosine"] > 0.99 > two["cosine"] > 0.5 > 0.1 > three["cosine"]


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo"]) == 0
    said = capsys.readouterr().out
    for words in ("1 convergence", "2 chaotic equilibrium", "3 divergence", "0.weight", "dead", "What next"):
        assert words in said
    assert "▁" in said or "." in said


ALONE = """
import sys
for name in ("matplotlib", "pyarrow", "scipy", "sklearn", "jinja2", "safetensors", "pandas", "numba"):
    sys.modules[name] = None  # importing it raises
from scaleinv.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("command", ["demo", "doctor tests/project/net.py:make --input 8,3,16,16"])
def test_core_and_cli_are_enough(command: str) -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, *command.split()], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scale-invariant" in done.stdout


def test_a_name_that_needs_more_than_the_core_says_what_to_install() -> None:
    code = "import sys; sys.modules['pyarrow'] = None; import scaleinv; scaleinv.Monitor; scaleinv.sweep"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    told = "scaleinv.sweep needs pyarrow, which is missing: pip install pyarrow (or, in a clone, all of its kind:"
    assert done.stderr.splitlines()[-1].startswith(f"scaleinv.errors.UserError: {told}")
