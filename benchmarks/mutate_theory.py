# ruff: noqa: E501 - one mutation a line
"""Are the formulas guarded? Change one constant at a time in a copy of the package; list the tests and claims that notice.

    python benchmarks/mutate_theory.py [--only WORD]

Exit code 1 if one goes unnoticed. Claims that cost more than 10 core-seconds run only for the files they are about.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHEAP = "identities,jumps-of-the-recursion,toy-one-sample,toy-one-group,toy-many-groups,jump-frequency,edge-of-stability-toy"
CHEAP += ",angle-after-lr-drop,neutral-centre,phi-dynamics,jump-size,jump-times-of-the-recursion,toy-convergence"
CHEAP += ",norm-interval-of-the-recursion,toy-periods"

#: file, text that occurs once, what it becomes
MUTATIONS = [
    ("lobacheva2021", "(1 - lr * wd) ** 2 * rho_sq + (lr * eg) ** 2 / rho_sq", "(1 - lr * wd) ** 2 * rho_sq + lr * eg**2 / rho_sq"),
    ("lobacheva2021", "return np.sqrt(delta * (2 - delta)) / (1 - delta)", "return np.sqrt(delta * (2 + delta)) / (1 - delta)"),
    ("lobacheva2021", "return np.maximum(np.log(ratio), 0.0) / (4 * lr * wd)", "return np.maximum(np.log(ratio), 0.0) / (2 * lr * wd)"),
    ("lobacheva2021", "ratio = (rho0_sq - rest) / (lr * low / np.sqrt(2 * delta) - rest)", "ratio = (rho0_sq + rest) / (lr * low / np.sqrt(2 * delta) - rest)"),
    ("lobacheva2021", "scale = np.sqrt(lr / (2 * wd) / (1 - lr * wd / 2))\n    worst", "scale = np.sqrt(lr / (2 * wd) / (1 - lr * wd))\n    worst"),
    ("lobacheva2021", "worst = kept * low + (1 - kept) * high**2 / low", "worst = kept * low + (1 - kept) * high**2 / low / 2"),
    ("kodryan2022", "return elrs * (1 + total_sq[..., None]) / (1 + esses**2)", "return elrs * (1 + total_sq[..., None]) / (1 + 2 * esses**2)"),
    ("kodryan2022", "return np.maximum(alpha - 1 / elr, 0.0) / 2", "return np.maximum(alpha - 1 / elr, 0.0) / 2.02"),
    ("kodryan2022", "return -1 + 2 / (elr * alpha) ** 2", "return -1 + 2 / (elr * alpha)"),
    ("kodryan2022", "-2 * (k**2 - 1) / k**4", "-2 * (k**2 - 1) / k**2"),
    ("wan2020", "(2 - lr * wd / (1 + momentum))", "(2 - lr * wd)"),
    ("wan2020", "1.0, new, wd)", "1.0, lr, wd)"),
    ("lobacheva2021", "np.exp(-4 * lr * wd * steps)", "np.exp(-2 * lr * wd * steps)"),
    ("kosson2024", "lr * update * np.sqrt((1 + al * beta1)", "lr * update * np.sqrt((1 - al * beta1)"),
    ("kosson2024", "first = beta1 * (1 - beta2) * ((1 - beta1) + beta1 * beta2 / (1 + beta2))", "first = beta1 * (1 - beta2) * ((1 - beta1) + beta1 * beta2)"),
    ("kosson2024", "return np.sqrt(np.pi / 2) * np.sqrt(2 * lr * wd)", "return np.sqrt(2 * lr * wd)"),
    ("sadrtdinov2025", "return (lr * ((dimension - 1) * noise**2 + gradient_sq) / (2 * wd)) ** 0.25", "return (lr * ((dimension - 1) * noise**2 + gradient_sq) / wd) ** 0.25"),
    ("sadrtdinov2025", "UNDERPARAMETERISED_MINIMUM = 1.0 / 26.0", "UNDERPARAMETERISED_MINIMUM = 1.0 / 25.0"),
    ("amin2026", "return factor * phi / (1 + (phi * eg) ** 2)", "return factor * phi / (1 + phi * eg**2)"),
    ("amin2026", "np.sqrt(2 * (1 + keep)) / keep", "np.sqrt(2 * (1 + keep)) * keep"),
    ("lyu2022", "return 2 / sharpness", "return 1 / sharpness"),
    ("lyu2022", "return 1 - elr * sharpness", "return 1 - 2 * elr * sharpness"),
]  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="mutations whose file or text holds this word")
    only = parser.parse_args().only
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, old, new in MUTATIONS:
            if only not in name + old:
                continue
            copy = Path(folder) / "copy"
            shutil.rmtree(copy, ignore_errors=True)
            for part in ("src", "tests/theory", "pyproject.toml"):
                source, target = ROOT / part, copy / part
                if source.is_dir():
                    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(source, target)
            path = copy / "src/scaleinv/theory" / f"{name}.py"
            text = path.read_text()
            if text.count(old) != 1:
                print(f"{name}: {old!r} occurs {text.count(old)} times; mend the list")
                return 2
            path.write_text(text.replace(old, new))
            tests, claims = failing_tests(copy), failing_claims(copy, name)
            missed += not (tests or claims)
            changed = next(b for a, b in zip(old.splitlines(), new.splitlines()) if a != b) if '"' not in new else new
            print(f"{name}: {changed.splitlines()[-1].strip()}")
            print(f"    tests:  {', '.join(tests) or 'none'}")
            print(f"    claims: {', '.join(claims) or 'none'}", flush=True)
    print("every mutation was caught" if not missed else f"{missed} mutations were NOT caught")
    return 1 if missed else 0


def environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def failing_tests(copy: Path) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", "tests/theory"]
    command += ["--ignore", "tests/theory/test_toy_simulator.py"]  # slow
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True, check=False)
    found = re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", done.stdout, re.MULTILINE)
    if done.returncode and not found:
        found = ["collection"]
    return list(dict.fromkeys(found))


def failing_claims(copy: Path, name: str) -> list[str]:
    extra = {
        "wan2020": ",rotation-at-equilibrium",
        "kosson2024": ",rotation-at-equilibrium",
        "sadrtdinov2025": ",ideal-gas",
    }.get(name, "")
    command = [
        sys.executable,
        "-m",
        "scaleinv",
        "verify",
        "--scale",
        "toy",
        "--only",
        CHEAP + extra,
        "--quiet",
        "--json",
    ]
    done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, text=True, check=False)
    return [claim["id"] for claim in json.loads(done.stdout)["claims"] if claim["verdict"] == "fails"]


if __name__ == "__main__":
    sys.exit(main())
